"use strict";
// The classifier, as the Python package computes it: text to words, words to a verdict.

// ---- Words: `tokenize` of text.py, rule by rule ----

// What Python calls \w and \s; those of JavaScript are other ones, and \b knows ASCII only.
const WORD = String.raw`\p{L}\p{N}_`;
const SPACE = String.raw`\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000`;
const BEGINS = `(?<![${WORD}])`;
const ENDS = `(?![${WORD}])`;

const NEGATED_VERBS = { ca: "can", wo: "will", sha: "shall", ai: "is" };
for (const verb of ("do does did is are was were has have had " +
                    "could would should must might need").split(" ")) NEGATED_VERBS[verb] = verb;
const NEGATION =
  new RegExp(`${BEGINS}(${Object.keys(NEGATED_VERBS).join("|")})'?n'?t${ENDS}`, "gu");
const OTHER_NEGATION = new RegExp(`n't${ENDS}`, "gu");
const ENDING = new RegExp(`(?<=[${WORD}])'(s|re|ve|ll|m|d)${ENDS}`, "gu");
const ENDING_WORDS = { s: "", re: " are", ve: " have", ll: " will", m: " am", d: " would" };
const APOSTROPHES = /[\u2018\u2019\u201b\u02bc\u00b4\uff07]/g;
const WORDS = /[\p{L}\p{N}]+/gu;

// Without regard to case, Python takes the dotless and the dotted i of Turkish for an i.
const TAG_NAMES = (
  "a|abbr|b|big|blockquote|body|br|center|cite|code|dd|del|div|dl|dt|em|embed|font|h[1-6]|head" +
  "|hr|html|i|iframe|img|input|ins|li|link|meta|object|ol|p|param|pre|q|s|script|small|span" +
  "|strike|strong|style|sub|sup|table|tbody|td|th|thead|title|tr|tt|u|ul|var|video"
).replace(/i/g, "[i\u0131\u0130]");
const MARKUP_TAG = new RegExp(
  `</?(?:${TAG_NAMES})(?:[${SPACE}]+[${WORD}:\\-]+[${SPACE}]*=[${SPACE}]*` +
  `(?:"[^"<>]*"|'[^'<>]*'|[^${SPACE}"'<>]+))*[${SPACE}]*(?:/[${SPACE}]*)?>|<!--[^<>]*-->`, "giu");
const MARKUP_ENTITY = new RegExp(`&#?[${WORD}]{1,31};`, "gu");

// The browser's own parser knows all names. What a detached textarea holds is text; nothing runs.
const PARSER = document.createElement("textarea");
function entity(found) {
  const number = /^&#(?:x([0-9a-f]+)|([0-9]+))(.*)/is.exec(found);
  if (number) {
    const code = number[1] ? parseInt(number[1], 16) : parseInt(number[2], 10);
    const dropped = (code > 0 && code < 32 && !(code > 8 && code < 14 && code !== 11)) ||
      code === 127 || (code >= 0xfdd0 && code <= 0xfdef) ||
      (code <= 0x10ffff && (code & 0xfffe) === 0xfffe);
    if (dropped) return number[3].replace(/^;/, ""); // as html.unescape does
  }
  PARSER.innerHTML = "_" + found; // a line break at the beginning would be lost
  return PARSER.textContent.slice(1);
}

function tokenize(text) {
  if (text.includes("&")) text = text.replace(MARKUP_ENTITY, entity);
  if (text.includes("<")) text = text.replace(MARKUP_TAG, " ");
  text = text.toLowerCase().normalize("NFC").replace(APOSTROPHES, "'").replaceAll("`", "'");
  text = text.replaceAll("_", " ").replaceAll("cannot", "can not");
  text = text.replace(NEGATION, (_, verb) => `${NEGATED_VERBS[verb]} not`);
  text = text.replace(OTHER_NEGATION, " not").replace(ENDING, (_, ending) => ENDING_WORDS[ending]);
  return text.match(WORDS) ?? [];
}

// ---- The network: `write_page` says in which order its numbers come ----

async function loadNetwork(text) {
  const deflated = Uint8Array.from(atob(text.trim()), (character) => character.charCodeAt(0));
  const stream = new Blob([deflated]).stream();
  const inflated = stream.pipeThrough(new DecompressionStream("deflate"));
  return new Network(await new Response(inflated).arrayBuffer());
}

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

