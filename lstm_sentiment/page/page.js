// What one sees: the verdict, the words, the gates. Every text becomes a text node, nothing else.

// Of longer texts the last words are shown, and the network's states kept to go on from; of the
// words before them a state now and then.
const SHOWN = 600;
const KEPT_EVERY = 256;
const SLICE_MS = 12; // of reading at a time, in between the browser draws and listens
const SLICE_WORDS = 500;
const DRAWN_EVERY_MS = 2000; // all but the verdict, while it reads
const SLOWLY_MS = 280; // a word
const BOX = 20000; // characters; browsers take minutes to lay out a text field of much more
const PAUSE_MS = 500; // after which a word that is being typed counts as typed

const element = (id) => document.getElementById(id);
const ROWS = [
  ["verdict", "Verdict", "after each word, from {low} (0) to {high} (1)"],
  ["f", "Forget gate", "how much of what is remembered stays: 1 keeps all of it"],
  ["i", "Input gate", "how much of the new word is written into the memory"],
  ["o", "Output gate", "how much of the memory is shown to the rest of the network"],
  ["c", "Memory (cell state)", "how full it is: single units hold −1 to 1, signs left out in the mean"],
];

let network;
let tokens = [];
let steps = []; // what was read: for each token the state after it, verdict, means, milliseconds
let chosen = -1; // the word asked about; -1: the last one
let unit = -1; // the unit followed; -1: none
let boxed = true; // whether all of the text is in the box
let timer = 0; // of the reading under way
let pause = 0; // timer of the word that is being typed
let question = 0; // timer of what the review would be without a word
let drawn = -Infinity; // when all was last drawn
const rows = new Map();

// ---- Reading ----

function readAll(text, slowly = false) {
  clearTimeout(timer);
  clearTimeout(question);
  tokens = tokenize(text);
  let same = 0;
  while (same < steps.length && !slowly && steps[same].word === tokens[same]) same++;
  // All that will be shown needs its units, and the first word to read a state before it.
  if (same > 0 && !steps[Math.max(0, same - SHOWN)].units) same = Math.max(0, same - SHOWN);
  while (same > 0 && !steps[same - 1].state) same--;
  steps.length = same;
  if (chosen >= tokens.length) chosen = -1;
  slowly ? readSlowly() : readOn();
}

function readOn() {
  const end = performance.now() + SLICE_MS;
  for (let n = 0; n < SLICE_WORDS && steps.length < tokens.length; n++) {
    readWord();
    if (performance.now() > end) break;
  }
  const done = steps.length === tokens.length;
  if (done || performance.now() - drawn > DRAWN_EVERY_MS) draw();
  else drawVerdict();
  if (!done) timer = setTimeout(readOn);
}

function readSlowly() {
  if (steps.length < tokens.length) readWord();
  draw();
  if (steps.length < tokens.length) timer = setTimeout(readSlowly, SLOWLY_MS);
  else chooseBut();
}

function readWord() {
  const n = steps.length;
  const before = performance.now();
  const step = network.read(n ? steps[n - 1].state : network.start(), tokens[n]);
  step.ms = performance.now() - before;
  step.word = tokens[n];
  step.change = step.probability - (n ? steps[n - 1].probability : 0.5);
  const H = network.hidden;
  const cell = step.state.layers.at(-1).c.map(Math.tanh);
  step.units = { f: step.gates.subarray(0, H), i: step.gates.subarray(H, 2 * H),
                 o: step.gates.subarray(3 * H), c: cell };
  step.means = { verdict: step.probability };
  for (const name in step.units) {
    step.means[name] = step.units[name].reduce((sum, x) => sum + Math.abs(x), 0) / H;
  }
  steps.push(step);
  const old = n - SHOWN; // the state before the first word shown is still needed
  if (old >= 0) {
    steps[old].units = steps[old].gates = null;
    if (old % KEPT_EVERY && old > 0) steps[old - 1].state = null;
  }
}

// The verdict at the end of the text, had this word not been in it.
function without(at) {
  let state = at ? steps[at - 1].state : network.start();
  let probability = at ? steps[at - 1].probability : 0.5;
  for (const word of tokens.slice(at + 1)) ({ state, probability } = network.read(state, word));
  return probability;
}

// The last "but" is what this page is about.
function chooseBut() {
  const at = tokens.lastIndexOf("but");
  if (chosen >= 0 || at < 0) return;
  chosen = at; // a slow device may not have read that far
  drawChoice();
}

// ---- Drawing ----

