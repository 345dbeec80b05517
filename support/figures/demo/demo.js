// The network of model.py once more, in plain JavaScript: one image goes forward, and its votes come back.
//
//   X  = see(image)                     (n, k)   what the units see at each of n places; the whole image is n = 1
//   a1 = ReLU(scale (X W1) + shift)     (n, H)   (1), (3), (4), with a cap no more than that: b1 and batch normalisation
//                                                are in scale and shift
//   s  = pool(a1)                       (q, H)   means over the places of each of q regions
//   z2 = s W2 + b2                      (C)      (7)
//   y  = softmax(z2)                    (C)      (8)
//
// Arrays are flat, the last index moves fastest: a1[place * H + h]. W1 is stored with a row for each unit, (H, k).

"use strict";

// ---- The network's arrays -------------------------------------------------------------------------------------------

// float16: a sign, five bits of exponent and ten of fraction. All 65,536 of them.
const HALF = Float32Array.from({ length: 65536 }, (_, bits) => {
  const exponent = (bits >> 10) & 31, fraction = bits & 1023;
  const size = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
  return bits >> 15 ? -size : size;
});

// The typed array of what demo.py's _encoded wrote.
function decoded({ type, base64 }) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  if (type === "uint8") return bytes;
  if (type === "float32") return new Float32Array(bytes.buffer);
  if (type === "float16") return Float32Array.from(new Uint16Array(bytes.buffer), (bits) => HALF[bits]);
  const width = Number(type.slice(4)), zero = 1 << (width - 1); // "bits11": integers, packed without gaps
  const out = new Float32Array(Math.floor((8 * bytes.length) / width));
  for (let i = 0, at = 0, held = 0, count = 0; i < out.length; i++) {
    for (; count < width; count += 8) held = ((held & 0xffff) << 8) | bytes[at++];
    count -= width;
    out[i] = ((held >> count) & (2 * zero - 1)) - zero;
  }
  return out;
}

const data = JSON.parse(document.getElementById("data").textContent);
const { W1, W2, b2, scale, shift, mean, P, examples } = Object.fromEntries(
  Object.entries(data.arrays).map(([name, array]) => [name, decoded(array)]),
);
const { names, cap, window: { size, stride, side, regions } } = data;
const [H, k] = data.arrays.W1.shape, C = names.length;
const n = side * side, q = regions * regions, whole = size === 32, inputs = 3 * size * size;

// The region of each place, the one that its middle lies in, and how many places share it.
const regionOf = (step) => Math.floor(((2 * step + 1) * regions) / (2 * side));
const region = Array.from({ length: n }, (_, i) => regions * regionOf(Math.floor(i / side)) + regionOf(i % side));
const placesIn = Array.from({ length: q }, (_, r) => region.filter((each) => each === r).length);

// ---- Forward --------------------------------------------------------------------------------------------------------

// A (rows, inner) times B^T, B (columns, inner) -> (rows, columns). Two rows of A meet four of B at a time, so that six
// numbers are read for eight products; and a block of B's rows meets all of A while it is in a fast cache.
function product(A, B, rows, columns, inner) {
  const out = new Float32Array(rows * columns), block = 4 * Math.ceil(4096 / inner);
  for (let first = 0; first < columns; first += block) {
    const last = Math.min(first + block, columns), fours = last - ((last - first) % 4);
    for (let i = 0; i < rows; i += 2) {
      const next = Math.min(i + 1, rows - 1); // the last of an odd number of rows meets itself
      for (let j = first; j < fours; j += 4) {
        let s0 = 0, s1 = 0, s2 = 0, s3 = 0, t0 = 0, t1 = 0, t2 = 0, t3 = 0;
        let a = i * inner, b = next * inner, p0 = j * inner, p1 = p0 + inner, p2 = p1 + inner, p3 = p2 + inner;
        for (const end = a + inner; a < end; ) {
          const x = A[a++], y = A[b++], w0 = B[p0++], w1 = B[p1++], w2 = B[p2++], w3 = B[p3++];
          s0 += x * w0;
          s1 += x * w1;
          s2 += x * w2;
          s3 += x * w3;
          t0 += y * w0;
          t1 += y * w1;
          t2 += y * w2;
          t3 += y * w3;
        }
        const o = i * columns + j, u = next * columns + j;
        out[o] = s0;
        out[o + 1] = s1;
        out[o + 2] = s2;
        out[o + 3] = s3;
        out[u] = t0;
        out[u + 1] = t1;
        out[u + 2] = t2;
        out[u + 3] = t3;
      }
      for (let j = fours; j < last; j++) {
        out[i * columns + j] = dot(A, i, B, j, inner);
        out[next * columns + j] = dot(A, next, B, j, inner);
      }
    }
  }
  return out;
}

