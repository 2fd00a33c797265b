// The result: overlay, legend, pointer, stages and downloads. Everything here works on maps that the server sent once.
// `element`, `props` and `watch` come from Gradio. Text of others (classes, models, files) is only ever set as text.
const root = element.querySelector(".semask");
const find = (name, within = root) => within.querySelector(name);
const off = new Set(); // switched off: model and class
let opacity = 0.55, latest = 0, shown = [];

function make(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const percent = (share) => (100 * share).toFixed(1) + " %";

class Pane {
  constructor(data, maps, confidence, image) {
    this.data = data;
    this.maps = maps; // prediction, then the priors of the stages
    this.confidence = confidence;
    this.map = 0;
    this.box = make("section", "pane");
    this.box.setAttribute("aria-label", "Model " + data.model);
    this.box.append(make("h2", "", data.model), this.stage(image), this.readout(), this.slider(), this.legend(),
      this.downloads());
    this.draw();
  }

  stage(image) {
    this.view = make("div", "stage");
    this.view.style.width = "min(100%, 80vh * " + this.data.width / this.data.height + ")"; // all of it is on the screen
    this.view.tabIndex = 0;
    this.view.setAttribute("role", "group");
    this.view.setAttribute("aria-label", "Photo with the classes of " + this.data.model
      + ". Arrow keys move the pointer, with Shift in larger steps.");
    const picture = make("img");
    this.picture = picture;
    picture.src = image;
    picture.alt = "The photo";
    picture.draggable = false;
    this.canvas = make("canvas");
    this.canvas.width = this.data.width;
    this.canvas.height = this.data.height;
    this.canvas.style.opacity = opacity;
    this.canvas.setAttribute("aria-hidden", "true");
    this.cross = make("div", "cross");
    this.cross.hidden = true;
    this.view.append(picture, this.canvas, this.cross);
    for (const kind of ["pointermove", "pointerdown"]) {
      this.view.addEventListener(kind, (event) => {
        const area = this.canvas.getBoundingClientRect();
        point((event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height);
      });
    }
    this.view.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!step) return;
      event.preventDefault();
      const far = event.shiftKey ? 20 : 1, [x, y] = this.at || [this.data.width >> 1, this.data.height >> 1];
      const inside = (place, most) => (Math.min(Math.max(place, 0), most - 1) + 0.5) / most;
      point(inside(x + far * step[0], this.data.width), inside(y + far * step[1], this.data.height));
    });
    return this.view;
  }

  readout() {
    this.said = make("p", "readout", "Point at the photo to see the class there.");
    this.said.setAttribute("aria-live", "polite");
    return this.said;
  }

  slider() {
    if (this.data.without_priors) return make("p", "note", this.data.without_priors);
    const label = make("label", "slide", "Shown "), input = make("input", "stages"), output = make("output");
    const stages = this.data.priors.length;
    Object.assign(input, { type: "range", min: 1, max: stages + 1, step: 1, value: stages + 1 });
    const name = () => (this.map ? "prior of stage " + this.map + " of " + stages : "prediction");
    const tell = () => {
      output.textContent = name();
      input.setAttribute("aria-valuetext", name());
    };
    input.addEventListener("input", () => {
      this.map = Number(input.value) % (stages + 1);
      tell();
      this.draw();
      this.tellShares();
      this.tell();
    });
    tell();
    label.append(input, output);
    return label;
  }

  legend() {
    const { classes, colors, shares, model } = this.data;
    const box = make("fieldset", "legend"), list = make("ul"), buttons = make("div", "buttons");
    box.append(make("legend", "", "Classes"));
    this.rows = classes.map((name, index) => {
      const row = make("li"), label = make("label"), input = make("input"), chip = make("i"), share = make("span", "share");
      input.type = "checkbox";
      input.checked = !off.has(model + "\n" + name);
      chip.style.background = "rgb(" + colors[index].join(",") + ")";
      label.append(input, chip, make("span", "name", name), share);
      row.append(label);
      input.addEventListener("change", () => {
        off[input.checked ? "delete" : "add"](model + "\n" + name);
        this.draw();
      });
      return { row, input, share };
    });
    const order = classes.map((_, index) => index).sort((a, b) => shares[0][b] - shares[0][a]);
    list.append(...order.map((index) => this.rows[index].row));
    for (const [text, on] of [["Show all", true], ["Hide all", false]]) {
      const button = make("button", "", text);
      button.type = "button";
      button.addEventListener("click", () => {
        this.rows.forEach(({ input }, index) => {
          input.checked = on;
          off[on ? "delete" : "add"](model + "\n" + classes[index]);
        });
        this.draw();
      });
      buttons.append(button);
    }
    box.append(list, buttons);
    this.tellShares();
    return box;
  }

  tellShares() {
    this.rows.forEach(({ row, share }, index) => {
      const value = this.data.shares[this.map][index];
      share.textContent = percent(value);
      row.classList.toggle("absent", value === 0);
    });
  }

  downloads() {
    const box = make("div", "buttons downloads"), { files } = this.data;
    const add = (kind, text, name, content) => {
      const button = make("button", "", text);
      button.type = "button";
      button.dataset.kind = kind;
      button.addEventListener("click", async () => {
        const link = make("a");
        link.href = URL.createObjectURL(await content());
        link.download = name;
        link.click();
        setTimeout(() => URL.revokeObjectURL(link.href), 60000);
      });
      box.append(button);
    };
    add("picture", "Picture as shown (PNG)", files[0].name.replace(/\.[^.]*$/, "_overlay.png"), () => this.blended());
    for (const file of files) {
      add(file.kind, file.text, file.name, async () => new Blob([await unpack(file.data)], { type: file.type }));
    }
    return box;
  }

  blended() { // the photo with the classes that are switched on, in the opacity that is set
    const made = make("canvas"), context = made.getContext("2d");
    made.width = this.data.width;
    made.height = this.data.height;
    context.drawImage(this.picture, 0, 0, made.width, made.height);
    context.globalAlpha = opacity;
    context.drawImage(this.canvas, 0, 0);
    return new Promise((done) => made.toBlob(done, "image/png"));
  }

  draw() {
    const context = this.canvas.getContext("2d");
    const picture = context.createImageData(this.data.width, this.data.height);
    const table = new Uint8ClampedArray(4 * 256), pixels = new Uint32Array(picture.data.buffer);
    this.data.colors.forEach((color, index) => {
      if (this.rows[index].input.checked) table.set([...color, 255], 4 * index);
    });
    const colors = new Uint32Array(table.buffer), map = this.maps[this.map];
    for (let i = 0; i < pixels.length; i++) pixels[i] = colors[map[i]];
    context.putImageData(picture, 0, 0);
  }

  point(x, y) {
    const { width, height } = this.data;
    const column = Math.floor(x * width), row = Math.floor(y * height);
    if (column < 0 || row < 0 || column >= width || row >= height) return;
    this.at = [column, row];
    this.cross.hidden = false;
    this.cross.style.left = 100 * x + "%";
    this.cross.style.top = 100 * y + "%";
    this.tell();
  }

  tell() {
    if (!this.at) return;
    const [column, row] = this.at, place = row * this.data.width + column;
    const name = (map) => this.data.classes[map[place]] ?? "no class";
    const sure = this.confidence ? ", " + percent(this.confidence[place] / 255) : "";
    const prior = this.map ? name(this.maps[this.map]) + " (prior of stage " + this.map + "); prediction: " : "";
    this.said.textContent = prior + name(this.maps[0]) + sure;
  }
}

