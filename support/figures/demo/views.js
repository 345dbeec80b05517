// What the page shows. Each function draws one part from `state` and `result`, and changes neither.

"use strict";

const $ = (id) => document.getElementById(id);
const MOST_CLASSES = 10; // rows of the table, unless all classes are asked for
const MOST_FILTERS = 6, MOST_PATCHES = 9;
const BLOCK = 8; // pixels of a side of what "this region" is in a network that sees the whole image

// ---- What is shown ------------------------------------------------------------------------------

const pictures = decoded(data.pictures);
const pictureAt = (i) => pictures.slice(PIXELS * i, PIXELS * (i + 1));
const pictureCount = pictures.length / PIXELS;

const state = {
  taken: null, // the picture that a visitor chose, { pixels, title, label }
  image: new Uint8Array(PIXELS), // the same with what was drawn on it
  on: allOn(), // the cells and filters that are switched on
  history: [], // of { image, on } before each change, for undo
  chosen: null, // a class; null for the likeliest
  against: null, // the class that it is compared with
  hovered: null, // the cell under the pointer
  pinned: null, // the cell that was pressed, or moved to by keyboard
  filter: null, // the filter that is shown at large
  brush: null, // [row, column] of the keyboard's brush, in pixels
  width: 3, // of the brush, in pixels
};
let result = null; // forward(state.image, state.on), with maps of votes as they are needed
let allOnLogits = null; // z2 with everything switched on

const isOff = () => state.on.cells.includes(0) || state.on.filters.includes(0);
const order = () => Array.from(result.y.keys()).sort((a, b) => result.y[b] - result.y[a] || a - b);
const chosenClass = () => state.chosen ?? order()[0];
const againstClass = () => (state.against === chosenClass() ? null : state.against);
const cell = () => state.hovered ?? state.pinned;

// The classes of the table, in the order of the labels; of many, the likeliest ones.
function tableClasses() {
  if (C <= MOST_CLASSES || $("all-classes").checked) return Array.from(result.y.keys());
  const some = order().slice(0, MOST_CLASSES);
  for (const c of [chosenClass(), againstClass()])
    if (c !== null && !some.includes(c)) some.push(c);
  return some;
}

// The votes of some classes, computed once for each result.
function mapsOf(classes) {
  const missing = classes.filter((c) => !result.maps.has(c));
  if (missing.length) votes(result, missing).forEach((map, i) => result.maps.set(missing[i], map));
  return classes.map((c) => result.maps.get(c));
}

// The map that is shown: votes for the chosen class, minus those for the other one, if any.
function shownMap() {
  const other = againstClass();
  const [map, otherMap] = mapsOf(other === null ? [chosenClass()] : [chosenClass(), other]);
  return otherMap ? map.map((vote, i) => vote - otherMap[i]) : map;
}

// ---- Numbers and words --------------------------------------------------------------------------

const sign = (text) => text.replace("-", "−");

function number(value, digits = 2) {
  const size = Math.abs(value);
  if (size >= 1e5) return sign(value.toExponential(1));
  const text = value.toFixed(digits);
  return Number(text) === 0 ? (0).toFixed(digits) : sign(text);
}

const signed = (value, digits) => (value < 0 ? "" : "+") + number(value, digits);
const percent = (p) => `${(100 * p).toFixed(1)}%`;
const plural = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;

// A total and its parts to some digits such that the parts as printed sum to the total as printed:
// all parts are rounded down, then those that lost most are rounded up, as many as the total needs.
// See rounded_sum in support/network/votes.py.
function roundedSum(total, parts, digits = 2) {
  const unit = 10 ** digits, sum = Math.round(total * unit);
  const exact = parts.map((part) => part * unit), rounded = exact.map(Math.floor);
  const missing = sum - rounded.reduce((a, b) => a + b, 0);
  const losses = exact.map((each, i) => each - rounded[i]);
  const byLoss = Array.from(parts.keys()).sort((a, b) => losses[b] - losses[a]);
  for (const i of byLoss.slice(0, missing)) rounded[i]++;
  return [sum, ...rounded].map((each) => each / unit);
}

