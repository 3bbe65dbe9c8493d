// Two classes, and what each basis contributes to the cosine of their mean addresses.
let m, chosen = [0, 0];

const unit = v => { const n = Math.hypot(...v); return v.map(x => x/n); };
const signed = (v, digits = 2) => `${v < 0 ? '−' : '+'}${Math.abs(v).toFixed(digits)}`;
// blue is opposite, red alike, as in the picture; the ground shows through where the classes are independent
const colour = c => `rgba(${c < 0 ? '33, 102, 172' : '178, 24, 43'}, ${Math.min(1, Math.abs(c))})`;

// the parts of the cosine, one a basis; they add up to it
function parts(a, b) { return m.unit[a].map((v, k) => v*m.unit[b][k]); }
const cosine = (a, b) => parts(a, b).reduce((s, v) => s + v, 0);

function cell(a, b) {
  const said = `${m.classes[a]} and ${m.classes[b]}: ${signed(cosine(a, b))}`;
  const square = element('button', {ariaLabel: said, title: said, tabIndex: -1});
  square.style.background = colour(cosine(a, b));
  square.onpointerenter = square.onfocus = square.onclick = () => show(a, b);
  return element('td', {}, square);
}
const heading = (scope, textContent) => element('th', {scope, textContent});

function matrix() {
  const head = element('tr', {}, element('td', {className: 'names'}), ...m.classes.map(name => heading('col', name)));
  const rows = m.classes.map((name, a) => element('tr', {}, heading('row', name), ...m.classes.map((_, b) => cell(a, b))));
  $('matrix').replaceChildren(element('thead', {}, head), element('tbody', {}, ...rows));
}
const square = (a, b) => $('matrix').tBodies[0].rows[a].cells[b + 1].firstChild;

function bar(v, most, kind) {
  const e = element('i', {className: kind}), w = 50*Math.abs(v)/most;
  Object.assign(e.style, {width: `${w}%`, marginLeft: `${v < 0 ? 50 - w : 50}%`});
  return e;
}

// one basis: its picture, how much of it each class takes, and what that adds to the cosine
function row(k, a, b, most, adds) {
  const still = element('canvas', {ariaHidden: true});
  paint(still, m.stills[k], m.shape[2], m.shape[1]);
  const bars = element('div', {className: 'bars', ariaHidden: true}, bar(m.unit[a][k], most, 'first'), bar(m.unit[b][k], most, 'second'));
  return element('tr', {}, element('th', {scope: 'row', ariaLabel: `basis ${k}`}, still), element('td', {}, bars),
    element('td', {className: 'number', textContent: signed(adds)}));
}

function show(a, b) {
  for (const [i, j, on] of [[...chosen, false], [a, b, true]]) Object.assign(square(i, j), {ariaPressed: on, tabIndex: on ? 0 : -1});
  chosen = [a, b];
  $('pair').textContent = `${m.classes[a]} and ${m.classes[b]}: cosine ${signed(cosine(a, b))}`;
  const adds = parts(a, b), order = [...adds.keys()].sort((i, j) => adds[j] - adds[i]);
  const most = Math.max(...[...m.unit[a], ...m.unit[b]].map(Math.abs));
  const key = (kind, c) => element('span', {className: `key ${kind}`, textContent: `■ ${m.classes[c]} `});
  const head = element('tr', {}, heading('col', 'basis'), element('th', {scope: 'col'}, key('first', a), key('second', b)),
    Object.assign(heading('col', 'adds'), {className: 'number'}));
  $('bases').replaceChildren(element('thead', {}, head), element('tbody', {}, ...order.map(k => row(k, a, b, most, adds[k]))));
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
    const plane = i => Float64Array.from(b.subarray(i*h*w, (i + 1)*h*w), x => x/255);
    one.stills = Array.from({length: one.K}, (_, k) => Array.from({length: C}, (_, c) => plane(k*C + c)));
    one.unit = one.classes.map((_, c) => unit(Array.from(v.subarray(c*one.K, (c + 1)*one.K))));
    $('memory').append(new Option(one.name, $('memory').length));
  }
  $('memory').onchange = () => open(all[$('memory').value]);
  open(all[0]);
}).catch(() => { $('pair').textContent = 'The memories could not be read. Open this page from a web server, not as a file.'; });
