// Two classes, and what each basis contributes to the cosine of their mean addresses.
let m, chosen = [0, 0];

const unit = v => { const n = Math.hypot(...v); return v.map(x => x/n); };
const signed = (v, digits = 2) => `${v < 0 ? '−' : '+'}${Math.abs(v).toFixed(digits)}`;
// blue is opposite, red alike, as in the picture; the ground shows through where the classes are independent
const colour = c => `rgba(${c < 0 ? '33, 102, 172' : '178, 24, 43'}, ${Math.min(1, Math.abs(c))})`;

// the parts of the cosine, one a basis; they add up to it
function parts(a, b) { return m.unit[a].map((v, k) => v*m.unit[b][k]); }
const cosine = (a, b) => parts(a, b).reduce((s, v) => s + v, 0);

function matrix() {
  const head = element('tr', {}, element('td', {className: 'names'}), ...m.classes.map(c => element('th', {scope: 'col', textContent: c})));
  const rows = m.classes.map((name, a) => element('tr', {}, element('th', {scope: 'row', textContent: name}), ...m.classes.map((other, b) => {
    const c = cosine(a, b), square = element('button', {ariaLabel: `${name} and ${other}: ${signed(c)}`, tabIndex: -1, title: `${name} and ${other}: ${signed(c)}`});
    square.style.background = colour(c);
    square.onpointerenter = square.onfocus = square.onclick = () => show(a, b);
    return element('td', {}, square);
  })));
  $('matrix').replaceChildren(element('thead', {}, head), element('tbody', {}, ...rows));
}
const square = (a, b) => $('matrix').tBodies[0].rows[a].cells[b + 1].firstChild;

function bar(v, most, kind) {
  const e = element('i', {className: kind}), w = 50*Math.abs(v)/most;
  Object.assign(e.style, {width: `${w}%`, marginLeft: `${v < 0 ? 50 - w : 50}%`});
  return e;
}

function show(a, b) {
  const [oldA, oldB] = chosen, n = m.shape[1]*m.shape[2], contributions = parts(a, b);
  for (const [i, j, on] of [[oldA, oldB, false], [a, b, true]]) Object.assign(square(i, j), {ariaPressed: on, tabIndex: on ? 0 : -1});
  chosen = [a, b];
  const most = Math.max(...m.unit[a].map(Math.abs), ...m.unit[b].map(Math.abs));
  const order = contributions.map((_, k) => k).sort((i, j) => contributions[j] - contributions[i]);
  $('pair').textContent = `${m.classes[a]} and ${m.classes[b]}: cosine ${signed(cosine(a, b))}`;
  const head = element('tr', {}, element('th', {textContent: 'basis', scope: 'col'}),
    element('th', {scope: 'col'}, element('span', {textContent: `■ ${m.classes[a]} `, style: 'color: var(--mark)'}), element('span', {textContent: `■ ${m.classes[b]}`, style: 'color: var(--wrong)'})),
    element('th', {textContent: 'adds', scope: 'col', className: 'number'}));
  const rows = order.map(k => {
    const still = element('canvas', {ariaHidden: true});
    paint(still, m.stills[k], m.shape[2], m.shape[1]);
    return element('tr', {}, element('th', {scope: 'row', ariaLabel: `basis ${k}`}, still),
      element('td', {}, element('div', {className: 'bars', ariaHidden: true}, bar(m.unit[a][k], most, 'first'), bar(m.unit[b][k], most, 'second'))),
      element('td', {className: 'number', textContent: signed(contributions[k])}));
  });
  $('bases').replaceChildren(element('thead', {}, head), element('tbody', {}, ...rows));
}

function open(memory) {
  m = memory; chosen = [0, 0]; matrix();
  let best = [-2];   // begin with the most similar pair
  m.classes.forEach((_, a) => m.classes.slice(0, a).forEach((_, b) => { if (cosine(a, b) > best[0]) best = [cosine(a, b), b, a]; }));
  show(best[1], best[2]);
}

addEventListener('keydown', e => {
  const move = {ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0]}[e.key], n = m?.classes.length;
  if (!move || !$('matrix').contains(e.target)) return;
  e.preventDefault();
  square((chosen[0] + move[0] + n) % n, (chosen[1] + move[1] + n) % n).focus();   // which shows it
});

fetch('similarity.json').then(r => r.json()).then(all => {
  for (const one of all) {
    const [C, h, w] = one.shape, b = bytes(one.bases), v = floats(one.means);
    one.stills = Array.from({length: one.K}, (_, k) => Array.from({length: C}, (_, c) => Float64Array.from(b.subarray((k*C + c)*h*w, (k*C + c + 1)*h*w), x => x/255)));
    one.unit = one.classes.map((_, c) => unit(Array.from(v.subarray(c*one.K, (c + 1)*one.K))));
    $('memory').append(new Option(one.name, $('memory').length));
  }
  $('memory').onchange = () => open(all[$('memory').value]);
  open(all[0]);
}).catch(() => { $('pair').textContent = 'The memories could not be read. Open this page from a web server, not as a file.'; });
