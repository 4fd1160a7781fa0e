// Makes elements. Whatever comes from a model or from other people goes in as text, never as HTML.

import { say } from "./words.js";

// Controls, and marks that turn the direction of what stands around them; tabs and line ends stay.
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;

/** A text without what could act on a screen. */
export function plain(text) {
  return String(text).replace(/\r\n?/g, "\n").replace(CONTROLS, "\ufffd");
}

/** An element that holds others, or text. */
export function element(tag, attributes = {}, ...inside) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...inside.map((each) => (each instanceof Node ? each : plain(each))));
  return made;
}

/** An element with a word of the page, which follows the language. */
export function worded(tag, word, attributes = {}) {
  return element(tag, { ...attributes, "data-word": word }, say(word));
}

/** What a model wrote; its direction is its own. */
export function written(text) {
  return element("p", { class: "written", dir: "auto" }, text);
}

/** A table that scrolls by itself where it is wide; cells are texts or elements. */
export function table(name, heads, rows) {
  if (!rows.length) return worded("p", "nothing", { class: "quiet" });
  const numbers = heads.map((_, column) => rows.some((cells) => typeof cells[column] === "number"));
  const side = (column) => (numbers[column] ? { class: "number" } : {});
  const head = element("tr", {}, ...heads.map((word, column) => worded("th", word, { scope: "col", ...side(column) })));
  const cell = (value, column) => element("td", side(column), typeof value === "number" ? value.toLocaleString() : (value ?? "–"));
  const lines = rows.map((cells) => element("tr", {}, ...cells.map(cell)));
  const grid = element("table", {}, element("thead", {}, head), element("tbody", {}, ...lines));
  const around = element("div", { class: "scroll", role: "region", tabindex: "0", "data-word-label": name }, grid);
  around.setAttribute("aria-label", say(name));
  return around;
}

/** A time, as people here write it. */
export function moment(value) {
  if (value === null) return null;
  const time = new Date(value);
  const shown = time.toLocaleString(document.documentElement.lang, { dateStyle: "medium", timeStyle: "medium" });
  return element("time", { datetime: time.toISOString() }, shown);
}