// The middle of a cell in pixels, counted from 1, as "row 3, column 5".
function whereIs(i) {
  const middle = whole ? 0 : size / 2, step = whole ? 1 : stride;
  const row = 1 + middle + step * Math.floor(i / columns);
  const column = 1 + middle + step * (i % columns);
  return `row ${row}, column ${column}`;
}

// The square of pixels that a cell sees: { left, top, width }.
function windowOf(i) {
  const step = whole ? 1 : stride;
  return {
    left: step * (i % columns), top: step * Math.floor(i / columns), width: whole ? 1 : size,
  };
}

// The cells of the region of a cell: those that mainly count there, or a block of pixels.
function regionOfCell(i) {
  const blockRow = (each) => Math.floor(each / columns / BLOCK);
  const blockColumn = (each) => Math.floor((each % columns) / BLOCK);
  const key = (each) => (whole ? blockRow(each) * columns + blockColumn(each) : mainRegion[each]);
  return Array.from({ length: cells }, (_, each) => each).filter((each) => key(each) === key(i));
}

// ---- Drawing ------------------------------------------------------------------------------------

const dark = matchMedia("(prefers-color-scheme: dark)");
// Blue against red: a pair that colour-blind readers tell apart. The picture below a map is
// between `base` and `base` + `contrast`, so that colours stand out.
const LIGHT = {
  for: [178, 24, 43], against: [33, 102, 172], fires: [213, 94, 0], base: 190, contrast: 0.25,
};
const DARK = {
  for: [255, 107, 94], against: [90, 169, 255], fires: [240, 150, 50], base: 25, contrast: 0.3,
};
const palette = () => (dark.matches ? DARK : LIGHT);

const peak = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0) || 1;

function add(parent, tag, properties = {}) {
  return parent.appendChild(Object.assign(document.createElement(tag), properties));
}

// RGB pixels (3, length, length) in 0..255 as a canvas of that size.
function small(pixels, length) {
  const canvas = new OffscreenCanvas(length, length), pen = canvas.getContext("2d");
  const shown = pen.createImageData(length, length), area = length * length;
  for (let p = 0; p < area; p++)
    shown.data.set([pixels[p], pixels[area + p], pixels[2 * area + p], 255], 4 * p);
  pen.putImageData(shown, 0, 0);
  return canvas;
}

// Draw pixels over the whole canvas. The pen that is returned draws in units of a pixel.
function draw(canvas, pixels, length) {
  const pen = canvas.getContext("2d");
  pen.resetTransform();
  pen.scale(canvas.width / length, canvas.height / length);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(small(pixels, length), 0, 0, length, length);
  return pen;
}

// A cell as it is drawn in a map: [left, top, width]. Windows overlap, so that only the middle of
// a window is coloured.
function squareOf(i) {
  const width = whole ? 1 : stride, edge = whole ? 0 : (size - stride) / 2;
  return [edge + width * (i % columns), edge + width * Math.floor(i / columns), width];
}

// Draw values of the cells over the image, which is faint below: the larger, the more colour.
function drawOver(canvas, values, limit, positive) {
  const { base, contrast, against } = palette();
  const faint = new Float32Array(PIXELS);
  for (let p = 0; p < PIXELS; p++) {
    const i = p % AREA, image = state.image;
    const light = 0.3 * image[i] + 0.59 * image[AREA + i] + 0.11 * image[2 * AREA + i];
    faint[p] = base + contrast * light;
  }
  const pen = draw(canvas, faint, SIDE);
  values.forEach((value, i) => {
    const [left, top, width] = squareOf(i);
    const opacity = Math.min(1, Math.abs(value) / limit);
    pen.fillStyle = `rgba(${value > 0 ? positive : against}, ${opacity})`;
    pen.fillRect(left, top, width, width);
  });
  crossOut(pen);
  return pen;
}

