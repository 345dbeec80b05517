// The product of two matrices, in which a network spends nearly all of its time.
//
// plainProduct says what is computed. The rest of this file computes the same about ten times
// faster, with WebAssembly, whose instructions work on four numbers at once.
//
// Matrices are flat Float32Arrays, row by row: A (rows, inner) has A[i][p] at A[i * inner + p].

"use strict";

// A W: A (rows, inner), W (inner, columns) -> (rows, columns).
function plainProduct(A, rows, W, inner, columns) {
  const out = new Float32Array(rows * columns);
  for (let i = 0; i < rows; i++)
    for (let p = 0; p < inner; p++)
      for (let j = 0; j < columns; j++)
        out[i * columns + j] += A[i * inner + p] * W[p * columns + j];
  return out;
}

// ---- The same in WebAssembly --------------------------------------------------------------------
// Four rows of A meet eight columns of W at a time: 32 sums stay in the processor's registers, and
// each number that is read takes part in several products. For that, A is stored in panels of four
// rows and W in panels of eight columns, each panel ordered by p.

const ROWS_AT_A_TIME = 4, COLUMNS_AT_A_TIME = 8;
const PAGE = 65536; // bytes of a page of WebAssembly's memory

// WebAssembly's binary format, as far as the function below needs it.
// See https://webassembly.github.io/spec/core/binary/

const I32 = 0x7f, V128 = 0x7b;
const ADD = 0x6a, SUBTRACT = 0x6b;
const LOOP = [0x03, 0x40], END = 0x0b, REPEAT_IF_NOT_ZERO = [0x0d, 0];
const MULTIPLY_FOUR = [0xfd, 0xe6, 0x01], ADD_FOUR = [0xfd, 0xe4, 0x01];
const FOUR_ZEROS = [0xfd, 0x0c, ...Array(16).fill(0)];

const get = (local) => [0x20, local];
const set = (local) => [0x21, local];
const setAndKeep = (local) => [0x22, local];
const constant = (value) => [0x41, value]; // 0 to 63, which take one byte
const loadFour = (offset) => [0xfd, 0x00, 4, offset];
const loadOneFourTimes = (offset) => [0xfd, 0x09, 2, offset];
const storeFour = (offset) => [0xfd, 0x0b, 4, offset];

// An unsigned integer, seven bits a byte; the top bit says that another byte follows.
function integer(value) {
  return value < 128 ? [value] : [128 | (value & 127), ...integer(value >>> 7)];
}

const list = (items) => [...integer(items.length), ...items.flat()];
const section = (id, items) => {
  const content = list(items);
  return [id, ...integer(content.length), ...content];
};

// The body of the function product(A, W, out, rowPanels, length, columnPanels, panelOfA, panelOfW,
// rowOfOut). Addresses and the last three, which are distances, are in bytes.
function productBody() {
  const [A, W, out, rowPanels, length] = [0, 1, 2, 3, 4];
  const [columnPanels, panelOfA, panelOfW, rowOfOut] = [5, 6, 7, 8];
  const [a, w, o, p, rowsLeft, nextA, nextOut] = [9, 10, 11, 12, 13, 14, 15];
  const left = 16, right = 17, number = 18; // four numbers each
  const rows = [0, 1, 2, 3];
  const sumLeft = (row) => 19 + 2 * row, sumRight = (row) => 20 + 2 * row;

  const move = (local, distance) => [...get(local), ...distance, ADD, ...set(local)];
  const copy = (from, to) => [...get(from), ...set(to)];
  const repeat = (counter, body) => [
    ...LOOP, ...body,
    ...get(counter), ...constant(1), SUBTRACT, ...setAndKeep(counter), ...REPEAT_IF_NOT_ZERO, END,
  ];
  const addProduct = (sum, factor) => [
    ...get(sum), ...get(number), ...get(factor), ...MULTIPLY_FOUR, ...ADD_FOUR, ...set(sum),
  ];

  const addProducts = [ // of A[4 rows][p] and W[p][8 columns]
    ...get(w), ...loadFour(0), ...set(left),
    ...get(w), ...loadFour(16), ...set(right),
    ...rows.flatMap((row) => [
      ...get(a), ...loadOneFourTimes(4 * row), ...set(number),
      ...addProduct(sumLeft(row), left), ...addProduct(sumRight(row), right),
    ]),
    ...move(a, constant(16)), ...move(w, constant(32)),
  ];
  const fourRows = [
    ...rows.flatMap((row) => [
      ...FOUR_ZEROS, ...set(sumLeft(row)), ...FOUR_ZEROS, ...set(sumRight(row)),
    ]),
    ...copy(nextA, a), ...copy(W, w), ...copy(length, p), ...copy(nextOut, o),
    ...repeat(p, addProducts),
    ...rows.flatMap((row) => [
      ...get(o), ...get(sumLeft(row)), ...storeFour(0),
      ...get(o), ...get(sumRight(row)), ...storeFour(16),
      ...move(o, get(rowOfOut)),
    ]),
    ...copy(o, nextOut), ...move(nextA, get(panelOfA)),
  ];
  const eightColumns = [
    ...copy(A, nextA), ...copy(out, nextOut), ...copy(rowPanels, rowsLeft),
    ...repeat(rowsLeft, fourRows),
    ...move(W, get(panelOfW)), ...move(out, constant(32)),
  ];
  const locals = list([[7, I32], [11, V128]]);
  return [...locals, ...repeat(columnPanels, eightColumns), END];
}