function point(x, y) {
  shown.forEach((pane) => pane.point(x, y));
}

async function show() {
  const turn = ++latest, panes = find(".panes"), data = props.value ? JSON.parse(props.value) : { panes: [] };
  find(".error").hidden = !data.error;
  find(".error").textContent = data.error || "";
  find(".hint").hidden = Boolean(props.value);
  find(".controls").hidden = data.panes.length === 0;
  const made = await Promise.all(data.panes.map(async (pane) => {
    const maps = await Promise.all([pane.label, ...pane.priors].map(unpack));
    return new Pane(pane, maps, pane.confidence && await unpack(pane.confidence), data.image);
  }));
  if (turn !== latest) return; // another photo came meanwhile
  shown = made;
  panes.replaceChildren(...made.map((pane) => pane.box));
  const scaled = find(".scaled");
  scaled.hidden = data.factor === 1;
  scaled.textContent = "Drawn at 1/" + data.factor + " of its size, " + data.width + " x " + data.height
    + " pixels. Downloads have all pixels.";
  const top = panes.getBoundingClientRect().top; // on a phone the result is below what one sees
  if (top > 0.7 * window.innerHeight) root.scrollIntoView({ block: "start" });
}

find(".opacity").addEventListener("input", (event) => {
  opacity = event.target.value / 100;
  find("output", event.target.parentElement).textContent = event.target.value + " %";
  shown.forEach((pane) => (pane.canvas.style.opacity = opacity));
});
watch("value", show);
show();

// A picture in the clipboard goes the way of a chosen file; Gradio's own button asks for a permission first.
document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files || [])].filter((file) => file.type.startsWith("image/"));
  const input = document.querySelector("#photo input[type=file]");
  if (!files.length || !input) return;
  const box = new DataTransfer();
  box.items.add(files[0]);
  input.files = box.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
});