// A cross through each cell that is switched off.
function crossOut(pen) {
  state.on.cells.forEach((on, i) => {
    if (on) return;
    const [left, top, width] = squareOf(i);
    pen.fillStyle = dark.matches ? "#161616" : "#ffffff";
    pen.fillRect(left, top, width, width);
    pen.strokeStyle = dark.matches ? "#8a8a8a" : "#767676";
    pen.lineWidth = 0.15;
    pen.beginPath();
    pen.moveTo(left, top);
    pen.lineTo(left + width, top + width);
    pen.moveTo(left + width, top);
    pen.lineTo(left, top + width);
    pen.stroke();
  });
}

// White and black, so that one of them stands out on any picture.
function frame(pen, { left, top, width }) {
  for (const [style, thickness] of [["white", 1], ["#1a1a1a", 0.4]]) {
    pen.strokeStyle = style;
    pen.lineWidth = thickness;
    pen.strokeRect(left, top, width, width);
  }
}

// Weights of pixels: grey is 0.
function drawWeights(canvas, weights) {
  const largest = peak(weights);
  draw(canvas, weights.map((w) => 127.5 + (127.5 * w) / largest), size);
}

// The patch of an image (3072,) in a square of pixels.
function patchOf(image, { left, top, width }) {
  const patch = new Uint8Array(3 * width * width);
  for (let at = 0, channel = 0; channel < 3; channel++)
    for (let y = top; y < top + width; y++)
      for (let x = left; x < left + width; x++)
        patch[at++] = image[AREA * channel + SIDE * y + x];
  return patch;
}

// ---- The parts of the page ----------------------------------------------------------------------

function showAll() {
  showPicture();
  showTools();
  showSum();
  showMap();
  showClasses();
  showPosition();
  showFilters();
  showFilter();
  announce();
}

function brushSquare([row, column]) {
  const { width } = state;
  const first = (middle) => Math.round(middle + 0.5 - width / 2);
  return { left: first(column), top: first(row), width };
}

function showPicture() {
  const pen = draw($("picture"), state.image, SIDE);
  crossOut(pen);
  if (state.brush) frame(pen, brushSquare(state.brush));
  else if (cell() !== null) frame(pen, windowOf(cell()));
  const { title, label } = state.taken;
  const isNamed = label === null || title.includes(names[label]);
  const truth = isNamed ? "" : `, label: ${names[label]}`;
  $("title").textContent = $("title").title = `${title}${truth}`;
  const use = "32 by 32 pixels, to point at and draw on";
  $("picture").setAttribute("aria-label", `${title}${truth}, ${use}`);
}

function showTools() {
  $("undo").disabled = state.history.length === 0;
  $("all-on").hidden = !isOff();
}

function showMap() {
  const map = shownMap(), other = againstClass(), name = names[chosenClass()];
  const shown = tableClasses();
  // One scale for all classes, so that maps can be compared.
  const limit = peak(Float32Array.from([...mapsOf(shown), map], peak));
  const pen = drawOver($("map"), map, limit, palette().for);
  if (cell() !== null) frame(pen, windowOf(cell()));
  const question = other === null ? `Votes for ${name}` : `Why ${name} and not ${names[other]}`;
  $("question").textContent = $("question").title = question;
  const most = `most for it at ${whereIs(indexOfLargest(map))}`;
  $("map").setAttribute("aria-label", `${question}: ${$("sum").textContent} ${most}`);
  const [low, , high] = $("ends").children;
  low.textContent = `−${limit.toPrecision(2)}`;
  high.textContent = `+${limit.toPrecision(2)}`;
}

// The logit as a sum, or the difference of two logits: the logarithm of the odds.
function showSum() {
  const map = shownMap(), c = chosenClass(), other = againstClass(), { z2 } = result;
  const pro = map.reduce((sum, vote) => sum + Math.max(vote, 0), 0);
  const contra = map.reduce((sum, vote) => sum + Math.min(vote, 0), 0);
  const exact = other === null ? z2[c] : z2[c] - z2[other];
  const [total, plus, minus, rest] = roundedSum(exact, [pro, contra, exact - pro - contra]);
  const biases = other === null ? "bias" : "biases";
  const bias = `${rest < 0 ? "−" : "+"} ${number(Math.abs(rest))} ${biases}`;
  const sum = `${number(total)} = ${number(plus)} for − ${number(-minus)} against ${bias}`;
  $("sum").textContent = other === null ? `Logit of ${names[c]}: ${sum}.` : `Log-odds: ${sum}.`;
  $("log-odds").textContent = other === null ? "" : odds(exact, c, other);
}

