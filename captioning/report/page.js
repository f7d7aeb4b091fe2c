"use strict";
// Texts of images only ever become text nodes or values: nothing here reads HTML.

const data = JSON.parse(document.getElementById("data").textContent);
const PAGE = 100; // images in the document at once
const KEYS = { 1: 0, g: 0, 2: 1, y: 1, 3: 2, r: 2 }; // key → place in data.marks
const byId = (id) => document.getElementById(id);
const grid = byId("grid");

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// --- marks, which the browser keeps -----------------------------------------------------------

let marks = new Map(); // image id → mark
let unkept = false; // whether marks would be lost with this page

function warn(error) {
  byId("warning").textContent =
    `This browser does not keep the marks (${error.name}): export them before you leave this page.`;
  byId("warning").hidden = false;
}

function load() {
  marks = new Map();
  try {
    const kept = JSON.parse(localStorage.getItem(data.key)) ?? {};
    for (const { image } of data.items) {
      if (data.marks.includes(kept[image])) marks.set(image, kept[image]);
    }
  } catch (error) {
    warn(error);
  }
}

function keep() {
  try {
    localStorage.setItem(data.key, JSON.stringify(Object.fromEntries(marks)));
    byId("warning").hidden = true;
    unkept = false;
  } catch (error) {
    warn(error);
    unkept = marks.size > 0;
  }
}

function mark(at, name) {
  const { image } = data.items[shown[at]];
  if (name) marks.set(image, name);
  else marks.delete(image);
  keep();
  const card = cardAt(at);
  if (card) showMark(card, name);
  tally();
}

// --- how many, with the interval of Wilson (1927), as captioning/report/marks.py has it ---------

const percent = new Intl.NumberFormat("en", {
  minimumFractionDigits: 1, maximumFractionDigits: 1, roundingMode: "halfEven",
});

function wilson(count, total) {
  const share = count / total;
  const extra = data.z ** 2 / total;
  const middle = (share + extra / 2) / (1 + extra);
  const half = (data.z / (1 + extra)) * Math.sqrt((share * (1 - share)) / total + extra / total / 4);
  return [Math.max(0, middle - half), Math.min(1, middle + half)];
}

function tally() {
  const names = [...marks.values()];
  const lines = data.marks.map((name) => {
    const count = names.filter((other) => other === name).length;
    const line = make("li", {}, `${name}: ${count} of ${names.length}`);
    line.dataset.mark = name;
    if (names.length) {
      const [share, low, high] = [count / names.length, ...wilson(count, names.length)].map(
        (part) => percent.format(100 * part),
      );
      line.append(`, ${share} % (${low} to ${high})`);
    }
    return line;
  });
  byId("tallies").replaceChildren(...lines);
  byId("export").disabled = !names.length;
}

// --- export -----------------------------------------------------------------------------------

