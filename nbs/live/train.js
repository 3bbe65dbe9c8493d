// Train in this page: recall the memory, let train_worker.js train a network on its images, then ask it about what the reader draws.
const SIDE = 28;

// ---- the drawing: strokes, each a list of points [x, y] between 0 and 1
let strokes = [], pen = [.5, .5], down = false;

// the nearest that a point comes to a stroke
function distance(x, y, stroke) {
  let least = Infinity;
  for (let i = 0; i < stroke.length; i++) {
    const [ax, ay] = stroke[Math.max(0, i - 1)], [bx, by] = stroke[i], dx = bx - ax, dy = by - ay;
    const t = Math.min(1, Math.max(0, ((x - ax)*dx + (y - ay)*dy)/(dx*dx + dy*dy || 1)));
    least = Math.min(least, Math.hypot(x - ax - t*dx, y - ay - t*dy));
  }
  return least;
}

// ink of 28 x 28 pixels, 0 to 1; strokes are in pixels here
function ink(lines, radius) {
  return Float64Array.from({length: SIDE*SIDE}, (_, i) => {
    const d = Math.min(...lines.map(s => distance(i % SIDE + .5, Math.floor(i/SIDE) + .5, s)));
    return Math.min(1, Math.max(0, radius + .5 - d));
  });
}

// as MNIST was made: the digit fills a box of 20 x 20, and its centre of mass lies in the middle
function asMnist(strokes) {
  const radius = 1.2, xs = strokes.flat().map(p => p[0]), ys = strokes.flat().map(p => p[1]);
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const scale = (20 - 2*radius)/Math.max(right - left, bottom - top, .05);
  const placed = (x, y) => strokes.map(s => s.map(p => [x + scale*(p[0] - (left + right)/2), y + scale*(p[1] - (top + bottom)/2)]));
  const middle = ink(placed(SIDE/2, SIDE/2), radius), mass = middle.reduce((a, v) => a + v, 0);
  const mean = along => middle.reduce((a, v, i) => a + v*(along(i) + .5), 0)/mass;
  return ink(placed(SIDE - mean(i => i % SIDE), SIDE - mean(i => Math.floor(i/SIDE))), radius);
}

function redraw() {
  const c = $('drawing'), p = c.getContext('2d'), n = c.width;
  p.clearRect(0, 0, n, n);
  Object.assign(p, {lineWidth: n/13, lineCap: 'round', lineJoin: 'round', strokeStyle: '#fff'});
  for (const s of strokes) {
    p.beginPath(); p.moveTo(n*s[0][0], n*s[0][1]);
    for (const [x, y] of s) p.lineTo(n*x, n*y);
    p.stroke();
  }
  if (document.activeElement === c && c.matches(':focus-visible')) {   // the pen of the keyboard
    p.beginPath(); p.arc(n*pen[0], n*pen[1], n/26, 0, 7);
    Object.assign(p, {lineWidth: 3, strokeStyle: down ? '#f0944d' : '#56b4e9'}); p.stroke();
  }
}

// ---- the page
const charts = {losses: [], accuracies: []};
let m, tests, truth, recalled, worker, began, steps = 1, trained = false, waiting = false, again = false;

const standardize = x => Float32Array.from(x, v => (v - m.mean[0])/m.std[0]);
const grey = values => [values];

function chart(name, x, y) {
  charts[name].push(`${100*x} ${100 - 96*Math.min(1, y)}`);
  $(name).setAttribute('d', 'M' + charts[name].join('L'));
}

function showTests(said) {
  const wide = tests.length/10, canvas = $('tests');
  paintSheet(canvas, tests.map(grey), SIDE, SIDE, wide);
  if (!said) return;
  const p = canvas.getContext('2d');
  Object.assign(p, {lineWidth: 3, strokeStyle: '#d55e00'});
  said.forEach((c, i) => { if (c !== truth[i]) p.strokeRect(SIDE*(i % wide) + 2, SIDE*Math.floor(i/wide) + 2, SIDE - 4, SIDE - 4); });
  const right = said.filter((c, i) => c === truth[i]).length;
  $('accuracy').textContent = `${(100*right/said.length).toFixed(1)} %`;
  $('asked').textContent = right === said.length ? 'What it is asked: all read right' : 'What it is asked: framed, what it reads wrongly';
  return right/said.length;
}

const seconds = () => `${((performance.now() - began)/1000).toFixed(0)} s`;

function hear({data}) {
  if (data.backend) { steps = data.steps; $('train').disabled = false; $('says').textContent = `The network is ready: three blocks of ${data.width} channels. It computes by ${data.backend === 'cpu' ? 'the processor' : 'the graphics card'}.`; }
  if ('loss' in data) { $('loss').textContent = data.loss.toFixed(2); chart('losses', data.step/steps, data.loss/2.5); $('says').textContent = `Step ${data.step} of ${steps}, ${seconds()}.`; }
  if (data.said) chart('accuracies', data.step/steps, showTests(data.said));
  if (data.done) { $('says').textContent = `Trained in ${seconds()}: ${$('accuracy').textContent} of ${tests.length} test digits are read right. Now draw one.`; $('train').disabled = false; ask(); }
  if ('scores' in data) answer(data.scores);
}