const percent = (p) => `${Math.round(100 * p)}%`;
const points = (d) => `${d < 0 ? "−" : "+"}${Math.abs(Math.round(100 * d))}`;
const number = (n) => n.toLocaleString("en");
const current = () => (chosen >= 0 && chosen < steps.length ? chosen : steps.length - 1);

function firstShown() {
  let first = Math.max(0, steps.length - SHOWN);
  while (first < steps.length && !steps[first].units) first++;
  return first;
}

function draw() {
  drawn = performance.now();
  // What changes at every word is not announced until the last one.
  document.querySelector("main").setAttribute("aria-busy", steps.length < tokens.length);
  drawVerdict();
  drawWords();
  drawChoice();
}

function drawVerdict() {
  const last = steps.at(-1);
  const p = last ? last.probability : 0.5;
  const side = !last ? "" : p >= 0.5 ? "high" : "low";
  const label = network.classes[p >= 0.5 ? 1 : 0];
  element("verdict").textContent = last
    ? `${label[0].toUpperCase()}${label.slice(1)}, ${percent(Math.max(p, 1 - p))} sure`
    : "No word yet";
  element("verdict").className = side;
  const meter = element("meter");
  meter.setAttribute("aria-valuenow", Math.round(100 * p));
  meter.setAttribute("aria-valuetext", element("verdict").textContent);
  const bar = meter.firstElementChild.style;
  bar.setProperty("--right", `${Math.max(0, 100 * p - 50)}%`);
  bar.setProperty("--left", `${Math.max(0, 50 - 100 * p)}%`);
  bar.setProperty("--fill", `var(--${side || "high"}-fill)`);
  const ms = steps.slice(-SHOWN).reduce((sum, step) => sum + step.ms, 0);
  const speed = ms / Math.min(SHOWN, steps.length);
  const count = tokens.length === 1 ? "1 word" : `${number(tokens.length)} words`;
  element("speed").textContent = !last ? ""
    : steps.length < tokens.length ? `word ${number(steps.length)} of ${count}`
    : `${count}, ${speed < 0.01 ? "below 0.01" : speed.toFixed(2)} ms per word on this device`;
}

// The elements of words that did not change stay.
function drawWords() {
  const list = element("words");
  const first = firstShown();
  const shown = steps.slice(first);
  while (list.firstChild && list.firstChild.at < first) list.firstChild.remove();
  if (list.firstChild && list.firstChild.at > first) list.replaceChildren();
  shown.forEach((step, n) => {
    let word = list.children[n];
    if (!word) {
      word = list.appendChild(document.createElement("span"));
      word.className = "word";
      word.setAttribute("role", "option");
      word.append(document.createElement("span"), document.createElement("small"));
      word.firstChild.dir = "auto";
    }
    word.at = first + n;
    word.id = `word-${word.at}`;
    if (word.step === step) return;
    word.step = step;
    const { change } = step;
    const share = `${Math.round(100 * Math.sqrt(Math.min(1, Math.abs(change) / 0.25)))}%`;
    word.className = `word ${change < 0 ? "down" : "up"}${step.known ? "" : " unknown"}`;
    word.firstChild.textContent = step.word;
    word.firstChild.style.setProperty("--share", share);
    word.lastChild.textContent = Math.abs(change) >= 0.03 ? points(change) : "";
    word.setAttribute("aria-label",
      `${step.word}, ${points(change)} points${step.known ? "" : ", unknown word"}`);
  });
  while (list.children.length > shown.length) list.lastChild.remove();
  element("rest").hidden = !first;
  element("rest").textContent =
    `All ${number(steps.length)} words count; the last ${number(shown.length)} are shown.` +
    (boxed ? "" : " The box above holds their beginning; if you change it, only that is read.");
}

function drawChoice() {
  const at = current();
  const list = element("words");
  list.querySelector("[aria-selected=true]")?.removeAttribute("aria-selected");
  const word = document.getElementById(`word-${at}`);
  word?.setAttribute("aria-selected", "true");
  if (word) list.setAttribute("aria-activedescendant", word.id);
  else list.removeAttribute("aria-activedescendant");
  tell(at);
  const { classes } = network;
  for (const [name, , explained] of ROWS) {
    const row = rows.get(name);
    row.line.setAttribute("aria-label", at < 0 ? "nothing read yet"
      : `${explained}; ${steps[at].means[name].toFixed(2)} after “${steps[at].word}”`
        .replace("{low}", classes[0]).replace("{high}", classes[1]));
    drawRow(name, row, at);
  }
  element("unit-name").textContent = unit < 0 ? "none" : `number ${unit + 1}`;
}