function csv() {
  const cell = (text) => {
    const guard = /^[=+\-@\t\r\n']/.test(text) ? "'" : ""; // or a spreadsheet runs it
    return `"${guard}${text.replaceAll('"', '""')}"`;
  };
  const rows = data.items
    .filter(({ image }) => marks.has(image))
    .map(({ image, caption }) => [image, marks.get(image), caption].map(cell).join(","));
  return "\ufeff" + ["image,mark,caption", ...rows, ""].join("\r\n"); // the first sign is for Excel
}

byId("export").addEventListener("click", () => {
  const address = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  make("a", { href: address, download: "marks.csv" }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
  unkept = false;
});

addEventListener("beforeunload", (event) => {
  if (unkept) event.preventDefault();
});

addEventListener("storage", (event) => {
  if (event.key !== data.key) return; // marked in another window
  load();
  draw();
});

// --- which images, and a page of them -----------------------------------------------------------

const folded = (text) => text.normalize("NFC").toLowerCase();
const texts = data.items.map(({ image, caption, references, candidates }) =>
  folded([image, caption, ...references, ...candidates].join("\n")),
);
const given = data.items.map((_, i) => i);
const rising = given.toSorted((a, b) => data.items[a].cider - data.items[b].cider);
const falling = given.toSorted((a, b) => data.items[b].cider - data.items[a].cider);
const orders = { given, low: rising, high: falling };

let shown = []; // places in data.items
let current = 0; // place in `shown` of the framed card
const first = () => current - (current % PAGE);
const cardAt = (at) => (grid.querySelector("article") ? grid.children[at - first()] : undefined);

function select() {
  const words = folded(byId("search").value).split(/\s+/).filter(Boolean);
  const wanted = byId("filter").value;
  shown = orders[byId("order").value].filter((i) => {
    const name = marks.get(data.items[i].image) ?? "";
    return (wanted === "all" || wanted === name) && words.every((word) => texts[i].includes(word));
  });
  current = 0;
  draw();
}

function draw() {
  const start = first();
  const cards = shown.slice(start, start + PAGE).map((i, n) => makeCard(data.items[i], start + n));
  grid.replaceChildren(...(cards.length ? cards : [make("p", {}, "No image is like this.")]));
  frame();
  byId("place").textContent = shown.length
    ? `${start + 1}–${start + cards.length} of ${shown.length}` : "0 of 0";
  byId("back").disabled = start === 0;
  byId("next").disabled = start + PAGE >= shown.length;
  tally();
}

function makeCard({ image, caption, references, thumbnail, cider, candidates }, at) {
  const texts = (lines) => lines.map((line) => make("li", { dir: "auto" }, line));
  const picture = thumbnail
    ? make("img", { src: `data:image/jpeg;base64,${thumbnail}`, alt: "" })
    : make("span", { className: "picture missing" }, "no picture");
  const buttons = data.marks.map((name) => {
    const button = make("button", { type: "button" }, name);
    button.dataset.mark = name;
    button.addEventListener("click", () => {
      mark(at, marks.get(image) === name ? undefined : name);
    });
    return button;
  });
  const card = make("article", { tabIndex: -1 },
    make("div", { className: "picture" }, picture),
    make("p", { className: "caption", dir: "auto" }, caption || "(no words)"),
    make("div", { className: "about" },
      make("span", { dir: "auto" }, image),
      make("b", {}, `CIDEr ${cider.toFixed(2)}`)),
    make("ul", {}, ...texts(references)));
  if (candidates.length) {
    card.append(make("details", {}, make("summary", {}, "Other captions"),
      make("ul", {}, ...texts(candidates))));
  }
  card.append(make("div", { className: "marks" }, ...buttons));
  card.addEventListener("focusin", () => frame(at));
  showMark(card, marks.get(image));
  return card;
}

function showMark(card, name = "") {
  card.dataset.mark = name;
  for (const button of card.querySelectorAll(".marks button")) {
    button.setAttribute("aria-pressed", button.dataset.mark === name);
  }
}

function frame(at = current) {
  cardAt(current)?.classList.remove("current");
  current = at;
  cardAt(current)?.classList.add("current");
}

function go(at) {
  if (!shown.length) return;
  at = Math.min(Math.max(at, 0), shown.length - 1);
  const turned = at - (at % PAGE) !== first();
  if (turned) {
    current = at;
    draw();
  }
  cardAt(at).focus({ preventScroll: true }); // which frames it
  cardAt(at).scrollIntoView({ block: "nearest" });
}

// --- keys and controls ----------------------------------------------------------------------------

function columns() {
  return getComputedStyle(grid).gridTemplateColumns.split(" ").length;
}

const MOVES = {
  ArrowRight: () => 1, j: () => 1, ArrowLeft: () => -1, k: () => -1,
  ArrowDown: () => columns(), ArrowUp: () => -columns(),
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input, select")) {
    if (event.key === "Escape") go(current);
    return;
  }
  if (event.key in MOVES) go(current + MOVES[event.key]());
  else if (event.key in KEYS && shown.length) {
    mark(current, data.marks[KEYS[event.key]]);
    go(current + 1);
  } else if (event.key === "u" && shown.length) mark(current);
  else if (event.key === "n") go(Math.min(first() + PAGE, shown.length - 1));
  else if (event.key === "p") go(first() - PAGE);
  else if (event.key === "/") byId("search").focus();
  else return;
  event.preventDefault();
});

for (const name of data.marks) byId("filter").append(make("option", { value: name }, name));
byId("search").addEventListener("input", select);
for (const id of ["order", "filter"]) byId(id).addEventListener("change", select);
byId("back").addEventListener("click", () => go(first() - PAGE));
byId("next").addEventListener("click", () => go(first() + PAGE));
byId("settings").textContent = data.settings;

load();
select();