function odds(logOdds, c, other) {
  const [likelier, less] = logOdds < 0 ? [other, c] : [c, other];
  const times = Math.exp(Math.abs(logOdds));
  const amount = times < 1000 ? times.toPrecision(3) : times.toExponential(1);
  return `${names[likelier]} is ${amount} times as likely as ${names[less]}.`;
}

function showClasses() {
  const classes = tableClasses(), likeliest = order()[0], table = $("rows");
  while (table.children.length < classes.length) addRow(table);
  Array.from(table.children).forEach((row, i) => (row.hidden = i >= classes.length));
  const maps = cell() === null ? null : mapsOf(classes);
  classes.forEach((c, i) => {
    const row = table.children[i];
    row.dataset.class = c;
    row.className = c === chosenClass() ? "chosen" : c === againstClass() ? "against" : "";
    row.classList.toggle("likeliest", c === likeliest);
    showRow(row, c, maps && maps[i][cell()]);
  });
  $("all-classes-part").hidden = C <= MOST_CLASSES;
}

function showRow(row, c, here) {
  const [name, probability, logit, votesHere, compare] = row.children;
  const { y, z2 } = result;
  name.firstChild.textContent = name.firstChild.title = names[c];
  name.firstChild.setAttribute("aria-pressed", c === chosenClass());
  name.lastChild.firstChild.style.width = `${100 * y[c]}%`;
  probability.textContent = percent(y[c]);
  logit.firstChild.textContent = number(z2[c]);
  const change = z2[c] - allOnLogits[c];
  logit.lastChild.textContent = isOff() ? signed(change) : "";
  votesHere.textContent = here === null ? "" : signed(here, 3);
  const button = compare.firstChild;
  button.hidden = c === chosenClass();
  button.setAttribute("aria-pressed", c === againstClass());
  button.setAttribute("aria-label", `compare ${names[chosenClass()]} with ${names[c]}`);
}

// A row of the table, whose texts showRow fills in.
function addRow(table) {
  const row = add(table, "tr"), name = add(row, "th", { scope: "row" });
  add(name, "button", { className: "name" });
  add(add(name, "span", { className: "track" }), "span");
  add(row, "td", { className: "number" });
  const logit = add(row, "td", { className: "number" });
  add(logit, "span");
  add(logit, "span", { className: "change" });
  add(row, "td", { className: "number" });
  add(add(row, "td", { className: "last" }), "button", { className: "vs", textContent: "vs" });
}

function showPosition() {
  const at = cell(), word = whole ? "pixel" : "position";
  $("position-body").hidden = at === null;
  if (at === null) {
    $("position-title").textContent = `Point at a ${word} in the picture or the map`;
    return;
  }
  const square = windowOf(at), { left, top, width } = square;
  draw($("patch"), patchOf(state.image, square), width);
  $("position-title").textContent = `The ${word} at ${whereIs(at)}`;
  const end = (first) => (width === 1 ? `${first + 1}` : `${first + 1} to ${first + width}`);
  $("patch").setAttribute("aria-label", `rows ${end(top)}, columns ${end(left)} of the picture`);
  const what = whole ? "" : `Its window: rows ${end(top)}, columns ${end(left)}. `;
  const vote = shownMap()[at], other = againstClass();
  const against = other === null ? "" : ` against ${names[other]}`;
  $("position-text").textContent =
    `${what}Its votes for ${names[chosenClass()]}${against}: ${signed(vote, 3)}.`;
  const area = regionOfCell(at);
  $("cell-off").textContent = `Switch this ${word} ${state.on.cells[at] ? "off" : "on"}`;
  const regionOn = area.some((each) => state.on.cells[each]);
  $("region-off").textContent =
    `Switch its region (${plural(area.length, word)}) ${regionOn ? "off" : "on"}`;
}

