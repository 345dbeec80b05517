// What a visitor does, by mouse, touch and keyboard: each listener changes `state` and asks for a
// new picture of it.

"use strict";

// ---- Changes ------------------------------------------------------------------------------------

let scheduled = false; // whether a frame is due
let outdated = true; // whether `result` belongs to an earlier image

// Ink appears in the next frame, before the network computes: the forward pass starts after the
// browser has painted. However many changes come, there is one pass a frame.
function refresh() {
  if (scheduled) return;
  scheduled = true;
  requestAnimationFrame(() => {
    showPicture();
    setTimeout(() => {
      scheduled = false;
      if (outdated) compute();
      showAll();
    });
  });
}

function compute() {
  outdated = false;
  const start = performance.now();
  result = forward(state.image, state.on);
  times.push(performance.now() - start);
  result.maps = new Map();
  allOnLogits = isOff() ? forward(state.image).z2 : result.z2;
  showTime();
}

// Of the image, or of what is switched on.
function changed() {
  outdated = true;
  refresh();
}

const copyOfOn = () => ({ cells: state.on.cells.slice(), filters: state.on.filters.slice() });

// Call this before a change that undo should take back.
function remember() {
  state.history.push({ image: state.image.slice(), on: copyOfOn() });
  if (state.history.length > 200) state.history.shift();
}

function undo() {
  const before = state.history.pop();
  if (!before) return;
  Object.assign(state, before);
  changed();
}

// Show another picture. Filters that are switched off remain so, to compare pictures without them.
function take({ pixels, title, label }) {
  state.taken = { pixels, title, label };
  state.image = pixels.slice();
  state.on.cells.fill(1);
  state.history = [];
  state.chosen = state.against = null;
  state.pinned = state.hovered = null;
  problem("");
  changed();
}

function problem(text) {
  $("problem").textContent = text;
}

// ---- Drawing, erasing, switching off ------------------------------------------------------------

const tool = () => document.querySelector("[name=tool]:checked").value;

function use(x, y) {
  const left = Math.round(x - state.width / 2), top = Math.round(y - state.width / 2);
  const square = { left, top, right: left + state.width, bottom: top + state.width };
  if (tool() === "off") switchCellsOff(square);
  else paint(square, tool() === "erase" ? meanColour() : inkColour());
  changed();
}

// The mean colour of the picture that was taken, which tells the network least.
function meanColour() {
  return [0, 1, 2].map((channel) => {
    const part = state.taken.pixels.subarray(AREA * channel, AREA * (channel + 1));
    return Math.round(part.reduce((sum, value) => sum + value, 0) / AREA);
  });
}

// The colour of the input, "#rrggbb".
function inkColour() {
  return [1, 3, 5].map((at) => parseInt($("color").value.slice(at, at + 2), 16));
}

function paint({ left, top, right, bottom }, colour) {
  for (let y = Math.max(0, top); y < Math.min(SIDE, bottom); y++)
    for (let x = Math.max(0, left); x < Math.min(SIDE, right); x++)
      for (let channel = 0; channel < 3; channel++)
        state.image[AREA * channel + SIDE * y + x] = colour[channel];
}

// The cells whose coloured square overlaps the brush.
function switchCellsOff({ left, top, right, bottom }) {
  for (let i = 0; i < cells; i++) {
    const [x, y, width] = squareOf(i);
    if (x < right && x + width > left && y < bottom && y + width > top) state.on.cells[i] = 0;
  }
}

// ---- The two canvases ---------------------------------------------------------------------------

// The point of an event in pixels of the image.
function pointOf(event) {
  const box = event.currentTarget.getBoundingClientRect();
  return {
    x: (SIDE * (event.clientX - box.left)) / box.width,
    y: (SIDE * (event.clientY - box.top)) / box.height,
  };
}

// The cell whose middle is nearest to a point.
function cellAt({ x, y }) {
  const along = (value) => {
    const position = whole ? value - 0.5 : (value - size / 2) / stride;
    return Math.min(columns - 1, Math.max(0, Math.round(position)));
  };
  return along(y) * columns + along(x);
}

let last = null; // the point where the pointer was, while it is pressed