function tell(at) {
  if (at < 0) {
    element("told").textContent = "";
    return;
  }
  const { word, change, probability, known } = steps[at];
  const [low, high] = network.classes;
  const was = percent(probability - change);
  const moved = Math.round(100 * Math.abs(change)) === 0
    ? `“${word}” changes next to nothing: ${percent(probability)} ${high}.`
    : `“${word}” makes it more ${change < 0 ? low : high}: from ${was} to ` +
      `${percent(probability)} ${high}.`;
  const unknown = known ? "" : " The network never learnt this word and reads it as “some word”.";
  element("told").textContent = moved + unknown;
  clearTimeout(question);
  const after = tokens.length - at;
  if (steps.length < tokens.length || tokens.length < 2 || after > SHOWN / 2) return;
  const ask = () => {
    const end = percent(steps.at(-1).probability);
    element("told").textContent +=
      ` Without it the review would end at ${percent(without(at))} ${high} instead of ${end}.`;
  };
  if (after < 40) ask();
  else question = setTimeout(ask, 150); // not for each of the words that a pointer sweeps over
}

const decimals = (x) => x.toFixed(2).replace("-", "−");
const path = (values) =>
  values.length === 1 ? `M0 ${values[0]}H1` : `M${values.map((y, x) => `${x} ${y}`).join("L")}`;

function drawRow(name, row, at) {
  const first = firstShown();
  const shown = steps.slice(first);
  const here = at >= first ? steps[at] : null;
  const end = Math.max(1, shown.length - 1);
  const follows = unit >= 0 && name !== "verdict";
  const lines = [["mean", shown.map((step) => step.means[name])],
                 ["single", follows ? shown.map((step) => step.units[name][unit]) : []]];
  const [low, high] = name === "verdict" ? [0, 1] : rangeOf(lines.flatMap(([, line]) => line));
  const down = (value) => (high - value) / (high - low); // 0 at the top, 1 at the bottom
  row.line.setAttribute("viewBox", `0 -0.08 ${end} 1.16`);
  row.middle.setAttribute("d", name === "verdict" ? `M0 0.5H${end}` : "");
  row.cursor.setAttribute("d", here ? `M${at - first} -0.08V1.08` : "");
  for (const [part, line] of lines) {
    row[part].setAttribute("d", line.length ? path(line.map(down)) : "");
  }
  row.high.textContent = high.toFixed(1).replace("-", "−");
  row.low.textContent = low.toFixed(1).replace("-", "−");
  row.value.textContent = here ? decimals(here.means[name]) : "";
  if (name === "verdict") return;
  const values = here ? here.units[name] : [];
  const zero = name === "c" ? 0.5 : 1; // a unit of the memory may be negative
  const bar = (value, j) => `M${j + 0.1} ${zero}H${j + 0.9}V${zero - zero * value}H${j + 0.1}Z`;
  row.bars.setAttribute("d", Array.from(values, bar).join(""));
  row.bar.setAttribute("d", follows && here ? bar(values[unit], unit) : "");
  if (!here) return;
  row.value.textContent = `mean ${row.value.textContent}`;
  if (follows) row.value.textContent += `, unit ${unit + 1}: ${decimals(values[unit])}`;
}

// Means move little: the axis, in tenths, is as narrow as the lines allow, but never below 0.2.
function rangeOf(values) {
  if (!values.length) return [0, 1];
  const low = Math.floor(10 * values.reduce((a, b) => Math.min(a, b))) / 10;
  const high = Math.ceil(10 * values.reduce((a, b) => Math.max(a, b))) / 10;
  return [low, Math.max(high, low + 0.2)];
}

// ---- Pointing, typing ----

function choose(at) {
  chosen = Math.min(Math.max(at, firstShown()), steps.length - 1);
  drawChoice();
}

function follow(which) {
  if (which === unit) return;
  unit = which;
  element("unit").value = unit + 1;
  drawChoice();
}

function svg(name, parent) {
  return parent.appendChild(document.createElementNS("http://www.w3.org/2000/svg", name));
}