function dot(A, i, B, j, inner) {
  let sum = 0;
  for (let p = 0; p < inner; p++) sum += A[i * inner + p] * B[j * inner + p];
  return sum;
}

// X (n, k) of an image (3072,) in 0..255: the patch at each place, channel by channel; through the map, if there is
// one, which is (patch - mean) P, P a factor for each pixel or a matrix.
function see(image) {
  const patches = new Float32Array(n * inputs);
  for (let place = 0, at = 0; place < n; place++) {
    const top = stride * Math.floor(place / side), left = stride * (place % side);
    for (let channel = 0; channel < 3; channel++)
      for (let y = top; y < top + size; y++)
        for (let x = left; x < left + size; x++) patches[at++] = image[1024 * channel + 32 * y + x] / 255;
  }
  if (!P) return patches;
  for (let at = 0; at < patches.length; at++) patches[at] -= mean[at % inputs];
  if (P.length > inputs) return product(patches, P, n, k, inputs);
  for (let at = 0; at < patches.length; at++) patches[at] *= P[at % inputs];
  return patches;
}

function forward(image) {
  const a1 = product(see(image), W1, n, H, k), s = pool(a1), z2 = Float32Array.from(b2);
  for (let i = 0; i < q * H; i++) if (s[i]) for (let c = 0; c < C; c++) z2[c] += s[i] * W2[i * C + c];
  return { a1, s, z2, y: softmax(z2) };
}

// From X W1 (n, H), which becomes a1, to s (q, H).
function pool(a1) {
  const s = new Float32Array(q * H);
  for (let place = 0; place < n; place++) {
    const from = place * H, to = region[place] * H, share = 1 / placesIn[region[place]];
    for (let h = 0; h < H; h++) {
      const a = Math.min(Math.max(0, scale[h] * a1[from + h] + shift[h]), cap || Infinity);
      a1[from + h] = a;
      s[to + h] += share * a;
    }
  }
  return s;
}

// The largest logit is subtracted first, so that exp can't overflow.
function softmax(z2) {
  const largest = z2.reduce((a, b) => Math.max(a, b)), y = z2.map((z) => Math.exp(z - largest));
  const sum = y.reduce((a, b) => a + b);
  return y.map((each) => each / sum);
}

// ---- Why: what each place adds to a logit, and each unit. See support/evidence.py ----------------------------------

// The weights of pixels that a unit amounts to, (3 size^2,): P W1, with BN's factor.
function filter(h) {
  const w = W1.subarray(h * k, (h + 1) * k).map((each) => scale[h] * each);
  return P ? throughMap(w) : w;
}

// P w, from what a unit sees back to pixels.
function throughMap(w) {
  if (P.length === inputs) return w.map((each, p) => each * P[p]);
  const pixels = new Float32Array(inputs);
  for (let j = 0; j < k; j++) for (let p = 0; p < inputs; p++) pixels[p] += w[j] * P[j * inputs + p];
  return pixels;
}

// Weights of pixels (3072,) times the image, summed over the three channels: (1024,).
function timesImage(weights, image) {
  const out = new Float32Array(1024);
  for (let p = 0; p < 3072; p++) out[p % 1024] += (weights[p] * image[p]) / 255;
  return out;
}

// votes[c][place], with z2[c] = rest + sum of votes[c]. At each place sum_h a1 W2 / (places of its region), the rest is
// b2; for the whole image, each pixel times dz2[c]/dx, with the units that are on, and the biases are in the rest.
function votes(image, a1, classes) {
  if (whole) return classes.map((c) => timesImage(gradient(a1, c), image));
  const maps = classes.map(() => new Float32Array(n));
  for (let place = 0; place < n; place++) {
    const share = 1 / placesIn[region[place]];
    for (let h = 0; h < H; h++) {
      const a = share * a1[place * H + h], row = (region[place] * H + h) * C;
      if (a) for (let i = 0; i < classes.length; i++) maps[i][place] += a * W2[row + classes[i]];
    }
  }
  return maps;
}