function productModule() {
  const body = productBody();
  const m = "m".charCodeAt(0), memory = 2, func = 0;
  return new Uint8Array([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0], // "\0asm", version 1
    ...section(1, [[0x60, ...list(Array(9).fill(I32)), 0]]), // a type: nine integers, no result
    ...section(2, [[1, m, 1, m, memory, 0, 1]]), // import m.m, the memory
    ...section(3, [[0]]), // one function, of that type
    ...section(7, [[1, m, func, 0]]), // export it as m
    ...section(10, [[...integer(body.length), ...body]]),
  ]);
}

// The function and its memory; null in a browser without WebAssembly for four numbers at once.
function fastProduct() {
  try {
    const memory = new WebAssembly.Memory({ initial: 1 });
    const module = new WebAssembly.Module(productModule());
    const instance = new WebAssembly.Instance(module, { m: { m: memory } });
    return { run: instance.exports.m, memory, used: 0 };
  } catch {
    return null;
  }
}

let fast = fastProduct();

// Room for so many numbers in the memory; its address in bytes.
function reserve(count) {
  const address = fast.used;
  fast.used += 16 * Math.ceil(count / 4);
  const missing = fast.used - fast.memory.buffer.byteLength;
  if (missing > 0) fast.memory.grow(Math.ceil(missing / PAGE));
  return address;
}

// Write a matrix into the memory in panels of `width` rows, (rows / width, inner, width); missing
// rows of the last panel are 0. element(i, p) is the matrix's element.
function writePanels(address, element, rows, inner, width) {
  const size = Math.ceil(rows / width) * width * inner;
  const panels = new Float32Array(fast.memory.buffer, address, size);
  for (let at = 0, first = 0; first < rows; first += width)
    for (let p = 0; p < inner; p++)
      for (let i = first; i < first + width; i++) panels[at++] = i < rows ? element(i, p) : 0;
}

// W (inner, columns) made ready for products A W with an A of at most mostRows rows.
function prepared(W, inner, columns, mostRows) {
  const matrix = { W, inner, columns };
  if (!fast) return matrix;
  const rowPanels = Math.ceil(mostRows / ROWS_AT_A_TIME);
  const columnPanels = Math.ceil(columns / COLUMNS_AT_A_TIME);
  matrix.addressOfW = reserve(columnPanels * COLUMNS_AT_A_TIME * inner);
  matrix.addressOfA = reserve(rowPanels * ROWS_AT_A_TIME * inner);
  matrix.addressOfOut = reserve(rowPanels * ROWS_AT_A_TIME * columnPanels * COLUMNS_AT_A_TIME);
  writePanels(matrix.addressOfW, (j, p) => W[p * columns + j], columns, inner, COLUMNS_AT_A_TIME);
  return matrix;
}

// A W, with W as `prepared` returned it: A (rows, inner) -> (rows, columns). The next product with
// the same matrix overwrites the result.
function product(A, rows, matrix) {
  const { W, inner, columns, addressOfA, addressOfW, addressOfOut } = matrix;
  if (!fast) return plainProduct(A, rows, W, inner, columns);
  if (inner === 0) return new Float32Array(rows * columns); // the loops below run at least once
  writePanels(addressOfA, (i, p) => A[i * inner + p], rows, inner, ROWS_AT_A_TIME);
  const columnPanels = Math.ceil(columns / COLUMNS_AT_A_TIME);
  const width = columnPanels * COLUMNS_AT_A_TIME;
  fast.run(
    addressOfA, addressOfW, addressOfOut, Math.ceil(rows / ROWS_AT_A_TIME), inner, columnPanels,
    4 * inner * ROWS_AT_A_TIME, 4 * inner * COLUMNS_AT_A_TIME, 4 * width,
  );
  const padded = new Float32Array(fast.memory.buffer, addressOfOut, rows * width);
  return width === columns ? padded : withoutPadding(padded, rows, width, columns);
}

// The first `columns` of `width` columns.
function withoutPadding(padded, rows, width, columns) {
  const out = new Float32Array(rows * columns);
  for (let i = 0; i < rows; i++)
    out.set(padded.subarray(i * width, i * width + columns), i * columns);
  return out;
}
