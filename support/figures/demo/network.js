// The network of model.py, in JavaScript: one image goes forward, and its votes come back.
//
//   X  = layerInput(image)              (n, k)     what the filters see at each of n positions
//   a1 = ReLU(scale (X W1) + shift)     (rows, H)  (1), (3), (4), at most `cap` if there is one
//   s  = pool(a1)                       (q, H)     means over the positions of each of q regions
//   z2 = s W2 + b2                      (C)        (7)
//   y  = softmax(z2)                    (C)        (8)
//
// scale and shift hold b1 and batch normalisation. The whole image is n = 1. With mirror each
// filter is also applied left-right flipped: then rows = 2 n, first the filters as they are, then
// flipped; otherwise rows = n. With twoSided each filter is two hidden units: H = 2 F, and unit
// F + f is filter f with its sign reversed, which its negative scale stands for.
//
// Arrays are flat, the last index moves fastest: a1[row * H + h].

"use strict";

// ---- The network's arrays -----------------------------------------------------------------------

// float16: a sign, five bits of exponent and ten of fraction. All 65,536 of them.
const HALF = Float32Array.from({ length: 65536 }, (_, bits) => {
  const exponent = (bits >> 10) & 31, fraction = bits & 1023;
  const size = exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24;
  return bits >> 15 ? -size : size;
});

// Integers of `width` bits each, packed without gaps, the high bit first.
function unpacked(bytes, width) {
  const zero = 2 ** (width - 1), mask = 2 ** width - 1;
  const out = new Float32Array(Math.floor((8 * bytes.length) / width));
  let at = 0, held = 0, count = 0; // the last `count` bits of `held` have not been used
  for (let i = 0; i < out.length; i++) {
    while (count < width) {
      held = ((held & 0xffff) << 8) | bytes[at++];
      count += 8;
    }
    count -= width;
    out[i] = ((held >> count) & mask) - zero;
  }
  return out;
}

// Loops, as Float32Array.from with a function takes ten times as long for millions of numbers.
function fromHalves(halves) {
  const out = new Float32Array(halves.length);
  for (let i = 0; i < out.length; i++) out[i] = HALF[halves[i]];
  return out;
}