// The filters with the largest votes for the shown question, of all cells or of one.
function shownFilters() {
  const weights = outputWeights(chosenClass(), againstClass());
  return strongest(filterVotes(result, weights, cell()), MOST_FILTERS);
}

// Filters that are switched off, which have no votes, remain in sight to be switched on again.
function filtersInSight() {
  const off = [];
  state.on.filters.forEach((on, filter) => on || off.push({ filter, adds: 0 }));
  return [...shownFilters(), ...off.slice(0, MOST_FILTERS)];
}

const signNote = twoSided ? `Filter ${F} + f is filter f with its sign reversed. ` : "";

function showFilters() {
  const other = againstClass(), name = names[chosenClass()], at = cell();
  const what = other === null ? `for ${name}` : `for ${name} and not ${names[other]}`;
  const here = at === null ? "" : `, at this ${whole ? "pixel" : "position"}`;
  $("filters-title").textContent = `Filters with most votes ${what}${here}`;
  const filters = filtersInSight();
  const rightHalf = whole
    ? "what each pixel adds to it"
    : "where it fires, framed where it fits best";
  $("filters-text").textContent = filters.length
    ? `Left the filter's weights, grey is 0; right ${rightHalf}. ${signNote}` +
      "Press one for its top patches."
    : "No filter has votes for it.";
  const cards = $("filters");
  while (cards.children.length < filters.length) addCard(cards);
  Array.from(cards.children).forEach((card, i) => (card.hidden = i >= filters.length));
  filters.forEach((each, i) => showCard(cards.children[i], each));
}

function addCard(cards) {
  const card = add(cards, "figure", { className: "card" });
  const pair = add(card, "button", { className: "pair" });
  for (let i = 0; i < 2; i++) add(pair, "canvas", { width: 128, height: 128, role: "img" });
  add(card, "figcaption", { className: "number" });
  add(card, "button", { className: "switch" });
}

function showCard(card, { filter, adds }) {
  const [pair, caption, button] = card.children, [picture, map] = pair.children;
  const match = bestMatch(result.X, filter), on = state.on.filters[filter];
  card.dataset.filter = filter;
  card.classList.toggle("off", !on);
  pair.setAttribute("aria-pressed", filter === state.filter);
  drawFilter(picture, filter, match.flipped);
  drawFires(map, filter, match);
  caption.textContent = `Filter ${filter}: ${on ? signed(adds, 3) : "off"}`;
  if (!whole && match.response > 0) {
    const flipped = match.flipped ? ", flipped" : "";
    caption.textContent += `, fits best at ${whereIs(match.position)}${flipped}`;
  }
  button.textContent = on ? "Switch off" : "Switch on";
  button.setAttribute("aria-label", `${button.textContent} filter ${filter}`);
}

// A filter's weights of pixels, flipped if it fits best flipped.
function fittedWeights(filter, flipped) {
  const weights = filterWeights(filter);
  return flipped ? flippedPatch(weights) : weights;
}

function drawFilter(canvas, filter, flipped) {
  drawWeights(canvas, fittedWeights(filter, flipped));
  canvas.setAttribute("aria-label", `weights of filter ${filter}${flipped ? ", flipped" : ""}`);
}

// Where a filter fires, or what each pixel adds to it.
function drawFires(canvas, filter, match) {
  const values = whole
    ? timesImage(fittedWeights(filter, match.flipped), result.image)
    : activationsOf(filter);
  const pen = drawOver(canvas, values, peak(values), whole ? palette().for : palette().fires);
  if (!whole && match.response > 0) frame(pen, windowOf(match.position));
  const kind = whole ? "what pixels add to it" : "where it fires";
  canvas.setAttribute("aria-label", `${kind}: most at ${whereIs(indexOfLargest(values))}`);
}

