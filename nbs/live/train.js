// Train in this page: recall the memory, let train_worker.js train a network on its images, then ask it about what the reader draws.
const PIXELS = SIDE*SIDE;
let m, recalled, tests, truth;         // the memory, its images, the test digits and their classes
let worker, began, steps;              // and how training goes
let drawn = null, asked = null;        // the newest drawing, and the one that the worker still owes an answer

const say = (name, text) => { $(name).textContent = text; };
const seconds = () => `${((performance.now() - began)/1000).toFixed(0)} s`;
const percent = (v, digits = 1) => `${(100*v).toFixed(digits)} %`;
const standardize = images => Float32Array.from(images.flatMap(x => Array.from(x)), v => (v - m.mean[0])/m.std[0]);

function ready(yes, text) {
  $('train').disabled = !yes;
  say('says', text);
}

// ---- training

const lines = {losses: [], accuracies: []};
function plot(name, x, y) {   // x and y from 0 to 1
  lines[name].push(`${100*x} ${100 - 96*Math.min(1, y)}`);
  $(name).setAttribute('d', `M${lines[name].join('L')}`);
}

// the test digits; those that are read wrongly get a frame
function showTests(answers = truth) {
  const perRow = tests.length/10, wrong = answers.filter((c, i) => c !== truth[i]).length;
  paintSheet($('tests'), tests.map(x => [x]), SIDE, SIDE, perRow);
  const ctx = Object.assign($('tests').getContext('2d'), {lineWidth: 3, strokeStyle: '#d55e00'});
  answers.forEach((c, i) => {
    if (c !== truth[i]) ctx.strokeRect(SIDE*(i % perRow) + 2, SIDE*Math.floor(i/perRow) + 2, SIDE - 4, SIDE - 4);
  });
  say('asked', `What it is asked: ${tests.length} test digits` + (wrong ? `; framed are the ${wrong} that it reads wrongly` : ''));
  return 1 - wrong/tests.length;
}

function train() {
  for (const name in lines) lines[name] = [];
  began = performance.now();
  ready(false, 'The first step is on its way.');
  say('train', 'Train again');
  const labels = Uint8Array.from(recalled, (_, i) => Math.floor(i/m.r));
  worker.postMessage({train: {images: standardize(recalled), labels, tests: standardize(tests)}});
}

// what the worker says, one kind of message a function
const hear = {
  backend({backend, width, steps: all}) {
    steps = all;
    const place = backend === 'cpu' ? 'processor' : 'graphics card';
    ready(true, `A ConvNet of three blocks of ${width} channels is ready. It will train on the ${place}.`);
  },
  loss({loss, step}) {
    plot('losses', step/steps, loss/2.5);
    say('loss', loss.toFixed(2));
    say('says', `Step ${step} of ${steps}, ${seconds()}.`);
  },
  answers({answers, step}) {
    const right = showTests(answers);
    plot('accuracies', step/steps, right);
    say('accuracy', percent(right));
  },
  done() {
    ready(true, `Trained in ${seconds()}: ${$('accuracy').textContent} of ${tests.length} test digits are read right. Now draw one.`);
    ask();
  },
  scores({scores}) {
    const newest = asked === drawn;
    asked = null;
    if (!newest) ask();
    else if (scores) showScores(scores);
    else say('answer', 'Train the network first, then it can answer.');
  },
};

// ---- drawing

function ask() {   // one question at a time; the newest drawing is asked about when the last one is answered
  if (!drawn) { showScores(null); say('answer', 'Nothing is drawn yet.'); }
  else if (!worker) say('answer', 'There is no network to ask.');
  else if (!asked) {
    asked = drawn;
    worker.postMessage({ask: standardize([drawn])});
  }
}

function changed(strokes) {
  drawn = strokes.length ? asMnist(strokes) : null;
  paint($('seen'), [drawn || new Float64Array(PIXELS)], SIDE, SIDE);
  ask();
}

function showScores(p) {
  const best = p ? p.indexOf(Math.max(...p)) : -1;
  [...$('scores').rows].forEach((row, c) => {
    row.className = c === best ? 'best' : '';
    row.cells[1].firstChild.style.width = `${p ? 100*p[c] : 0}%`;
    row.cells[2].textContent = p ? percent(p[c]) : '';
  });
  if (p) say('answer', `The network reads a ${best}, with ${percent(p[best], 0)}.`);
}

// ---- the start

// the digits are 8-bit, all of a class together, and deflated
async function readDigits() {
  const d = await fetch('digits.json').then(r => r.json());
  const inflated = new Blob([bytes(d.pixels)]).stream().pipeThrough(new DecompressionStream('deflate'));
  const all = new Uint8Array(await new Response(inflated).arrayBuffer());
  tests = Array.from({length: all.length/PIXELS}, (_, i) => Float64Array.from(all.subarray(i*PIXELS, (i + 1)*PIXELS), v => v/255));
  truth = tests.map((_, i) => Math.floor(i/d.perClass));
}

async function start() {
  for (let c = 0; c < 10; c++) {
    const bar = element('td', {}, element('i')), score = element('td', {className: 'number'});
    $('scores').append(element('tr', {}, element('th', {textContent: c, scope: 'row'}), bar, score));
  }
  $('clear').onclick = drawIn($('drawing'), changed);
  $('train').onclick = train;
  changed([]);
  if (!('Worker' in window && 'DecompressionStream' in window))
    return ready(false, 'This browser is too old to train a network in a page; the results on this site show what would come out.');
  try { m = await readMemory('mnist.json'); await readDigits(); }
  catch { return ready(false, 'The memory could not be read. Open this page from a web server, not as a file.'); }
  recalled = m.classes.flatMap((_, c) => Array.from({length: m.r}, (_, j) => recall(m, stored(m, j, c))[0]));
  paintSheet($('recalled'), recalled.map(x => [x]), SIDE, SIDE, m.r);
  say('learned', `All that the network learns from: ${recalled.length} recalled images`);
  showTests();
  say('says', 'TensorFlow.js is on its way.');
  worker = new Worker(`train_worker.js${location.search}`);
  worker.onmessage = ({data}) => { for (const kind in hear) if (kind in data) hear[kind](data); };
  worker.onerror = e => {
    e.preventDefault();
    worker = null;
    ready(false, 'TensorFlow.js cannot run: either it is not beside this page, where `make docs` puts it, or this browser cannot do it.');
  };
}
start();