function begin() {
  for (const name in charts) charts[name] = [];
  began = performance.now(); trained = true;
  $('train').disabled = true; $('train').textContent = 'Train again'; $('says').textContent = 'The first step is on its way.';
  const images = new Float32Array(recalled.length*SIDE*SIDE);
  recalled.forEach((x, i) => images.set(standardize(x), i*SIDE*SIDE));
  const asked = new Float32Array(tests.length*SIDE*SIDE);
  tests.forEach((x, i) => asked.set(standardize(x), i*SIDE*SIDE));
  worker.postMessage({train: {images, labels: Uint8Array.from(recalled, (_, i) => Math.floor(i/m.r)), tests: asked}});
}

// one question at a time: the newest drawing waits until the last one is answered
function ask() {
  const drawn = strokes.length > 0;
  if (!drawn) { $('answer').textContent = 'Nothing is drawn yet.'; scores(null); paint($('seen'), grey(new Float64Array(SIDE*SIDE)), SIDE, SIDE); return; }
  const x = asMnist(strokes);
  paint($('seen'), grey(x), SIDE, SIDE);
  if (!trained || !worker) { $('answer').textContent = 'Train the network first, then it can answer.'; return; }
  if (waiting) { again = true; return; }
  waiting = true; worker.postMessage({ask: standardize(x)});
}

function scores(p) {
  const best = p ? p.indexOf(Math.max(...p)) : -1;
  [...$('scores').rows].forEach((row, c) => {
    row.className = c === best ? 'best' : '';
    row.cells[1].firstChild.style.width = `${p ? 100*p[c] : 0}%`;
    row.cells[2].textContent = p ? `${(100*p[c]).toFixed(1)} %` : '';
  });
  return best;
}

function answer(p) {
  waiting = false;
  if (again) { again = false; ask(); return; }
  if (p && strokes.length) { const c = scores(p); $('answer').textContent = `The network reads a ${c}, with ${(100*p[c]).toFixed(0)} %.`; }
}

function clear() { strokes = []; down = false; redraw(); ask(); }

function listen() {
  const c = $('drawing');
  const at = e => { const r = c.getBoundingClientRect(); return [(e.clientX - r.left)/r.width, (e.clientY - r.top)/r.height]; };
  const on = p => { strokes.at(-1).push(p); redraw(); ask(); };
  c.onpointerdown = e => { c.setPointerCapture(e.pointerId); down = false; strokes.push([]); on(at(e)); };
  c.onpointermove = e => { if (c.hasPointerCapture(e.pointerId)) on(at(e)); };
  c.onfocus = c.onblur = redraw;
  c.onkeydown = e => {
    const move = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[e.key];
    if (move) { pen = pen.map((v, i) => Math.min(.98, Math.max(.02, v + move[i]/20))); if (down) on(pen); }
    else if (e.key === ' ') { down = !down; if (down) { strokes.push([]); on(pen); } }
    else if (e.key === 'Delete' || e.key === 'Backspace') clear();
    else return;
    e.preventDefault(); redraw();
  };
  $('clear').onclick = clear; $('train').onclick = begin;
  for (let i = 0; i < 10; i++) $('scores').append(element('tr', {}, element('th', {textContent: i, scope: 'row'}), element('td', {}, element('i')), element('td', {className: 'number'})));
}

// the digits are 8-bit, one after the other, all of a class together, and deflated
async function readDigits() {
  const d = await fetch('digits.json').then(r => r.json());
  const raw = await new Response(new Blob([bytes(d.pixels)]).stream().pipeThrough(new DecompressionStream('deflate'))).arrayBuffer();
  const all = new Uint8Array(raw), n = d.perClass*10;
  tests = Array.from({length: n}, (_, i) => Float64Array.from(all.subarray(i*SIDE*SIDE, (i + 1)*SIDE*SIDE), v => v/255));
  truth = tests.map((_, i) => Math.floor(i/d.perClass));
}

const cannot = text => { $('train').disabled = true; $('says').textContent = text; };

async function start() {
  listen(); ask();
  if (typeof Worker === 'undefined' || typeof DecompressionStream === 'undefined') { cannot('This browser is too old to train a network in a page. The pictures on the site show what would come out.'); return; }
  try { m = await readMemory('mnist.json'); await readDigits(); }
  catch { cannot('The memory could not be read. Open this page from a web server, not as a file.'); return; }
  recalled = m.classes.flatMap((_, c) => Array.from({length: m.r}, (_, j) => recall(m, stored(m, j, c))[0]));
  paintSheet($('recalled'), recalled.map(grey), SIDE, SIDE, m.r);
  showTests();
  $('learned').textContent = `All that the network learns from: ${recalled.length} recalled images`;
  $('says').textContent = 'TensorFlow.js is on its way.';
  worker = new Worker('train_worker.js' + location.search);
  worker.onmessage = hear;
  worker.onerror = e => { e.preventDefault(); worker = null; cannot('TensorFlow.js could not be started: either it is not beside this page (`make docs` and `tools/live.py --library` fetch it), or this browser cannot run it.'); };
}
start();