// dz2[c]/dx (3072,), where units see the whole image.
function gradient(a1, c) {
  const dX = new Float32Array(k);
  for (let h = 0; h < H; h++) {
    const factor = scale[h] * W2[h * C + c];
    if (a1[h] && a1[h] !== cap) for (let p = 0; p < k; p++) dX[p] += factor * W1[h * k + p];
  }
  return P ? throughMap(dX) : dX;
}

// The at most `top` units that add most to the logit of class c: sum_r s[r, h] W2[r h, c].
function strongest(s, c, top) {
  const units = Array.from({ length: H }, (_, unit) => {
    let adds = 0;
    for (let r = 0; r < q; r++) adds += s[r * H + unit] * W2[(r * H + unit) * C + c];
    return { unit, adds };
  });
  return units.filter(({ adds }) => adds > 0).sort((a, b) => b.adds - a.adds).slice(0, top);
}

// ---- A picture of any size, as data/pictures.py reads it -----------------------------------------------------------

const MAX_PIXELS = 50e6, STRIP = 1 << 20;

// What of a row of `length` pixels each of the 32 new ones covers: [first, shares], to fractions of a pixel.
function covered(length) {
  return Array.from({ length: 32 }, (_, i) => {
    const left = (i * length) / 32, right = ((i + 1) * length) / 32, first = Math.floor(left), shares = [];
    for (let p = first; p < right; p++) shares.push((Math.min(right, p + 1) - Math.max(left, p)) * (32 / length));
    return [first, shares];
  });
}

// (3072,) of a drawable picture: on white where it is transparent, the square in its middle, averaged down.
function shrink(picture) {
  const length = Math.min(picture.width, picture.height), shares = covered(length);
  const left = Math.floor((picture.width - length) / 2), top = Math.floor((picture.height - length) / 2);
  const narrow = new Float64Array(length * 96); // (rows, 32, 3)
  const strip = Math.min(length, Math.ceil(STRIP / length)); // rows that are decoded at a time
  const pen = new OffscreenCanvas(length, strip).getContext("2d", { willReadFrequently: true });
  pen.imageSmoothingEnabled = false;
  for (let y = 0; y < length; y += strip) {
    const height = Math.min(strip, length - y);
    pen.fillStyle = "white";
    pen.fillRect(0, 0, length, height);
    pen.drawImage(picture, left, top + y, length, height, 0, 0, length, height);
    const rgba = pen.getImageData(0, 0, length, height).data;
    for (let row = 0; row < height; row++)
      shares.forEach(([first, row_shares], i) => {
        for (let channel = 0; channel < 3; channel++) {
          let sum = 0, at = 4 * (row * length + first) + channel;
          for (let p = 0; p < row_shares.length; p++, at += 4) sum += row_shares[p] * rgba[at];
          narrow[(y + row) * 96 + 3 * i + channel] = sum;
        }
      });
  }
  const image = new Uint8Array(3072);
  shares.forEach(([first, column_shares], i) => {
    for (let j = 0; j < 96; j++) {
      const sum = column_shares.reduce((total, share, p) => total + share * narrow[(first + p) * 96 + j], 0);
      image[1024 * (j % 3) + 32 * i + Math.floor(j / 3)] = rounded(sum);
    }
  });
  return image;
}

// To the nearest integer, and to the even one of two, as NumPy does.
function rounded(value) {
  const nearest = Math.round(value);
  return value % 1 === 0.5 && nearest % 2 ? nearest - 1 : nearest;
}

async function read(file) {
  const name = file.name || "the picture";
  let picture;
  try {
    picture = await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    return problem(`${name}: is no picture that this browser can read; give another one`);
  }
  if (picture.width * picture.height > MAX_PIXELS) return problem(`${name}: over 50 million pixels; make it smaller`);
  take(shrink(picture), name);
}

// ---- The page: what is shown ---------------------------------------------------------------------------------------

const $ = (id) => document.getElementById(id);
const RED = [178, 24, 43], BLUE = [33, 102, 172], ORANGE = [213, 94, 0]; // pairs that the colour-blind keep apart
const ROWS = Math.min(C, 10), TOP = 6;