class Network {
  constructor(buffer) {
    let at = 4 + new DataView(buffer).getUint32(0, true);
    Object.assign(this, JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, at - 4))));
    const floats = (n) => new Float32Array(buffer.slice(at, (at += 4 * n)));
    const precise = (rows, columns, steps) => {
      const n = rows * columns;
      const [low, high] = [new Uint8Array(buffer, at, n), new Int8Array(buffer, at + n, n)];
      at += 2 * n;
      return Float32Array.from(low, (w, k) => (256 * high[k] + w) * steps[Math.floor(k / columns)]);
    };
    const H = this.hidden;
    this.layers = this.inputs.map((D) => ({ D, biases: floats(4 * H), steps: floats(4 * H) }));
    const states = { last: 1, mean_max: 2, last_mean_max: 3 }[this.pooling];
    this.output = floats(states * H);
    this.bias = floats(1)[0];
    this.steps = floats(this.words.length);
    for (const layer of this.layers) {
      layer.weights = precise(4 * H, H + layer.D, layer.steps);
    }
    this.frequent = precise(this.precise, this.inputs[0], this.steps); // vectors of the first words
    this.vectors = new Int8Array(buffer, at); // of the others
    // 0 is padding and 1 any unknown word: the names of the two are no words of a text.
    this.index = new Map(this.words.map((word, index) => [word, index]).slice(2));
  }

  // Before the first word. A state is never changed, so that reading can go on from any of them.
  start() {
    const zeros = () => new Float32Array(this.hidden);
    return { n: 0, layers: this.layers.map(() => ({ h: zeros(), c: zeros() })), sum: zeros(),
             max: zeros().fill(-Infinity) };
  }

  vector(index) {
    const row = (table, at) => table.subarray(at * this.inputs[0], (at + 1) * this.inputs[0]);
    if (index < this.precise) return row(this.frequent, index);
    return Float32Array.from(row(this.vectors, index - this.precise), (v) => v * this.steps[index]);
  }

  // The state after one more word, with the verdict and the gates (f, i, g, o: 4H) of the last layer.
  read(state, word) {
    const index = this.index.get(word) ?? 1;
    let x = this.vector(index);
    let gates;
    const layers = this.layers.map((layer, k) => {
      gates = this.gates(layer, state.layers[k].h, x);
      const next = this.cell(gates, state.layers[k].c);
      x = next.h;
      return next;
    });
    const n = state.n + 1;
    const sum = state.sum.map((s, j) => s + x[j]);
    const max = state.max.map((m, j) => Math.max(m, x[j]));
    const last = this.pooling === "mean_max" ? [] : [x];
    const pooled = this.pooling === "last" ? [] : [sum.map((s) => s / n), max];
    let logit = this.bias;
    [...last, ...pooled].forEach((part, p) => {
      for (let j = 0; j < part.length; j++) logit += part[j] * this.output[p * part.length + j];
    });
    const probability = sigmoid(logit / this.temperature);
    return { state: { n, layers, sum, max }, probability, gates, known: index > 1 };
  }

  // f, i, o = sigma(W [h, x] + b) and g = tanh(W [h, x] + b), in the order f, i, g, o: (4H,)
  gates({ D, weights, biases }, h, x) {
    const H = this.hidden;
    const columns = H + D;
    const hx = new Float32Array(columns);
    hx.set(h);
    hx.set(x, H);
    const gates = biases.slice();
    for (let j = 0; j < H; j++) {
      let f = j * columns, i = f + H * columns, g = i + H * columns, o = g + H * columns;
      let sum_f = 0, sum_i = 0, sum_g = 0, sum_o = 0; // four sums that need not wait for each other
      for (let k = 0; k < columns; k++) {
        const value = hx[k];
        sum_f += weights[f++] * value;
        sum_i += weights[i++] * value;
        sum_g += weights[g++] * value;
        sum_o += weights[o++] * value;
      }
      gates[j] = sigmoid(gates[j] + sum_f);
      gates[H + j] = sigmoid(gates[H + j] + sum_i);
      gates[2 * H + j] = Math.tanh(gates[2 * H + j] + sum_g);
      gates[3 * H + j] = sigmoid(gates[3 * H + j] + sum_o);
    }
    return gates;
  }

  // c' = f * c + i * g and h' = o * tanh(c')
  cell(gates, before) {
    const H = this.hidden;
    const c = before.map((c, j) => gates[j] * c + gates[H + j] * gates[2 * H + j]);
    return { h: c.map((c, j) => gates[3 * H + j] * Math.tanh(c)), c };
  }
}