// Use the brush from the last point to this one, without gaps.
function stroke(point) {
  const from = last ?? point;
  const steps = Math.ceil(Math.hypot(point.x - from.x, point.y - from.y)) || 1;
  for (let i = 1; i <= steps; i++)
    use(from.x + ((point.x - from.x) * i) / steps, from.y + ((point.y - from.y) * i) / steps);
  last = point;
}

// The map is for pointing and switching off; only the picture can be drawn on.
function usesBrush(canvas) {
  return tool() === "off" || (tool() !== "look" && canvas === $("picture"));
}

function pressed(event) {
  const canvas = event.currentTarget, point = pointOf(event);
  canvas.setPointerCapture(event.pointerId);
  state.brush = null;
  if (usesBrush(canvas)) {
    remember();
    stroke(point);
    return;
  }
  const at = cellAt(point);
  state.pinned = state.pinned === at ? null : at; // a second press lets go
  state.hovered = null;
  last = point;
  refresh();
}

function moved(event) {
  const canvas = event.currentTarget, point = pointOf(event);
  if (usesBrush(canvas)) {
    // Positions between two frames come as coalesced events.
    if (last) for (const each of event.getCoalescedEvents()) stroke(pointIn(canvas, each));
    if (last) stroke(point);
    return;
  }
  const at = cellAt(point);
  if (last && at !== cellAt(last)) {
    state.pinned = at; // dragged, as by touch
    last = point;
  }
  state.hovered = event.pointerType === "mouse" ? at : null;
  refresh();
}

function pointIn(canvas, event) {
  return pointOf({ currentTarget: canvas, clientX: event.clientX, clientY: event.clientY });
}

function listenToPointer(canvas) {
  canvas.addEventListener("pointerdown", pressed);
  canvas.addEventListener("pointermove", moved);
  for (const end of ["pointerup", "pointercancel"])
    canvas.addEventListener(end, () => {
      last = null;
    });
  canvas.addEventListener("pointerleave", () => {
    state.hovered = null;
    refresh();
  });
}

const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

function clamped(value, most) {
  return Math.min(most, Math.max(0, value));
}

// Arrow keys on the picture, while the pointer looks: the next position.
function movePosition([down, right]) {
  const middle = columns >> 1, at = state.pinned ?? middle * columns + middle;
  const row = clamped(Math.floor(at / columns) + down, columns - 1);
  state.pinned = row * columns + clamped((at % columns) + right, columns - 1);
  state.hovered = null;
  refresh();
}

let shiftStroke = false; // shift has been held since the last remember()

function moveBrush([down, right], shift) {
  const [row, column] = state.brush ?? [SIDE / 2, SIDE / 2];
  state.brush = [clamped(row + down, SIDE - 1), clamped(column + right, SIDE - 1)];
  if (shift) {
    if (!shiftStroke) remember();
    shiftStroke = true;
    useBrush();
  }
  refresh();
}

function useBrush() {
  const [row, column] = state.brush;
  use(column + 0.5, row + 0.5);
}

function keyOnPicture(event) {
  const move = MOVES[event.key];
  if (!move && event.key !== " ") return;
  event.preventDefault(); // the page would scroll
  if (tool() === "look") {
    movePosition(move ?? [0, 0]);
  } else if (move) {
    moveBrush(move, event.shiftKey);
  } else {
    remember();
    moveBrush([0, 0], false);
    useBrush();
  }
}

function listenToKeys(canvas) {
  canvas.addEventListener("keydown", keyOnPicture);
  canvas.addEventListener("keyup", (event) => {
    if (event.key === "Shift") shiftStroke = false;
  });
  canvas.addEventListener("focus", () => {
    const byKeyboard = canvas.matches(":focus-visible");
    if (byKeyboard && tool() !== "look") state.brush = [SIDE / 2, SIDE / 2];
    refresh();
  });
  canvas.addEventListener("blur", () => {
    state.brush = null;
    shiftStroke = false;
    refresh();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") letGo();
    if (event.key === "z" && (event.ctrlKey || event.metaKey)) undo();
  });
}

function letGo() {
  state.chosen = state.against = null;
  state.pinned = state.hovered = null;
  state.filter = state.brush = null;
  refresh();
}

// ---- Buttons ------------------------------------------------------------------------------------

