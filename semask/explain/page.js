"use strict";
// The page of an explanation: what is shown over the photo, the chosen location, and its semantic attention.
const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const [gridRows, gridColumns] = data.grid;
const last = data.steps.length - 1; // the decoder, after the stages
const state = { kind: "classes", step: last, row: gridRows >> 1, column: gridColumns >> 1 };

function bytes(text) {
  const raw = atob(text);
  return Uint8Array.from(raw, (character) => character.charCodeAt(0));
}

// Numbers of 16 bits, little-endian whatever the machine is, times the step of their channel.
function numbers(text, steps) {
  const view = new DataView(bytes(text).buffer);
  const found = new Float32Array(view.byteLength / 2);
  for (let i = 0; i < found.length; i++) found[i] = view.getInt16(2 * i, true) * steps[i % steps.length];
  return found;
}

const labels = data.labels.map(bytes);
const confidence = data.confidence.map(bytes);
const first = bytes(data.first), settled = bytes(data.settled);
const attention = data.attention.map((stage) =>
  stage.channels && { ...stage, query: numbers(stage.query, stage.queryStep), key: numbers(stage.key, stage.keyStep) });
const change = data.attention.map((stage) => numbers(stage.change, [stage.changeStep]));

// Row and column of the pixel in the middle of a cell of the grid.
const pixel = () => [[state.row, gridRows, 0], [state.column, gridColumns, 1]].map(
  ([place, count, axis]) => Math.floor(((place + 0.5) * data.size[axis]) / count));

// softmax(query key^T) of a token over its window or the whole map; padded tokens take part.
function weights(stage, token) {
  const [height, width] = stage.padded, channels = stage.channels, side = stage.window;
  const first = token.map((x) => (side ? x - (x % side) : 0));
  const end = [first[0] + (side || height), first[1] + (side || width)];
  const query = (token[0] * width + token[1]) * channels;
  const cells = [];
  let highest = -Infinity;
  for (let row = first[0]; row < end[0]; row++) {
    for (let column = first[1]; column < end[1]; column++) {
      const key = (row * width + column) * channels;
      let logit = 0;
      for (let i = 0; i < channels; i++) logit += stage.query[query + i] * stage.key[key + i];
      cells.push([row, column, logit]);
      highest = Math.max(highest, logit);
    }
  }
  let total = 0;
  for (const cell of cells) total += cell[2] = Math.exp(cell[2] - highest);
  for (const cell of cells) cell[2] /= total;
  return cells;
}

function tokenOf(stage) {
  return pixel().map((x, axis) =>
    Math.min(Math.floor(((x + 0.5) / data.size[axis]) * stage.covered[axis]), stage.size[axis] - 1));
}

const percent = (share) =>
  share > 0 && share < 0.0005 ? "< 0.1\u00a0%" : `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)}\u00a0%`;
const small = (share) => `${(100 * share).toPrecision(2)}\u00a0%`; // changes differ by powers of ten

// Cell of the grid in the middle of a token, if it is on the photo.
function cellOf(stage, row, column) {
  const place = [[row, gridRows, 0], [column, gridColumns, 1]].map(([x, count, axis]) =>
    Math.floor(((x + 0.5) / stage.covered[axis]) * count));
  return place[0] < gridRows && place[1] < gridColumns ? place[0] * gridColumns + place[1] : null;
}

const classOf = (step, cell) => data.classes[labels[step][cell]];