function bytesOf(base64) {
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

// The array that packing.py's `encoded` wrote.
function decoded({ type, base64 }) {
  const bytes = bytesOf(base64);
  if (type === "uint8") return bytes;
  if (type === "float32") return new Float32Array(bytes.buffer);
  if (type === "float16") return fromHalves(new Uint16Array(bytes.buffer));
  return unpacked(bytes, Number(type.slice("bits".length)));
}

const data = JSON.parse(document.getElementById("data").textContent);
const names = data.names, cap = data.cap || Infinity;
// A window of size x size pixels, `stride` apart, has `side` positions in a row and in a column.
const { size, stride, side, regions, mirror, twoSided, bilinear, odd } = data.window;
const SIDE = 32, AREA = SIDE * SIDE, PIXELS = 3 * AREA; // of an image
const whole = size === SIDE;
const inputs = 3 * size * size; // numbers in a patch
const [k, F] = data.arrays.W1.shape; // numbers that a filter sees, and filters
const H = twoSided ? 2 * F : F; // hidden units
const n = side * side, q = regions * regions, C = names.length; // positions, regions, classes
const rows = mirror ? 2 * n : n; // of a1

const W1 = decoded(data.arrays.W1), W2 = decoded(data.arrays.W2), b2 = decoded(data.arrays.b2);
const scale = decoded(data.arrays.scale), shift = decoded(data.arrays.shift);
const P = data.arrays.P && decoded(data.arrays.P), mean = P && decoded(data.arrays.mean);

function transposed(A, rowCount, columnCount) {
  const out = new Float32Array(A.length);
  for (let i = 0; i < rowCount; i++)
    for (let j = 0; j < columnCount; j++) out[j * rowCount + i] = A[i * columnCount + j];
  return out;
}

// With mirror, the rows of W1 for the odd components of a patch, which come first, and the others.
const throughEven = prepared(W1.subarray(odd * F), k - odd, F, n);
const throughOdd = mirror && prepared(W1.subarray(0, odd * F), odd, F, n);
const throughP = P && prepared(P, inputs, k, n);
// The way back to pixels, which only votes of the whole image take.
const backThroughW1 = whole && prepared(transposed(W1, k, F), F, k, C);
const backThroughP = whole && P && prepared(transposed(P, inputs, k), k, inputs, C);

// ---- Positions and regions ----------------------------------------------------------------------

// How much a step along a row, or a column, of positions counts in each region there: 1 in the one
// that its middle lies in. Bilinear regions are points, and it counts by its nearness to them.
function weightsAlong(step) {
  const nearness = (region) => 1 - Math.abs(region - (step * (regions - 1)) / (side - 1));
  const middle = Math.floor(((2 * step + 1) * regions) / (2 * side));
  return Array.from({ length: regions }, (_, region) =>
    bilinear ? Math.max(0, nearness(region)) : Number(region === middle));
}

// The matrix R of pooling by row of a1: the regions r in which it counts, { r, share }. The shares
// of a region sum to 1. A flipped filter counts where its position is in the flipped image.
function regionsOfRows() {
  const along = Array.from({ length: side }, (_, step) => weightsAlong(step));
  const totals = new Float64Array(q);
  const matrix = Array.from({ length: rows }, (_, row) => {
    const position = row % n, flipped = row >= n, right = position % side;
    const inRow = along[Math.floor(position / side)];
    const inColumn = along[flipped ? side - 1 - right : right];
    const all = Array.from(totals, (_, r) => ({
      r, share: inRow[Math.floor(r / regions)] * inColumn[r % regions],
    }));
    return all.filter(({ share }) => share > 0);
  });
  for (const each of matrix.flat()) totals[each.r] += each.share;
  for (const each of matrix.flat()) each.share /= totals[each.r];
  return matrix;
}

const R = regionsOfRows();

// The region in which each position counts most.
const mainRegion = R.slice(0, n).map((all) => all.reduce((a, b) => (b.share > a.share ? b : a)).r);

// What a visitor points at and switches off: positions of the window; of a network that sees the
// whole image, pixels.
const columns = whole ? SIDE : side;
const cells = columns * columns;
const allOn = () => ({ cells: new Uint8Array(cells).fill(1), filters: new Uint8Array(H).fill(1) });

// ---- Forward ------------------------------------------------------------------------------------

// X (n, k) of an image (3072,) in 0..255: the patch at each position, channel by channel; with a
// map, (patch - mean) P.
function layerInput(image) {
  const patches = new Float32Array(n * inputs);
  let at = 0;
  for (let position = 0; position < n; position++) {
    const top = stride * Math.floor(position / side), left = stride * (position % side);
    for (let channel = 0; channel < 3; channel++)
      for (let y = top; y < top + size; y++)
        for (let x = left; x < left + size; x++)
          patches[at++] = image[AREA * channel + SIDE * y + x] / 255;
  }
  if (!P) return patches;
  for (let i = 0; i < patches.length; i++) patches[i] -= mean[i % inputs];
  return product(patches, n, throughP).slice(); // the next image overwrites the product
}

const activation = (z) => Math.min(Math.max(0, z), cap);

// Some columns of X (n, k): (n, last - first).
function columnsOf(X, first, last) {
  const width = last - first, out = new Float32Array(n * width);
  for (let position = 0; position < n; position++)
    out.set(X.subarray(position * k + first, position * k + last), position * width);
  return out;
}

// a1 (rows, H) from X (n, k).
function hiddenLayer(X) {
  return mirror ? mirroredHiddenLayer(X) : plainHiddenLayer(X);
}

function plainHiddenLayer(X) {
  const z = product(X, n, throughEven), a1 = new Float32Array(n * H);
  for (let position = 0; position < n; position++) {
    const at = position * H, from = position * F;
    for (let h = 0; h < H; h++) a1[at + h] = activation(scale[h] * z[from + (h % F)] + shift[h]);
  }
  return a1;
}

// Flipping a patch negates its odd components, the first columns of X, and keeps the others. So two
// products, which together cost no more than X W1, serve a filter and its mirror image.
function mirroredHiddenLayer(X) {
  const zEven = product(columnsOf(X, odd, k), n, throughEven);
  const zOdd = product(columnsOf(X, 0, odd), n, throughOdd);
  const a1 = new Float32Array(2 * n * H), flipped = a1.subarray(n * H);
  for (let position = 0; position < n; position++) {
    const at = position * H, from = position * F;
    for (let h = 0; h < H; h++) {
      const f = from + (h % F);
      const even = scale[h] * zEven[f] + shift[h], difference = scale[h] * zOdd[f];
      a1[at + h] = activation(even + difference);
      flipped[at + h] = activation(even - difference);
    }
  }
  return a1;
}

// s (q, H): the means over the positions of each region. What is switched off counts as 0.
function pool(a1, on) {
  const s = new Float32Array(q * H);
  for (let row = 0; row < rows; row++) {
    if (!whole && !on.cells[row % n]) continue;
    for (const { r, share } of R[row])
      for (let h = 0; h < H; h++) s[r * H + h] += share * a1[row * H + h];
  }
  for (let i = 0; i < q * H; i++) s[i] *= on.filters[i % H];
  return s;
}

function logits(s) {
  const z2 = Float64Array.from(b2);
  for (let i = 0; i < q * H; i++) {
    if (s[i]) for (let c = 0; c < C; c++) z2[c] += s[i] * W2[i * C + c];
  }
  return z2;
}

// The largest logit is subtracted first, so that exp can't overflow.
function softmax(z2) {
  const largest = z2.reduce((a, b) => Math.max(a, b));
  const y = z2.map((z) => Math.exp(z - largest));
  const sum = y.reduce((a, b) => a + b);
  return y.map((each) => each / sum);
}

// Pixels that are switched off are black: a black pixel has no vote.
function withoutCells(image, on) {
  if (!whole) return image;
  return image.map((value, p) => value * on.cells[p % AREA]);
}

// Everything that the page shows of an image. on: the cells and filters that are switched on.
function forward(image, on = allOn()) {
  const seen = withoutCells(image, on);
  const X = layerInput(seen), a1 = hiddenLayer(X);
  const s = pool(a1, on), z2 = logits(s);
  return { image: seen, on, X, a1, s, z2, y: softmax(z2) };
}

// ---- Why: the votes of each position and of each filter. See support/network/votes.py -----------

// The votes of each cell for some classes: maps[i][cell], with
// z2[classes[i]] = rest + the sum of maps[i].
function votes(result, classes) {
  return whole ? pixelVotes(result, classes) : positionVotes(result, classes);
}

// sum_{r, h} R[r, row] a1[row, h] W2[r h, c] of the rows at a position. The rest is b2.
function positionVotes({ a1, on }, classes) {
  const maps = classes.map(() => new Float32Array(n));
  for (let row = 0; row < rows; row++) {
    const position = row % n;
    if (!on.cells[position]) continue;
    for (let h = 0; h < H; h++) {
      const a = a1[row * H + h] * on.filters[h];
      if (a === 0) continue; // most activations are 0
      for (const { r, share } of R[row]) {
        const weights = (r * H + h) * C;
        for (let i = 0; i < classes.length; i++)
          maps[i][position] += share * a * W2[weights + classes[i]];
      }
    }
  }
  return maps;
}

// ReLU' (13): whether a filter of the whole image is above 0 and below the cap, and switched on.
function isActive({ a1, on }, row, h) {
  const a = a1[row * H + h];
  return a > 0 && a < cap && on.filters[h] === 1;
}

// Each pixel times dz2[c]/dx, summed over its three channels. The biases are in the rest.
function pixelVotes(result, classes) {
  const maps = classes.map(() => new Float32Array(AREA));
  for (let row = 0; row < rows; row++)
    gradientsThrough(result, row, classes).forEach((gradient, i) => {
      const seen = row === 0 ? gradient : flippedPatch(gradient); // of the flipped filters
      timesImage(seen, result.image).forEach((vote, pixel) => (maps[i][pixel] += vote));
    });
  return maps;
}

// dz2[c]/dx through the activations of one row, (3072,) for each class.
function gradientsThrough(result, row, classes) {
  const slopes = new Float32Array(classes.length * F); // dz2[c] / d(X W1)[f]
  const [{ share }] = R[row];
  for (let h = 0; h < H; h++) {
    if (!isActive(result, row, h)) continue;
    for (let i = 0; i < classes.length; i++)
      slopes[i * F + (h % F)] += share * scale[h] * W2[h * C + classes[i]];
  }
  let gradients = product(slopes, classes.length, backThroughW1);
  if (P) gradients = product(gradients, classes.length, backThroughP);
  return classes.map((_, i) => gradients.slice(i * PIXELS, (i + 1) * PIXELS));
}

// Weights of pixels (3072,) times the image, summed over the three channels: (1024,).
function timesImage(weights, image) {
  const out = new Float32Array(AREA);
  for (let p = 0; p < PIXELS; p++) out[p % AREA] += (weights[p] * image[p]) / 255;
  return out;
}

// W2 of class c, or of c minus another class, in the order of s: (q H).
function outputWeights(c, against = null) {
  return Float32Array.from({ length: q * H }, (_, i) =>
    W2[i * C + c] - (against === null ? 0 : W2[i * C + against]));
}

// The share of each filter in a sum of votes, (H,): of all cells, or of one.
function filterVotes(result, weights, cell = null) {
  if (cell === null) return sumsOverRegions(result.s, weights);
  return whole ? filterVotesOfPixel(result, weights, cell) : filterVotesAt(result, weights, cell);
}

function sumsOverRegions(s, weights) {
  const sums = new Float32Array(H);
  for (let i = 0; i < q * H; i++) sums[i % H] += s[i] * weights[i];
  return sums;
}

function filterVotesAt({ a1, on }, weights, position) {
  const sums = new Float32Array(H);
  if (!on.cells[position]) return sums;
  for (let row = position; row < rows; row += n)
    for (const { r, share } of R[row])
      for (let h = 0; h < H; h++)
        sums[h] += share * a1[row * H + h] * on.filters[h] * weights[r * H + h];
  return sums;
}

function filterVotesOfPixel(result, weights, pixel) {
  const sums = new Float32Array(H);
  for (let row = 0; row < rows; row++) {
    const drives = drivesOfPixel(result.image, pixel, row > 0), [{ share }] = R[row];
    for (let h = 0; h < H; h++)
      if (isActive(result, row, h)) sums[h] += share * drives[h % F] * scale[h] * weights[h];
  }
  return sums;
}

// What a pixel adds to X W1, (F,), or to that of the flipped filters.
function drivesOfPixel(image, pixel, flipped) {
  const drives = new Float32Array(F), column = pixel % SIDE;
  const weightOf = flipped ? pixel - column + SIDE - 1 - column : pixel;
  for (let channel = 0; channel < 3; channel++) {
    const value = image[pixel + AREA * channel] / 255, p = weightOf + AREA * channel;
    if (!P) for (let f = 0; f < F; f++) drives[f] += value * W1[p * F + f];
    else
      for (let j = 0; j < k; j++) {
        const seen = value * P[p * k + j];
        for (let f = 0; f < F; f++) drives[f] += seen * W1[j * F + f];
      }
  }
  return drives;
}

// The at most `top` filters with the largest sums above 0, the largest first.
function strongest(sums, top) {
  const filters = Array.from(sums, (adds, filter) => ({ filter, adds }));
  return filters.filter(({ adds }) => adds > 0).sort((a, b) => b.adds - a.adds).slice(0, top);
}

// ---- One filter ---------------------------------------------------------------------------------

// The weights of pixels that a filter amounts to, (3 size^2,): P W1, with the scale of (3).
function filterWeights(h) {
  const w = Float32Array.from({ length: k }, (_, j) => scale[h] * W1[j * F + (h % F)]);
  if (!P) return w;
  return Float32Array.from({ length: inputs }, (_, p) => {
    let sum = 0;
    for (let j = 0; j < k; j++) sum += P[p * k + j] * w[j];
    return sum;
  });
}

// The pixels of a patch, flipped left-right.
function flippedPatch(patch) {
  return patch.map((_, i) => patch[i - (i % size) + size - 1 - (i % size)]);
}

// What a filter would give in each row without the cap, (rows,). The cap makes many activations
// equal; this tells where the filter fits best, as `strongest` in support/network/votes.py does.
function responses(X, h) {
  const out = new Float32Array(rows), f = h % F;
  for (let position = 0; position < n; position++) {
    let oddSum = 0, evenSum = 0;
    for (let j = 0; j < odd; j++) oddSum += X[position * k + j] * W1[j * F + f];
    for (let j = odd; j < k; j++) evenSum += X[position * k + j] * W1[j * F + f];
    out[position] = Math.max(0, scale[h] * (evenSum + oddSum) + shift[h]);
    if (mirror) out[n + position] = Math.max(0, scale[h] * (evenSum - oddSum) + shift[h]);
  }
  return out;
}

const indexOfLargest = (values) => values.indexOf(values.reduce((a, b) => Math.max(a, b)));

// Where a filter fits best: { position, flipped, response }.
function bestMatch(X, h) {
  const all = responses(X, h), row = indexOfLargest(all);
  return { position: row % n, flipped: row >= n, response: all[row] };
}

// The pictures in which a filter responds most, at most `top` of them, each with its best match.
// inputsOf: layerInput of each picture.
function topPatches(inputsOf, h, top) {
  const matches = inputsOf.map((X, picture) => ({ picture, ...bestMatch(X, h) }));
  return matches.filter(({ response }) => response > 0)
    .sort((a, b) => b.response - a.response || a.picture - b.picture).slice(0, top);
}