function buildRows() {
  const [low, high] = network.classes;
  for (const [name, title, explained] of ROWS) {
    const box = document.createElement("div");
    element(name === "verdict" ? "course" : "rows").append(box);
    box.className = "row";
    const heading = box.appendChild(document.createElement("h3"));
    heading.append(title, document.createElement("span"));
    const explanation = box.appendChild(document.createElement("p"));
    explanation.className = "quiet";
    explanation.textContent = explained.replace("{low}", low).replace("{high}", high);
    const frame = box.appendChild(document.createElement("div"));
    frame.className = "frame";
    const line = svg("svg", frame);
    const row = { line, value: heading.lastChild };
    for (const end of ["high", "low"]) {
      row[end] = frame.appendChild(document.createElement("span"));
      row[end].className = `end ${end}`;
    }
    rows.set(name, row);
    const drawings = [[line, "line", ["middle", "cursor", "single", "mean"]]];
    line.setAttribute("role", "img");
    pointing(line, (share) =>
      choose(firstShown() + Math.round(share * (Math.min(SHOWN, steps.length) - 1))));
    if (name !== "verdict") {
      const units = svg("svg", box);
      units.setAttribute("viewBox", `0 0 ${network.hidden} 1`);
      units.setAttribute("aria-hidden", "true"); // the slider follows units by keyboard
      drawings.push([units, "units", ["bars", "bar"]]);
      pointing(units, (share) =>
        follow(Math.min(network.hidden - 1, Math.floor(share * network.hidden))));
    }
    for (const [drawing, kind, paths] of drawings) {
      drawing.setAttribute("class", kind);
      drawing.setAttribute("preserveAspectRatio", "none");
      for (const part of paths) (row[part] = svg("path", drawing)).setAttribute("class", part);
    }
  }
}

function pointing(drawing, act) {
  const point = (event) => {
    const { left, width } = drawing.getBoundingClientRect();
    if (steps.length) act(Math.min(1, Math.max(0, (event.clientX - left) / width)));
  };
  drawing.addEventListener("pointermove", point);
  drawing.addEventListener("pointerdown", point);
}

// Of a long text that is pasted the box keeps the beginning; the network reads all of it.
function entered(event) {
  const { data, target } = event;
  if (!data || target.value.length + data.length <= BOX) return;
  event.preventDefault();
  const { value, selectionStart, selectionEnd } = target;
  const text = value.slice(0, selectionStart) + data + value.slice(selectionEnd);
  target.value = text.slice(0, BOX);
  clearTimeout(pause);
  chosen = -1;
  boxed = text.length <= BOX;
  readAll(text);
}

function typed(event) {
  const { value, selectionEnd } = event.target;
  chosen = -1;
  boxed = true;
  const read = () => readAll(value);
  clearTimeout(pause);
  // A word counts once something follows it: "do" may become "don't", or "dozen".
  const unfinished = event.inputType === "insertText" && selectionEnd === value.length &&
    /\S$/.test(value);
  if (!unfinished) {
    read();
    return;
  }
  const before = Math.max(value.lastIndexOf(" "), value.lastIndexOf("\n"));
  readAll(value.slice(0, before + 1));
  pause = setTimeout(read, PAUSE_MS);
}

function pressed(event) {
  const { key } = event;
  const by = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[key];
  if (!steps.length || !(by || key === "Home" || key === "End")) return;
  event.preventDefault();
  choose(by ? current() + by : key === "Home" ? 0 : steps.length - 1);
  document.getElementById(`word-${current()}`)?.scrollIntoView({ block: "nearest" });
}

async function open() {
  try {
    network = await loadNetwork(element("model").textContent);
  } catch (error) {
    element("verdict").textContent = "This page needs a browser from 2023 or later.";
    throw error;
  }
  element("model").remove();
  const [low, high] = network.classes;
  for (const each of document.querySelectorAll("b.low")) each.textContent = low;
  for (const each of document.querySelectorAll("b.high")) each.textContent = high;
  element("low").textContent = low;
  element("high").textContent = high;
  element("size").textContent = network.hidden;
  element("unit").max = network.hidden;
  element("meter").setAttribute("aria-label", `probability of ${high}`);
  buildRows();
  const review = element("review");
  review.addEventListener("beforeinput", entered);
  review.addEventListener("input", typed);
  element("words").addEventListener("keydown", pressed);
  for (const kind of ["pointerover", "click"]) {
    element("words").addEventListener(kind, (event) => {
      const word = event.target.closest(".word");
      if (word) choose(word.at);
    });
  }
  element("unit").addEventListener("input", (event) => follow(event.target.value - 1));
  element("again").addEventListener("click", () => {
    chosen = -1;
    boxed = true;
    readAll(review.value, true);
  });
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
    readAll(review.value);
    chooseBut();
  } else readAll(review.value, true);
}

open();