let original = examples.slice(0, 3072), image = original.slice(), title = ""; // what was taken, and as it is now
let result = null; // of forward(image)
let hovered = null, kept = null; // the class under the pointer, and the one that was focused last
let brush = null; // [row, column] of the keyboard's
const times = [];

const number = (value) => (Math.abs(value) < 1e5 ? value.toFixed(1) : value.toExponential(1)).replace("-", "−");
const percent = (p) => `${(100 * p).toFixed(1)} %`;
const add = (parent, tag, given = {}) => parent.appendChild(Object.assign(document.createElement(tag), given));

// RGB pixels, (3, length, length) in 0..255, as a small canvas to draw from.
function small(pixels, length) {
  const canvas = new OffscreenCanvas(length, length), pen = canvas.getContext("2d");
  const shown = pen.createImageData(length, length), area = length * length;
  for (let p = 0; p < area; p++) shown.data.set([pixels[p], pixels[area + p], pixels[2 * area + p], 255], 4 * p);
  pen.putImageData(shown, 0, 0);
  return canvas;
}

// Pixels over the whole canvas; the pen then draws in units of a pixel.
function draw(canvas, pixels, length) {
  const pen = canvas.getContext("2d");
  pen.resetTransform();
  pen.scale(canvas.width / length, canvas.height / length);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(small(pixels, length), 0, 0, length, length);
  return pen;
}

// Values of places or pixels over the image, which is pale and grey below: the stronger a value, the more colour.
function drawOver(canvas, values, limit, positive = RED) {
  const grey = new Float32Array(3072);
  for (let p = 0; p < 3072; p++) {
    const light = 0.3 * image[p % 1024] + 0.59 * image[1024 + (p % 1024)] + 0.11 * image[2048 + (p % 1024)];
    grey[p] = 190 + 0.25 * light;
  }
  const pen = draw(canvas, grey, 32), cell = whole ? 1 : stride, edge = whole ? 0 : (size - stride) / 2;
  const columns = whole ? 32 : side;
  values.forEach((value, i) => {
    pen.fillStyle = `rgba(${value > 0 ? positive : BLUE}, ${Math.min(1, Math.abs(value) / limit)})`;
    pen.fillRect(edge + cell * (i % columns), edge + cell * Math.floor(i / columns), cell, cell);
  });
  return pen;
}

function frame(pen, left, top, width) {
  for (const [style, thick] of [["white", 1.2], ["#1a1a1a", 0.5]]) {
    pen.strokeStyle = style;
    pen.lineWidth = thick;
    pen.strokeRect(left, top, width, width);
  }
}

const peak = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;
const indexOfLargest = (values) => values.indexOf(values.reduce((a, b) => Math.max(a, b)));
// "row 3, column 5" of the pixels, for a place or a pixel
const where = (i) => {
  const columns = whole ? 32 : side, middle = whole ? 0 : size / 2, step = whole ? 1 : stride;
  return `row ${1 + middle + step * Math.floor(i / columns)}, column ${1 + middle + step * (i % columns)}`;
};

function show() {
  const start = performance.now();
  result = forward(image);
  times.push(performance.now() - start);
  showPicture();
  showClasses();
  const median = times.slice(-15).sort((a, b) => a - b)[Math.min(times.length, 15) >> 1];
  $("time").textContent = `A forward pass takes ${median.toFixed(1)} ms here (median of the last 15).`;
}

function showPicture() {
  const pen = draw($("picture"), image, 32), width = Number($("size").value);
  if (brush) frame(pen, Math.round(brush[1] + 0.5 - width / 2), Math.round(brush[0] + 0.5 - width / 2), width);
  $("picture").setAttribute("aria-label", `${title}, 32 by 32 pixels, to draw on and erase`);
}

