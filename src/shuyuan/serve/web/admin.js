// Administration: what the session's role may see of keys, runs, usage, limits and the audit log.

import { ask, may } from "./api.js";
import { equip, inWords } from "./form.js";
import { element, moment, table, worded } from "./shown.js";
import { say } from "./words.js";

const SHOWN = 100; // entries of the audit log
let showing = 0; // what comes after the page was shown anew, or shut, is not wanted any more

const PARTS = {
  async keys() {
    const { keys } = await ask("GET", "/admin/keys");
    const heads = ["name", "role", "granted", "made", "expires", "state"];
    return table("keys", heads, keys.map((key) => [
      key.name, worded("span", `role.${key.role}`), key.models ? element("span", { class: "list" }, key.models.join(", ")) : worded("span", "all"),
      moment(key.created), moment(key.expires), state(key),
    ]));
  },

  async runs() {
    const { runs } = await ask("GET", "/admin/runs");
    const heads = ["model", "variant", "task", "size", "loaded", "active", "waiting", "report"];
    return table("runs", heads, runs.map((run) => [
      run.model, run.variant, run.task, `${(run.bytes / 1e6).toFixed(1)} MB`, worded("span", run.loaded ? "yes" : "no"),
      run.active, run.waiting, run.report ? report(run.model) : null,
    ]));
  },

  async usage() {
    const { usage } = await ask("GET", "/admin/usage");
    const heads = ["day", "name", "model", "requests", "read", "written"];
    return table("usage", heads, usage.map((line) => [
      line.day, line.name, line.model, line.requests, line.prompt_tokens, line.completion_tokens,
    ]));
  },

  async limits() {
    const { limits } = await ask("GET", "/admin/limits");
    return table("limits", ["limit", "value"], Object.entries(limits).map(([name, value]) => [
      worded("span", `limit.${name}`), value,
    ]));
  },

  async audit() {
    const { entries } = await ask("GET", `/admin/audit?last=${SHOWN}`);
    const heads = ["time", "name", "event", "model", "read", "written", "outcome"];
    return table("audit", heads, entries.map((entry) => [
      moment(entry.time * 1000), entry.who, entry.event, entry.model, entry.prompt_tokens, entry.completion_tokens,
      entry.decision ?? (entry.event.startsWith("key.") ? entry.key : null),
    ]));
  },
};

/** Makes the form for new keys work. */
export function begin() {
  document.getElementById("refresh").addEventListener("click", show);
  const form = document.querySelector("#admin form");
  equip(form, async (fields, signal, tell) => {
    const models = fields.getAll("models");
    const wanted = { name: fields.get("name"), role: fields.get("role"), expires: fields.get("expires") };
    const made = await ask("POST", "/admin/keys", models.length ? { ...wanted, models } : wanted, signal);
    const shown = element("output", { class: "key" }, made.key);
    document.getElementById("made").replaceChildren(worded("p", "key.once"), shown);
    form.reset();
    tell("");
    await show();
  });
}

/** Shows all that the role may see, as it is now. */
export async function show() {
  const wrong = document.getElementById("admin-error");
  const mine = ++showing;
  wrong.textContent = "";
  try {
    for (const [name, part] of Object.entries(PARTS)) {
      if (!may(`GET /admin/${name}`)) continue;
      const shown = await part();
      if (mine !== showing) return;
      document.getElementById(name).replaceChildren(shown);
    }
  } catch (reason) {
    wrong.textContent = inWords(reason);
    if (reason.status === 401) document.dispatchEvent(new CustomEvent("closed", { detail: reason }));
  }
}

/** Forgets what was shown, a new key too. */
export function forget() {
  showing += 1;
  for (const place of document.querySelectorAll("#admin .shown, #made")) place.replaceChildren();
}

function state(key) {
  if (key.revoked) return worded("span", "revoked");
  if (key.expires && new Date(key.expires) <= new Date()) return worded("span", "expired");
  if (!may("DELETE /admin/keys/{name}")) return worded("span", "valid");
  const button = worded("button", "revoke", { type: "button" });
  button.setAttribute("aria-label", `${say("revoke")} ${key.name}`);
  button.addEventListener("click", () => revoke(key.name));
  return button;
}

async function revoke(name) {
  if (!confirm(say("revoke.sure", { name }))) return;
  try {
    await ask("DELETE", `/admin/keys/${encodeURIComponent(name)}`);
  } catch (reason) {
    document.getElementById("admin-error").textContent = inWords(reason);
  }
  await show();
}

function report(model) {
  const link = worded("a", "open", { href: `/admin/runs/${encodeURIComponent(model)}/report`, target: "_blank", rel: "noopener" });
  link.setAttribute("aria-label", `${say("report")} ${model}`);
  return link;
}