// Draws the attention of the chosen location; returns what is to be said of it.
function drawAttention() {
  const canvas = find("attention"), stage = attention[state.step];
  canvas.hidden = find("window").hidden = true;
  if (!last || !find("attend").checked) return "";
  if (state.step === last) return "Choose a stage to see what its semantic attention looks at.";
  if (!stage) return "The attention of this stage is too large for a page: use attention_of in Python, or a smaller --scale.";
  const token = tokenOf(stage), cells = weights(stage, token), [height, width] = stage.size;
  canvas.width = width;
  canvas.height = height;
  canvas.style.width = `${(100 * width) / stage.covered[1]}%`;
  canvas.style.height = `${(100 * height) / stage.covered[0]}%`;
  canvas.hidden = false;
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++) image.data.set([0, 0, 0, 90], 4 * i);
  let best = cells[0], outside = 0;
  for (const cell of cells) if (cell[2] > best[2]) best = cell;
  for (const [row, column, weight] of cells) {
    if (row >= height || column >= width) outside += weight;
    else image.data.set([255, 0, 128, Math.round(220 * Math.sqrt(weight / best[2]))], 4 * (row * width + column));
  }
  context.putImageData(image, 0, 0);
  if (stage.window) outline(stage, token);
  const scope = stage.window ? `its window of ${stage.window} x ${stage.window} tokens` : `all ${cells.length} tokens`;
  const shares = byClass(stage, cells).filter(([, share]) => share >= 0.0005).slice(0, 3)
    .map(([name, share]) => `${name} ${percent(share)}`).join(", ");
  const padding = outside >= 0.0005 ? ` Tokens of padding get ${percent(outside)}.` : "";
  return `Attends to ${scope}: ${shares || "padding"}. Most, ${percent(best[2])}, to ${named(stage, token, best)}.${padding}`;
}

// Frame around the window of a token, which may go beyond the photo.
function outline(stage, token) {
  const frame = find("window"), [top, left] = token.map((x) => x - (x % stage.window));
  frame.style.top = `${(100 * top) / stage.covered[0]}%`;
  frame.style.left = `${(100 * left) / stage.covered[1]}%`;
  frame.style.height = `${(100 * stage.window) / stage.covered[0]}%`;
  frame.style.width = `${(100 * stage.window) / stage.covered[1]}%`;
  frame.hidden = false;
}

// What a token is, seen from the chosen one: its class is that which the stage itself favors.
function named(stage, token, [row, column]) {
  if (row === token[0] && column === token[1]) return "itself";
  const cell = cellOf(stage, row, column);
  if (cell === null) return "padding";
  const [y, x] = [row, column].map((place, axis) => Math.floor(((place + 0.5) / stage.covered[axis]) * data.size[axis]));
  return `a token of ${classOf(state.step, cell).name} at row ${y}, column ${x}`;
}

// Attention that goes to each class which the stage itself favors, the most first.
function byClass(stage, cells) {
  const found = new Map();
  for (const [row, column, weight] of cells) {
    const cell = cellOf(stage, row, column);
    if (cell === null) continue;
    const { name } = classOf(state.step, cell);
    found.set(name, (found.get(name) || 0) + weight);
  }
  return [...found].sort((a, b) => b[1] - a[1]);
}

function swatch(color, text) {
  const item = document.createElement("li"), box = document.createElement("i");
  box.style.background = color;
  item.append(box, text);
  return item;
}

function drawKey() {
  const entries = state.kind !== "classes" ? data.keys[state.kind] : data.shares[state.step].map(([index, share]) =>
    [data.classes[index].color, `${data.classes[index].name} ${percent(share)}`]);
  find("key").replaceChildren(...entries.map(([color, text]) => swatch(color, text)));
}

function drawMap() {
  const found = data.pictures[state.kind], map = find("map");
  const source = Array.isArray(found) ? found[state.step] : found;
  map.hidden = !source;
  if (source) map.src = source;
  const step = data.steps[state.step], name = data.kinds[state.kind];
  map.alt = Array.isArray(found) ? `${name}: ${step}` : name;
  const exit = last && Array.isArray(found) ? `. ${data.exits[state.step]}` : "";
  find("shown").textContent = source ? map.alt + exit : `${name}: the decoder has no semantic layer, choose a stage.`;
  find("step").setAttribute("aria-valuetext", step);
  find("step").value = state.step;
  drawStrip(Array.isArray(found) ? found : data.pictures.classes);
  map.style.opacity = find("opacity").value / 100;
}

// A small picture of each step under the slider, which chooses the step.
function drawStrip(sources) {
  [...find("strip").children].forEach((button, place) => {
    const picture = button.firstChild, source = sources[place];
    picture.style.visibility = source ? "" : "hidden";
    if (source) picture.src = source;
    button.setAttribute("aria-pressed", String(place === state.step));
  });
}