function listenToTools() {
  for (const radio of document.querySelectorAll("[name=tool]"))
    radio.addEventListener("change", () => {
      state.brush = null;
      refresh();
    });
  $("width").addEventListener("input", () => {
    state.width = Number($("width").value);
    refresh();
  });
  $("undo").addEventListener("click", undo);
  $("reset").addEventListener("click", () => replaceImage(state.taken.pixels));
  $("clear").addEventListener("click", () => replaceImage(new Uint8Array(PIXELS).fill(255)));
  $("all-on").addEventListener("click", () => {
    remember();
    state.on = allOn();
    changed();
  });
}

function replaceImage(pixels) {
  remember();
  state.image = pixels.slice();
  changed();
}

function chooseClass(c) {
  state.chosen = state.chosen === c ? null : c;
  if (state.against === c) state.against = null;
  refresh();
}

// The class that is compared stays the same when the likeliest one changes.
function compareWith(c) {
  const chosen = chosenClass();
  state.against = state.against === c ? null : c;
  state.chosen = chosen;
  refresh();
}

function listenToClasses() {
  $("rows").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const c = Number(button.closest("tr").dataset.class);
    if (button.className === "vs") compareWith(c);
    else chooseClass(c);
  });
  $("all-classes").addEventListener("change", refresh);
}

function switchCells(some) {
  remember();
  const on = some.some((i) => state.on.cells[i]) ? 0 : 1;
  for (const i of some) state.on.cells[i] = on;
  changed();
}

function switchFilter(filter) {
  remember();
  state.on.filters[filter] = 1 - state.on.filters[filter];
  changed();
}

function listenToPosition() {
  $("cell-off").addEventListener("click", () => switchCells([cell()]));
  $("region-off").addEventListener("click", () => switchCells(regionOfCell(cell())));
}

function listenToFilters() {
  $("filters").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const filter = Number(button.closest("figure").dataset.filter);
    if (button.className === "switch") switchFilter(filter);
    else showAtLarge(filter);
  });
  $("filter-off").addEventListener("click", () => switchFilter(state.filter));
  $("filter-close").addEventListener("click", () => showAtLarge(state.filter));
  $("matches").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    take(offered(Number(button.dataset.picture)));
    if (!whole) state.pinned = Number(button.dataset.position);
  });
}

function showAtLarge(filter) {
  state.filter = state.filter === filter ? null : filter;
  refresh();
}

// ---- Pictures -----------------------------------------------------------------------------------

async function openFile(file) {
  if (!file) {
    problem("There is no picture in it; give a file, or copy a picture.");
    return;
  }
  try {
    take({ pixels: await imageOf(file), title: file.name || "your picture", label: null });
  } catch (error) {
    problem(error.message);
  }
}

function listenToFiles() {
  $("file").addEventListener("change", (event) => {
    if (event.target.files.length) openFile(event.target.files[0]);
  });
  document.addEventListener("paste", (event) => openFile(event.clipboardData?.files[0]));
  for (const kind of ["dragover", "dragleave", "drop"])
    document.addEventListener(kind, (event) => {
      event.preventDefault(); // the browser would open the file
      document.body.classList.toggle("over", kind === "dragover");
      if (kind === "drop") openFile(event.dataTransfer?.files[0]);
    });
}

function offerPictures() {
  for (let i = 0; i < pictureCount; i++) {
    const picture = offered(i);
    const button = add($("pictures"), "button", { title: picture.title });
    button.setAttribute("aria-label", `picture ${i + 1}: ${picture.title}`);
    draw(add(button, "canvas", { width: 64, height: 64 }), picture.pixels, SIDE);
    button.addEventListener("click", () => take(picture));
  }
}

// ---- Start --------------------------------------------------------------------------------------

// A link can open the page on a view: demo.html#picture=4&class=3&against=5&position=40&filter=7,
// each counted from 0.
function openOn(wanted) {
  const index = (name, count) => {
    const text = wanted.get(name) ?? "";
    return /^\d+$/.test(text) && Number(text) < count ? Number(text) : null;
  };
  take(offered(index("picture", pictureCount) ?? 0));
  state.chosen = index("class", C);
  state.against = index("against", C);
  state.pinned = index("position", cells);
  state.filter = index("filter", H);
}

showAbout();
listenToPointer($("picture"));
listenToPointer($("map"));
listenToKeys($("picture"));
listenToTools();
listenToClasses();
listenToPosition();
listenToFilters();
listenToFiles();
offerPictures();
dark.addEventListener("change", refresh);
openOn(new URLSearchParams(location.hash.slice(1)));
