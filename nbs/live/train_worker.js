// The network and its training, away from the page's own thread, with TensorFlow.js. It is told
//   {train: {images, labels, tests}}  and says {loss, step}, from time to time {answers, step}, and {done} at the end;
//   {ask: image}                      and says {scores}, by the network as it is then.
// Images are standardized, 28 x 28, one after the other in a Float32Array.
'use strict';
importScripts('tf.min.js');

const SIDE = 28, CLASSES = 10, WIDTH = 12, STEPS = 100, PER_CLASS = 3, RATE = .1, MOMENTUM = .9, EVERY = 20;

// The plain CPU backend is slow at two things. Both can be written as products, at which it is quick: a step takes 0.4 s, not 2 s.
// One: the gradient of a filter. It is a convolution too, of the images with what comes back, batch and channels exchanged.
const conv = tf.customGrad((x, filter, save) => {
  save([x, filter]);
  const gradFunc = (dy, [x, filter]) => [
    x.shape[3] > 1 ? tf.conv2dTranspose(dy, filter, x.shape, 1, 'same') : tf.zerosLike(x),   // nobody asks for the images' own
    tf.conv2d(x.transpose([3, 1, 2, 0]), dy.transpose([1, 2, 0, 3]), 1, 1).transpose([1, 2, 0, 3])];
  return {value: tf.conv2d(x, filter, 1, 'same'), gradFunc};
});

// Two: sums over the pixels, and the way back. `row` averages each channel of each image, `column` hands a number to all its pixels.
function instanceNorm(x, gain, shift) {
  const [n, h, w, c] = x.shape, row = tf.fill([n, 1, h*w], 1/(h*w)), column = tf.ones([n, h*w, 1]);
  const flat = x.reshape([n, h*w, c]), centred = flat.sub(column.matMul(row.matMul(flat)));
  const scale = row.matMul(centred.square()).add(1e-5).rsqrt().mul(gain);
  return centred.mul(column.matMul(scale)).add(column.matMul(tf.zeros([n, 1, c]).add(shift))).reshape(x.shape);
}

// The paper's ConvNet: three blocks of convolution, instance normalization, ReLU and average pooling, then a linear classifier. First
// weights are drawn as PyTorch does. Its convolutions have biases too, which the normalization would take away again.
function convNet() {
  const draw = (shape, inputs) => tf.variable(tf.randomUniform(shape, -1/Math.sqrt(inputs), 1/Math.sqrt(inputs)));
  const blocks = [1, WIDTH, WIDTH].map(n => ({
    filter: draw([3, 3, n, WIDTH], 9*n), gain: tf.variable(tf.ones([WIDTH])), shift: tf.variable(tf.zeros([WIDTH]))}));
  const inputs = 16*WIDTH, matrix = draw([inputs, CLASSES], inputs), bias = draw([CLASSES], inputs);
  return x => {
    x = tf.pad(x.reshape([-1, SIDE, SIDE, 1]), [[0, 0], [2, 2], [2, 2], [0, 0]]);   // 32 x 32 can be halved thrice
    for (const b of blocks) x = tf.avgPool(instanceNorm(conv(x, b.filter), b.gain, b.shift).relu(), 2, 2, 'valid');
    return x.reshape([-1, inputs]).matMul(matrix).add(bias);
  };
}

let net = null;
const breathe = () => new Promise(go => setTimeout(go));   // lets messages in between two steps

// the same number of images of every class, drawn without putting back
function batch(labels) {
  const left = Array.from({length: CLASSES}, () => PER_CLASS), numbers = [...labels.keys()];
  tf.util.shuffle(numbers);
  return numbers.filter(i => left[labels[i]]-- > 0);
}

const batchOf = pixels => tf.tensor(pixels, [pixels.length/SIDE/SIDE, SIDE*SIDE]);
const read = tests => tf.tidy(() => Array.from(net(batchOf(tests)).argMax(1).dataSync()));
const scores = image => tf.tidy(() => Array.from(net(batchOf(image)).softmax().dataSync()));

async function train({images, labels, tests}) {
  tf.disposeVariables();   // those of the last training
  net = convNet();
  const x = batchOf(images), sgd = tf.train.momentum(RATE, MOMENTUM);
  for (let step = 0; step < STEPS; step++) {
    if (step % EVERY === 0) postMessage({answers: read(tests), step});
    const loss = tf.tidy(() => {
      const numbers = batch(labels), part = x.gather(numbers), truth = tf.oneHot(numbers.map(i => labels[i]), CLASSES);
      sgd.setLearningRate(RATE*(1 - step/STEPS));
      return sgd.minimize(() => tf.losses.softmaxCrossEntropy(truth, net(part)), true).dataSync()[0];
    });
    postMessage({loss, step: step + 1});
    await breathe();
  }
  x.dispose();
  postMessage({answers: read(tests), step: STEPS});
  postMessage({done: true});
}

// the graphics card where there is one, else the processor; ?backend=cpu asks for that
async function choose() {
  const wanted = new URLSearchParams(location.search).get('backend') || 'webgl';
  if (!await tf.setBackend(wanted)) await tf.setBackend('cpu');
  await tf.ready();
  postMessage({backend: tf.getBackend(), width: WIDTH, steps: STEPS});
}
const chosen = choose();
onunhandledrejection = e => { throw e.reason; };   // so that the page hears of it

onmessage = async ({data}) => {
  await chosen;
  if (data.train) train(data.train);
  if (data.ask) postMessage({scores: net ? scores(data.ask) : null});
};
