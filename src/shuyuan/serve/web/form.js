// A form that asks the server: one button that starts, one that stops, where it stands, and what went wrong in words.

import { worded } from "./shown.js";
import { fill, say } from "./words.js";

/** What went wrong, in words. The server's own words are English. */
export function inWords(error) {
  const known = `error.${error.code}`;
  const what = say(known, { seconds: error.seconds ?? "?" });
  if (what !== known) return what;
  return error.code ? say("error", { what: error.message }) : say("error.unexpected");
}

/**
 * Gives a form its buttons and its work.
 *
 * `work(fields, signal, tell)` does what is asked; `tell(word, values)` says where it stands. What breaks off by the
 * stop button is no error.
 */
export function equip(form, work) {
  const start = worded("button", form.dataset.does, { type: "submit", class: "start" });
  const stop = worded("button", "stop", { type: "button", hidden: "" });
  const status = worded("span", "", { class: "status", role: "status" });
  const error = document.createElement("p");
  error.className = "error";
  error.setAttribute("role", "alert");
  const actions = document.createElement("div");
  actions.className = "actions";
  actions.append(start, stop, status);
  form.append(actions, error);
  const tell = (word, values = {}) => fill(status, word, values);

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (form.getAttribute("aria-busy") === "true") return;
    const breaking = new AbortController();
    const end = () => breaking.abort();
    stop.addEventListener("click", end, { once: true });
    form.addEventListener("break", end, { once: true });
    document.addEventListener("closed", end, { once: true });
    error.textContent = "";
    busy(true);
    tell("working");
    try {
      await work(new FormData(form), breaking.signal, tell);
      if (status.dataset.word === "working") tell("done");
    } catch (reason) {
      tell(breaking.signal.aborted ? "stopped" : "");
      if (!breaking.signal.aborted) error.textContent = inWords(reason);
      if (reason.status === 401) document.dispatchEvent(new CustomEvent("closed", { detail: reason }));
    } finally {
      for (const [where, what] of [[stop, "click"], [form, "break"], [document, "closed"]]) where.removeEventListener(what, end);
      busy(false);
    }
  });

  function busy(is) {
    const focused = document.activeElement === (is ? start : stop);
    form.setAttribute("aria-busy", String(is));
    start.hidden = is;
    stop.hidden = !is;
    if (focused) (is ? stop : start).focus(); // who works with the keyboard is not left nowhere
  }
}
