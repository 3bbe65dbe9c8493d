// Move the address: sixteen sliders, one image.
const pick = n => Math.floor(Math.random()*n);

function start(m) {
  const [C, h, w] = m.shape, n = h*w, most = Math.ceil(m.coefs.reduce((t, v) => Math.max(t, Math.abs(v)), 0));
  let here = 0, address = [];

  const draw = () => paint($('image'), recall(m, address), w*m.scale, h*m.scale);
  const write = k => rows[k].said.textContent = address[k].toFixed(2);
  const say = text => { $('says').textContent = text; $('image').setAttribute('aria-label', `the recalled image: ${text}`); };
  const rows = Array.from({length: m.K}, (_, k) => {
    const still = element('canvas', {ariaHidden: true}), said = element('output', {ariaHidden: true});
    const bar = element('input', {type: 'range', min: -most, max: most, step: 'any', ariaLabel: `coefficient of basis ${k}`});
    paint(still, Array.from({length: C}, (_, c) => m.bases.subarray((k*C + c)*n, (k*C + c + 1)*n).map(v => 1e3*v)), w, h);
    bar.oninput = () => { address[k] = +bar.value; write(k); draw(); say(`moved from ${m.classes[here]}`); };
    $('sliders').append(element('label', {}, still, bar, said));
    return {bar, said};
  });

  function show(next, text) {
    address = next;
    rows.forEach((row, k) => { row.bar.value = address[k]; write(k); });
    draw(); say(text);
  }
  const own = c => Array.from(stored(m, $('which').value - 1, c));
  function one() {
    $('classes').childNodes.forEach((b, c) => b.ariaPressed = c === here);
    show(own(here), `${m.classes[here]}, image ${$('which').value} of ${m.r}`);
  }
  m.classes.forEach((name, c) => {
    $('classes').append(element('button', {textContent: name, onclick: () => { here = c; one(); }}));
    $('other').append(new Option(name, c));
  });
  $('which').max = m.r; $('which').oninput = one; $('reset').onclick = one;
  $('average').onclick = $('other').onchange = () => {
    const c = +$('other').value, second = own(c);
    show(own(here).map((v, k) => (v + second[k])/2), `between ${m.classes[here]} and ${m.classes[c]}`);
  };
  // each coefficient from an image of its own, so that its size is one that occurs
  $('random').onclick = () => show(address.map((_, k) => stored(m, pick(m.r), pick(m.classes.length))[k]), 'a random address');
  addEventListener('keydown', e => {
    const c = m.classes.indexOf(e.key);
    if (c >= 0 && e.target.tagName !== 'SELECT' && !e.ctrlKey && !e.altKey && !e.metaKey) { here = c; one(); }
  });
  $('other').value = 1; one();
}

readMemory('mnist.json').then(start)
  .catch(() => { $('says').textContent = 'The memory could not be read. Open this page from a web server, not as a file.'; });