// The activation of a filter at each position, as it is or flipped, whichever is larger.
function activationsOf(filter) {
  return Float32Array.from({ length: n }, (_, position) => {
    const plain = result.a1[position * H + filter];
    return mirror ? Math.max(plain, result.a1[(n + position) * H + filter]) : plain;
  });
}

// layerInput of each picture of the page, computed when a filter is first shown at large.
let inputsOfPictures = null;
function inputsAtHand() {
  inputsOfPictures ??= Array.from({ length: pictureCount }, (_, i) => layerInput(pictureAt(i)));
  return inputsOfPictures;
}

function showFilter() {
  const { filter } = state;
  $("filter-part").hidden = filter === null;
  if (filter === null) return;
  const match = bestMatch(result.X, filter);
  $("filter-title").textContent = `Filter ${filter}`;
  drawFilter($("filter"), filter, match.flipped);
  drawFires($("fires"), filter, match);
  const matches = topPatches(inputsAtHand(), filter, MOST_PATCHES);
  $("filter-text").textContent = firing(filter) + (matches.length
    ? "The pictures of this page in which it fires most, each with the patch that fits best:"
    : "It fires in no picture of this page.");
  $("filter-off").textContent = state.on.filters[filter] ? "Switch it off" : "Switch it on";
  $("matches").replaceChildren();
  for (const each of matches) addMatch($("matches"), each);
}

function firing(filter) {
  if (whole) return "";
  const count = activationsOf(filter).filter((a) => a > 0).length;
  return `It fires at ${count} of the ${n} positions of this picture. `;
}

function addMatch(parent, { picture, position, flipped, response }) {
  const square = whole ? { left: 0, top: 0, width: SIDE } : windowOf(position);
  const { title } = offered(picture), strength = number(response);
  const button = add(parent, "button", {
    title: `${title}, ${flipped ? "flipped, " : ""}response ${strength}`,
  });
  Object.assign(button.dataset, { picture, position });
  const canvas = add(button, "canvas", { width: 64, height: 64 });
  draw(canvas, patchOf(pictureAt(picture), square), square.width);
  add(button, "span", { textContent: title });
  add(button, "span", { className: "number", textContent: strength });
}

// A picture of the page as `take` takes it.
function offered(i) {
  const label = data.labels.length && data.labels[i] >= 0 ? data.labels[i] : null;
  const title = data.captions[i] ?? (label === null ? `picture ${i + 1}` : names[label]);
  return { pixels: pictureAt(i), title, label };
}

// ---- Texts that come up once or late ------------------------------------------------------------

function showAbout() {
  const cellWord = whole ? "pixel" : "position";
  $("intro").textContent =
    `Each ${cellWord} of a picture votes for and against each class. ` +
    "All votes and a bias sum to the logit, exactly. " +
    `Point at a ${cellWord}, press a class or a filter, draw on the picture, ` +
    "or switch parts off.";
  for (const [term, text] of Object.entries(data.about)) {
    const line = add($("about"), "div");
    add(line, "dt", { textContent: term });
    add(line, "dd", { textContent: text });
  }
  const bits = data.arrays.W1.type.replace(/\D+/, "");
  const line = add($("about"), "div");
  add(line, "dt", { textContent: "Weights" });
  add(line, "dd", { textContent: `in this file, W1 in ${bits} bits` });
}

const times = []; // of forward passes, in milliseconds
function showTime() {
  if (times.length < 3) return; // the browser compiles the program during the first ones
  const last = times.slice(-15).sort((a, b) => a - b), median = last[last.length >> 1];
  $("time").textContent =
    `A forward pass takes ${median.toFixed(1)} ms here (median of the last ${last.length}).`;
}

// To a screen reader, when the changes pause.
let pause = 0;
function announce() {
  clearTimeout(pause);
  pause = setTimeout(() => {
    const first = order().slice(0, 3).map((c) => `${names[c]} ${percent(result.y[c])}`);
    const here = [$("position-title"), $("position-text")].map((each) => each.textContent);
    const at = cell() === null ? "" : `${here.join(". ")} `;
    $("said").textContent = `${first.join(", ")}. ${at}${$("sum").textContent}`;
  }, 700);
}
