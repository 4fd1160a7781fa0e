// Chat: the turns are kept in this page alone, and go to the server again with each message.

import { equip } from "./form.js";
import { drawing, follow } from "./follow.js";
import { element, worded, written } from "./shown.js";

let turns = [];

/** Makes the chat's form work. */
export function begin() {
  const section = document.getElementById("chat");
  const form = section.querySelector("form");
  const log = section.querySelector(".turns");
  equip(form, (fields, signal, tell) => reply(form, log, fields, signal, tell));
  form.elements.message.addEventListener("keydown", (event) => {
    // Enter also chooses among the characters of an input method, and then sends nothing.
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  document.getElementById("renew").addEventListener("click", () => {
    form.dispatchEvent(new Event("break"));
    forget();
    form.elements.message.focus();
  });
}

/** Forgets what was said. */
export function forget() {
  turns = [];
  document.querySelector("#chat .turns").replaceChildren();
}

async function reply(form, log, fields, signal, tell) {
  const before = turns; // another array once the chat is begun anew
  const said = { role: "user", content: fields.get("message") };
  const asked = turn("user", said.content);
  const answer = turn("assistant", "");
  log.append(asked, answer);
  answer.setAttribute("aria-busy", "true"); // screen readers wait until it is whole
  form.elements.message.value = "";
  let text = "";
  try {
    const body = { model: fields.get("model"), messages: [...before, said], ...drawing(fields) };
    for await (const piece of follow("/v1/chat/completions", body, signal, tell, answer.querySelector(".written"))) {
      text += piece;
    }
  } finally {
    answer.removeAttribute("aria-busy");
    if (text) {
      before.push(said, { role: "assistant", content: text });
    } else if (asked.isConnected) {
      asked.remove();
      answer.remove();
      form.elements.message.value ||= said.content; // nothing came of it: it can be sent again
    }
  }
}

function turn(role, text) {
  return element("li", { class: role }, worded("span", `turn.${role}`, { class: "speaker" }), written(text));
}