function showClasses() {
  const { a1, s, z2, y } = result;
  const order = Array.from(y.keys()).sort((a, b) => y[b] - y[a] || a - b), likeliest = order[0];
  const rows = C > ROWS ? order.slice(0, ROWS) : Array.from(y.keys());
  const chosen = hovered ?? kept ?? likeliest;
  const classes = rows.includes(chosen) ? rows : [...rows, chosen];
  const maps = votes(image, a1, classes), limit = Math.max(...maps.map(peak)); // one scale for all classes

  rows.forEach((c, i) => {
    const bar = $("bars").children[i], [label, track, value] = bar.children;
    label.textContent = label.title = names[c];
    track.firstChild.style.width = `${100 * y[c]}%`;
    value.textContent = percent(y[c]);
    bar.value = c;
    bar.classList.toggle("likeliest", c === likeliest);
    bar.setAttribute("aria-pressed", c === chosen);
  });
  document.querySelectorAll(".chosen").forEach((each) => (each.textContent = names[chosen]));

  const map = maps[classes.indexOf(chosen)];
  const pro = map.reduce((sum, vote) => sum + Math.max(vote, 0), 0);
  const against = map.reduce((sum, vote) => sum - Math.min(vote, 0), 0), rest = z2[chosen] - pro + against;
  drawOver($("map"), map, limit);
  const [low, , high] = $("ends").children;
  low.textContent = `−${limit.toPrecision(2)}`;
  high.textContent = `+${limit.toPrecision(2)}`;
  const bias = `${rest < 0 ? "−" : "+"} ${number(Math.abs(rest))} bias`;
  const sum = `${number(pro)} for − ${number(against)} against ${bias}`;
  const what = whole ? "pixel" : `place of the ${size}×${size} window, drawn in its middle,`;
  $("sum").textContent = `Logit ${number(z2[chosen])} = ${sum}. Each ${what} adds what its colour says.`;
  const most = `most for it at ${where(indexOfLargest(map))}`;
  $("map").setAttribute("aria-label", `Evidence for ${names[chosen]} over the picture: ${sum}; ${most}`);
  showFilters(strongest(s, chosen, TOP), a1);
  const first = order.slice(0, 3).map((c) => `${names[c]} ${percent(y[c])}`);
  say(`${first.join(", ")}. Evidence for ${names[chosen]}: ${sum}.`);
}

function showFilters(units, a1) {
  const figures = $("filters").children;
  Array.from(figures).forEach((figure, i) => (figure.hidden = i >= units.length));
  $("about-filters").textContent = !units.length
    ? "No unit adds to it."
    : whole
      ? "Left, the weights of pixels, grey is 0; right, what each pixel adds to the unit: red more, blue less."
      : "Left, the weights of pixels, grey is 0; right, where the unit fires, a frame where it fires most.";
  units.forEach(({ unit, adds }, i) => {
    const [picture, map, caption] = figures[i].children, weights = filter(unit), largest = peak(weights);
    draw(picture, weights.map((w) => 127.5 + (127.5 * w) / largest), size);
    picture.setAttribute("aria-label", `filter of unit ${unit}`);
    caption.textContent = `unit ${unit}: +${adds.toPrecision(2)}`;
    const fires = whole ? timesImage(weights, image) : Float32Array.from({ length: n }, (_, p) => a1[p * H + unit]);
    const pen = drawOver(map, fires, peak(fires), whole ? RED : ORANGE), first = indexOfLargest(fires);
    if (!whole) frame(pen, stride * (first % side), stride * Math.floor(first / side), size);
    map.setAttribute("aria-label", `${whole ? "pixels that excite it" : "where it fires"}: most at ${where(first)}`);
  });
}

let waiting = 0;
function say(text) { // to a screen reader, when the changes pause
  clearTimeout(waiting);
  waiting = setTimeout(() => ($("said").textContent = text), 700);
}

let due = false;
function changed() { // shown once before the next picture of the screen
  if (!due) requestAnimationFrame(() => ((due = false), show()));
  due = true;
}

function take(pixels, name) {
  [original, image, title, kept] = [pixels, pixels.slice(), name, null];
  problem("");
  changed();
}

function problem(text) {
  $("problem").textContent = text;
}

// ---- The page: what a visitor does ---------------------------------------------------------------------------------

// The brush at a point in pixels. It erases to the mean colour of the picture that was taken.
function paint(x, y) {
  const width = Number($("size").value), left = Math.round(x - width / 2), top = Math.round(y - width / 2);
  const erase = document.querySelector("[name=tool]:checked").value === "erase";
  for (let channel = 0; channel < 3; channel++) {
    const part = original.subarray(1024 * channel, 1024 * (channel + 1));
    const mean = part.reduce((sum, value) => sum + value, 0) / 1024;
    const colour = erase ? Math.round(mean) : parseInt($("color").value.slice(1 + 2 * channel, 3 + 2 * channel), 16);
    for (let row = Math.max(0, top); row < Math.min(32, top + width); row++)
      for (let column = Math.max(0, left); column < Math.min(32, left + width); column++)
        image[1024 * channel + 32 * row + column] = colour;
  }
  changed();
}