function fillStrip() {
  document.documentElement.style.setProperty("--steps", data.steps.length);
  find("strip").replaceChildren(...data.steps.map((step, place) => {
    const button = document.createElement("button"), picture = document.createElement("img");
    button.type = "button";
    picture.alt = "";
    [picture.height, picture.width] = data.size;
    button.append(picture, step);
    button.addEventListener("click", () => { state.step = place; draw(); });
    return button;
  }));
}

// When a stage first had the final class of a cell, and from which stage on.
function since(cell) {
  if (!last) return `, with ${percent(confidence[0][cell] / 255)}.`;
  const [one, all] = [first[cell], settled[cell]];
  if (one === last) return ". Only the decoder says so.";
  if (one === all) return `, since ${data.steps[one]}.`;
  const then = all === last ? "but the last prior has another class" : `for good since ${data.steps[all]}`;
  return `. First at ${data.steps[one]}, ${then}.`;
}

// How far the semantic layer of a step changed the features at the chosen location; nothing for the decoder.
function changed(place) {
  const stage = data.attention[place];
  if (!stage) return "";
  const [row, column] = tokenOf(stage);
  return small(change[place][row * stage.size[1] + column]);
}

function drawLocation() {
  const cell = state.row * gridColumns + state.column, [y, x] = pixel();
  const mark = find("mark");
  mark.style.left = `${(100 * (x + 0.5)) / data.size[1]}%`;
  mark.style.top = `${(100 * (y + 0.5)) / data.size[0]}%`;
  find("beliefs").replaceChildren(...data.steps.map((step, place) => {
    const row = document.createElement("tr"), head = document.createElement("th"), sure = document.createElement("td");
    const name = document.createElement("td"), box = document.createElement("i"), entry = classOf(place, cell);
    const moved = document.createElement("td");
    head.scope = "row";
    head.textContent = step;
    box.style.background = entry.color;
    name.append(box, entry.name);
    sure.className = moved.className = "number";
    moved.textContent = changed(place);
    sure.textContent = percent(confidence[place][cell] / 255);
    row.className = place === state.step ? "here" : "";
    row.append(head, name, sure);
    if (last) row.append(moved);
    return row;
  }));
  find("said").textContent = `Row ${y}, column ${x}: ${classOf(last, cell).name}${since(cell)} ${drawAttention()}`.trim();
}

function draw() {
  drawMap();
  drawKey();
  drawLocation();
}

function move(rows, columns) {
  state.row = Math.min(Math.max(state.row + rows, 0), gridRows - 1);
  state.column = Math.min(Math.max(state.column + columns, 0), gridColumns - 1);
  drawLocation();
}

const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
find("picture").addEventListener("keydown", (event) => {
  const by = moves[event.key];
  if (!by) return;
  event.preventDefault();
  move(...by.map((x) => x * (event.shiftKey ? 10 : 1)));
});
function choose(event) {
  const box = find("picture").getBoundingClientRect();
  state.row = Math.floor(((event.clientY - box.top) / box.height) * gridRows);
  state.column = Math.floor(((event.clientX - box.left) / box.width) * gridColumns);
  move(0, 0);
}
find("picture").addEventListener("click", choose);
find("picture").addEventListener("pointermove", (event) => { // a finger scrolls the page
  if (event.pointerType === "mouse" && event.buttons === 1) choose(event);
});
find("step").addEventListener("input", () => { state.step = Number(find("step").value); draw(); });
find("opacity").addEventListener("input", drawMap);
find("attend").addEventListener("change", drawLocation);
for (const radio of document.getElementsByName("kind")) {
  radio.addEventListener("change", () => { state.kind = radio.value; draw(); });
}
find("controls").hidden = find("mark").hidden = false;
find("walk").hidden = !last;
for (const item of document.querySelectorAll(".stages")) item.hidden = !last; // nothing to say of a plain model
fillStrip();
draw();
