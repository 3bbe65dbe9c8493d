// Recall in the browser. The numbers are those of `page_memory` (nbs/show/live.ipynb): un-whitened bases, the mean, the coefficients.
const $ = id => document.getElementById(id);
const floats = text => new Float32Array(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
const pick = n => Math.floor(Math.random()*n);

// bilinear, corners not aligned, as PyTorch's interpolate: the two neighbours of an enlarged pixel, and the weight of the second
function neighbours(i, n, scale) {
  const p = Math.max(0, (i + .5)/scale - .5), low = Math.floor(p);
  return [low, Math.min(low + 1, n - 1), p - low];
}

function enlarge(x, h, w, scale) {
  const out = new Float64Array(h*w*scale*scale);
  for (let i = 0, at = 0; i < h*scale; i++) {
    const [a, b, u] = neighbours(i, h, scale);
    for (let j = 0; j < w*scale; j++, at++) {
      const [c, d, v] = neighbours(j, w, scale);
      out[at] = (1 - u)*((1 - v)*x[a*w + c] + v*x[a*w + d]) + u*((1 - v)*x[b*w + c] + v*x[b*w + d]);
    }
  }
  return out;
}

// Eq. 2: K coefficients -> one Float64Array a channel. Mixing comes first, since enlarging is linear; the mean is added once.
function recall(m, address) {
  const [C, h, w] = m.shape, n = h*w;
  return Array.from({length: C}, (_, c) => {
    const x = new Float64Array(n);
    for (let k = 0; k < m.K; k++) for (let i = 0; i < n; i++) x[i] += address[k]*m.bases[(k*C + c)*n + i];
    return enlarge(x, h, w, m.scale).map(v => v + m.mean[c]);
  });
}

// to_pixels: an image that leaves 0 to 1 is stretched to fill it
function paint(canvas, channels, height, width) {
  let low = Infinity, high = -Infinity;
  for (const x of channels) for (const v of x) { low = Math.min(low, v); high = Math.max(high, v); }
  const inside = low >= -1e-3 && high <= 1 + 1e-3, from = inside ? 0 : low, by = inside ? 1 : Math.max(high - low, 1e-12);
  Object.assign(canvas, {width, height});
  const picture = new ImageData(width, height);
  for (let i = 0; i < width*height; i++) {
    for (let c = 0; c < 3; c++) picture.data[4*i + c] = 255*(channels[c % channels.length][i] - from)/by;
    picture.data[4*i + 3] = 255;
  }
  canvas.getContext('2d').putImageData(picture, 0, 0);
}

function start(m) {
  const [C, h, w] = m.shape, n = h*w, most = Math.ceil(m.coefs.reduce((t, v) => Math.max(t, Math.abs(v)), 0));
  const stored = (j, c) => Array.from(m.coefs.subarray((j*m.classes.length + c)*m.K, (j*m.classes.length + c + 1)*m.K));
  let here = 0, address = [];

  const draw = () => paint($('image'), recall(m, address), h*m.scale, w*m.scale);
  const write = k => rows[k].said.textContent = address[k].toFixed(2);
  const say = text => { $('says').textContent = text; $('image').setAttribute('aria-label', `the recalled image: ${text}`); };
  const rows = Array.from({length: m.K}, (_, k) => {
    const label = document.createElement('label'), still = document.createElement('canvas');
    const bar = document.createElement('input'), said = document.createElement('output');
    paint(still, Array.from({length: C}, (_, c) => m.bases.subarray((k*C + c)*n, (k*C + c + 1)*n).map(v => 1e3*v)), h, w);
    still.setAttribute('aria-hidden', 'true'); said.setAttribute('aria-hidden', 'true');
    Object.assign(bar, {type: 'range', min: -most, max: most, step: 'any'});
    bar.setAttribute('aria-label', `coefficient of basis ${k}`);
    bar.oninput = () => { address[k] = +bar.value; write(k); draw(); say(`moved from ${m.classes[here]}`); };
    label.append(still, bar, said); $('sliders').append(label);
    return {bar, said};
  });

  function show(next, text) {
    address = next;
    rows.forEach((row, k) => { row.bar.value = address[k]; write(k); });
    draw(); say(text);
  }
  function one() {
    const j = $('which').value - 1;
    $('classes').childNodes.forEach((b, c) => b.setAttribute('aria-pressed', c === here));
    show(stored(j, here), `${m.classes[here]}, image ${j + 1} of ${m.r}`);
  }
  m.classes.forEach((name, c) => {
    const button = document.createElement('button');
    button.textContent = name; button.onclick = () => { here = c; one(); };
    $('classes').append(button); $('other').append(new Option(name, c));
  });
  $('which').max = m.r; $('which').oninput = one; $('reset').onclick = one;
  $('average').onclick = () => {
    const c = +$('other').value, j = $('which').value - 1, second = stored(j, c);
    show(stored(j, here).map((v, k) => (v + second[k])/2), `between ${m.classes[here]} and ${m.classes[c]}`);
  };
  // each coefficient from an image of its own, so that its size is one that occurs
  $('random').onclick = () => show(address.map((_, k) => stored(pick(m.r), pick(m.classes.length))[k]), 'a random address');
  addEventListener('keydown', e => {
    const c = m.classes.indexOf(e.key);
    if (c >= 0 && e.target.tagName !== 'SELECT' && !e.ctrlKey && !e.altKey && !e.metaKey) { here = c; one(); }
  });
  here = Math.min(3, m.classes.length - 1); $('other').value = (here + 1) % m.classes.length; one();
}

fetch('mnist.json').then(r => r.json()).then(m => start({...m, bases: floats(m.bases), coefs: floats(m.coefs)}))
  .catch(() => { $('says').textContent = 'The memory could not be read. Open this page from a web server, not as a file.'; });
