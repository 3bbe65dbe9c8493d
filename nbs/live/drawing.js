// A square to draw in, with mouse, finger, pen or keys, and what MNIST would have made of the drawing.
const SIDE = 28;

// how near a stroke, a list of points [x, y], comes to a point
function distance(x, y, stroke) {
  let least = Infinity;
  for (let i = 0; i < stroke.length; i++) {
    const [ax, ay] = stroke[Math.max(0, i - 1)], [bx, by] = stroke[i], dx = bx - ax, dy = by - ay;
    const t = Math.min(1, Math.max(0, ((x - ax)*dx + (y - ay)*dy)/(dx*dx + dy*dy || 1)));
    least = Math.min(least, Math.hypot(x - ax - t*dx, y - ay - t*dy));
  }
  return least;
}

// the ink of 28 x 28 pixels, 0 to 1; strokes are in pixels here
function ink(strokes, radius) {
  return Float64Array.from({length: SIDE*SIDE}, (_, i) => {
    const d = Math.min(...strokes.map(s => distance(i % SIDE + .5, Math.floor(i/SIDE) + .5, s)));
    return Math.min(1, Math.max(0, radius + .5 - d));
  });
}

// as MNIST was made: the digit fills a box of 20 x 20, and its centre of mass lies in the middle
function asMnist(strokes, radius = 1.2) {
  const xs = strokes.flat().map(p => p[0]), ys = strokes.flat().map(p => p[1]);
  const [left, right, top, bottom] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const scale = (20 - 2*radius)/Math.max(right - left, bottom - top, .05);
  const placed = (x, y) => strokes.map(s => s.map(p => [x + scale*(p[0] - (left + right)/2), y + scale*(p[1] - (top + bottom)/2)]));
  const middle = ink(placed(SIDE/2, SIDE/2), radius), mass = middle.reduce((a, v) => a + v, 0);
  const mean = along => middle.reduce((a, v, i) => a + v*(along(i) + .5), 0)/mass;
  return ink(placed(SIDE - mean(i => i % SIDE), SIDE - mean(i => Math.floor(i/SIDE))), radius);
}

// Make a canvas a drawing square; `changed` is told the strokes, their points between 0 and 1. Gives a function that clears it.
function drawIn(canvas, changed) {
  const n = canvas.width, ctx = canvas.getContext('2d');
  let strokes = [], pen = [.5, .5], down = false;   // pen and down belong to the keys

  function redraw() {
    ctx.clearRect(0, 0, n, n);
    Object.assign(ctx, {lineWidth: n/13, lineCap: 'round', lineJoin: 'round', strokeStyle: '#fff'});
    for (const s of strokes) {
      ctx.beginPath();
      ctx.moveTo(n*s[0][0], n*s[0][1]);
      for (const [x, y] of s) ctx.lineTo(n*x, n*y);
      ctx.stroke();
    }
    if (!canvas.matches(':focus-visible')) return;
    Object.assign(ctx, {lineWidth: 3, strokeStyle: down ? '#f0944d' : '#56b4e9'});
    ctx.beginPath();
    ctx.arc(n*pen[0], n*pen[1], n/26, 0, 7);
    ctx.stroke();
  }
  const begin = p => { strokes.push([p]); redraw(); changed(strokes); };
  const go = p => { strokes.at(-1).push(p); redraw(); changed(strokes); };
  const clear = () => { strokes = []; down = false; redraw(); changed(strokes); };

  const at = e => { const r = canvas.getBoundingClientRect(); return [(e.clientX - r.left)/r.width, (e.clientY - r.top)/r.height]; };
  canvas.onpointerdown = e => { canvas.setPointerCapture(e.pointerId); down = false; begin(at(e)); };
  canvas.onpointermove = e => { if (canvas.hasPointerCapture(e.pointerId)) go(at(e)); };
  canvas.onfocus = canvas.onblur = redraw;
  canvas.onkeydown = e => {
    const move = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[e.key];
    if (move) {
      pen = pen.map((v, i) => Math.min(.98, Math.max(.02, v + move[i]/20)));
      if (down) go(pen); else redraw();
    }
    else if (e.key === ' ') { down = !down; if (down) begin(pen); else redraw(); }
    else if (e.key === 'Delete' || e.key === 'Backspace') clear();
    else return;
    e.preventDefault();
  };
  return clear;
}
