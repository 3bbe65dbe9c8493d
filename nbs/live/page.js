// What the pages that compute share: light and dark, their height in a frame, the numbers of a memory, how an image is recalled and drawn.
const $ = id => document.getElementById(id);
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
const floats = text => new Float32Array(bytes(text).buffer);

// In the site a page follows the dark switch around it; alone, the system's.
{
  const system = matchMedia('(prefers-color-scheme: dark)');
  let around = null;
  try { if (parent !== window) around = parent.document.body; } catch { /* a frame in somebody else's page */ }
  const site = around && [...around.classList].some(c => c.startsWith('quarto-'));
  const root = document.documentElement, isDark = () => site ? around.classList.contains('quarto-dark') : system.matches;
  const follow = () => { root.dataset.theme = isDark() ? 'dark' : 'light'; };
  if (site) new MutationObserver(follow).observe(around, {attributeFilter: ['class']}); else system.onchange = follow;
  follow();
  // a frame is as high as what it holds, so nothing scrolls inside it
  if (around) new ResizeObserver(() => { frameElement.style.height = `${root.offsetHeight}px`; }).observe(root);
}

const readMemory = async name => {
  const m = await fetch(name).then(r => r.json());
  return {...m, bases: floats(m.bases), coefs: floats(m.coefs)};
};

// the K coefficients of image j of class c
const stored = (m, j, c) => m.coefs.subarray((j*m.classes.length + c)*m.K, (j*m.classes.length + c + 1)*m.K);

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

// one image as RGBA; like to_pixels, an image that leaves 0 to 1 is stretched to fill it
function pixels(channels, width, height) {
  let low = Infinity, high = -Infinity;
  for (const x of channels) for (const v of x) { low = Math.min(low, v); high = Math.max(high, v); }
  const inside = low >= -1e-3 && high <= 1 + 1e-3, from = inside ? 0 : low, by = inside ? 1 : Math.max(high - low, 1e-12);
  const picture = new ImageData(width, height);
  for (let i = 0; i < width*height; i++) {
    for (let c = 0; c < 3; c++) picture.data[4*i + c] = 255*(channels[c % channels.length][i] - from)/by;
    picture.data[4*i + 3] = 255;
  }
  return picture;
}

function paint(canvas, channels, width, height) {
  Object.assign(canvas, {width, height});
  canvas.getContext('2d').putImageData(pixels(channels, width, height), 0, 0);
}

// many images (each a list of channels) on one canvas, `perRow` in a row
function paintSheet(canvas, images, width, height, perRow) {
  Object.assign(canvas, {width: width*perRow, height: height*Math.ceil(images.length/perRow)});
  const pen = canvas.getContext('2d');
  images.forEach((x, i) => pen.putImageData(pixels(x, width, height), width*(i % perRow), height*Math.floor(i/perRow)));
}

// the same children again and again, without a framework
function element(tag, properties = {}, ...children) {
  const e = Object.assign(document.createElement(tag), properties);
  e.append(...children);
  return e;
}
