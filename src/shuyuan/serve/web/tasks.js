// A page for each task: what its form asks for, and how the answer is shown.

import { ask } from "./api.js";
import { equip } from "./form.js";
import { drawing, follow } from "./follow.js";
import { element, worded, written } from "./shown.js";

const TASKS = {
  async translate(fields, signal) {
    const asked = { model: fields.get("model"), text: fields.get("text"), to: fields.get("to") };
    const { translations } = await ask("POST", "/v1/translate", asked, signal);
    return translations.map((each) => written(each.translation));
  },

  async summarize(fields, signal) {
    const asked = { model: fields.get("model"), text: fields.get("text") };
    const { summaries } = await ask("POST", "/v1/summarize", asked, signal);
    return summaries.map((each) => written(each.summary));
  },

  async answer(fields, signal) {
    const asked = { model: fields.get("model"), question: fields.get("question") };
    for (const place of ["context", "index"]) if (fields.get(place)) asked[place] = fields.get(place);
    const { answers } = await ask("POST", "/v1/answer", asked, signal);
    return answers.flatMap(answered);
  },

  async classify(fields, signal) {
    const asked = { model: fields.get("model") }; // where both are given, or neither, the server says so
    if (fields.get("text")) asked.text = fields.get("text");
    if (fields.get("image").size) asked.image = await base64(fields.get("image"));
    const { labels } = await ask("POST", "/v1/classify", asked, signal);
    return labels.flatMap(labelled);
  },

  async generate(fields, signal, tell, result) {
    const body = { model: fields.get("model"), prompt: fields.get("prompt"), ...drawing(fields) };
    const place = written("");
    result.replaceChildren(place);
    result.setAttribute("aria-busy", "true");
    try {
      for await (const _ of follow("/v1/completions", body, signal, tell, place));
    } finally {
      result.removeAttribute("aria-busy");
    }
    return null;
  },
};

/** Makes the forms of all tasks work. */
export function begin() {
  for (const [name, task] of Object.entries(TASKS)) {
    const section = document.getElementById(name);
    const result = section.querySelector(".result");
    equip(section.querySelector("form"), async (fields, signal, tell) => {
      result.replaceChildren();
      const shown = await task(fields, signal, tell, result);
      if (shown) result.replaceChildren(...shown);
    });
  }
  const form = document.querySelector("#answer form");
  form.addEventListener("change", () => offer(form));
}

/** Offers of the places where an answer may stand those that are read: an index that is asked itself reads no other, and a run reads one. */
export function offer(form) {
  const { model, index, context } = form.elements;
  const alone = model.selectedOptions[0]?.dataset.task === "index";
  offered(index, !alone && index.options.length > 1);
  offered(context, !alone && !(index.value && !index.disabled));
}

function offered(field, is) {
  field.disabled = !is; // what is disabled is not sent
  field.closest("label").hidden = !is;
}

/** Forgets what was answered. */
export function forget() {
  for (const result of document.querySelectorAll("[data-does^=do] ~ .result")) result.replaceChildren();
}

function answered(each) {
  const shown = [each.found ? written(each.answer) : worded("p", "answer.none")];
  if (each.hand_over) shown.push(worded("p", "answer.person", { class: "quiet" }));
  for (const passage of each.passages) {
    const where = `${passage.document}:${passage.line}`;
    shown.push(element("blockquote", { dir: "auto" }, passage.text, element("cite", {}, where)));
  }
  return shown;
}

function labelled(each) {
  const rows = Object.entries(each.probabilities).map(([label, share]) => {
    const bar = element("meter", { min: "0", max: "1", value: String(share), "aria-hidden": "true" });
    return element("li", {}, element("span", { dir: "auto" }, label), bar, element("span", {}, `${(share * 100).toFixed(1)} %`));
  });
  return [written(each.label), element("ul", { class: "labels" }, ...rows)];
}

async function base64(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const parts = [];
  for (let start = 0; start < bytes.length; start += 0x8000) {
    parts.push(String.fromCharCode(...bytes.subarray(start, start + 0x8000)));
  }
  return btoa(parts.join(""));
}