let last = null; // where the pointer was, while it is down
function stroke(event) {
  const box = $("picture").getBoundingClientRect();
  const x = (32 * (event.clientX - box.left)) / box.width, y = (32 * (event.clientY - box.top)) / box.height;
  const [x0, y0] = last ?? [x, y], steps = Math.ceil(Math.hypot(x - x0, y - y0)) || 1;
  for (let i = 1; i <= steps; i++) paint(x0 + ((x - x0) * i) / steps, y0 + ((y - y0) * i) / steps);
  last = [x, y];
}

function listenToPicture(canvas) {
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    brush = null;
    stroke(event);
  });
  canvas.addEventListener("pointermove", (event) => last && event.getCoalescedEvents().concat(event).forEach(stroke));
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (last = null));
  canvas.addEventListener("focus", () => {
    if (canvas.matches(":focus-visible")) brush ??= [16, 16];
    showPicture();
  });
  canvas.addEventListener("blur", () => ((brush = null), showPicture()));
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!move && event.key !== " ") return;
    event.preventDefault();
    brush = (brush ?? [16, 16]).map((at, i) => Math.min(31, Math.max(0, at + (move ? move[i] : 0))));
    if (!move || event.shiftKey) paint(brush[1] + 0.5, brush[0] + 0.5);
    showPicture();
  });
}

function listenToBars() {
  for (let i = 0; i < ROWS; i++) {
    const bar = add($("bars"), "button", { className: "bar" });
    add(bar, "span");
    add(add(bar, "span", { className: "track" }), "span");
    add(bar, "span");
    const choose = () => ((kept = Number(bar.value)), showClasses());
    bar.addEventListener("focus", choose);
    bar.addEventListener("click", choose);
    bar.addEventListener("pointerenter", () => ((hovered = Number(bar.value)), showClasses()));
  }
  $("bars").addEventListener("pointerleave", () => ((hovered = null), showClasses()));
  document.addEventListener("keydown", (event) => event.key === "Escape" && ((kept = null), showClasses()));
}

function listenToFiles() {
  const first = (transfer) => {
    const file = Array.from(transfer?.files ?? [])[0];
    return file ? read(file) : problem("There is no picture in it; give a file, or a copied picture.");
  };
  $("file").addEventListener("change", (event) => event.target.files.length && first(event.target));
  document.addEventListener("paste", (event) => first(event.clipboardData));
  for (const kind of ["dragover", "dragleave", "drop"])
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      document.body.classList.toggle("over", kind === "dragover");
      if (kind === "drop") first(event.dataTransfer);
    });
  $("blank").addEventListener("click", () => take(new Uint8Array(3072).fill(255), "blank canvas"));
  $("restore").addEventListener("click", () => take(original, title));
}

function offerExamples() {
  for (let i = 0; i < examples.length / 3072; i++) {
    const pixels = examples.slice(3072 * i, 3072 * (i + 1));
    const name = `example ${i + 1}${data.captions.length ? `, ${data.captions[i]}` : ""}`;
    const button = add($("examples"), "button", { title: name });
    button.setAttribute("aria-label", name);
    draw(add(button, "canvas", { width: 64, height: 64 }), pixels, 32);
    button.addEventListener("click", () => take(pixels, name));
  }
}

function start() {
  for (let i = 0; i < TOP; i++) {
    const figure = add($("filters"), "figure");
    for (let j = 0; j < 2; j++) add(figure, "canvas", { width: 160, height: 160, role: "img" });
    add(figure, "figcaption");
  }
  const bits = data.arrays.W1.type.replace(/\D+/, "");
  $("about").textContent = `${data.network}. Its weights, W1 in ${bits} bits, are in this file, and it runs here.`;
  listenToPicture($("picture"));
  listenToBars();
  listenToFiles();
  offerExamples();
  $("size").addEventListener("input", showPicture);
  for (let i = 0; i < 4; i++) forward(image); // the browser compiles what runs often
  $("examples").firstChild.click();
}

start();
