// The page as a whole: who is logged in, which part is shown, the language, and the colours.

import * as admin from "./admin.js";
import { ask, login, logout, may, resume } from "./api.js";
import * as chat from "./chat.js";
import { equip, inWords } from "./form.js";
import * as tasks from "./tasks.js";
import { LANGUAGES, fill, setLanguage } from "./words.js";

const page = document.documentElement;
const find = (id) => document.getElementById(id);
const links = [...find("nav").querySelectorAll("a")];

/** A choice that is kept in this browser, where it keeps anything. */
const kept = {
  get(name) {
    try { return localStorage.getItem(name); } catch { return null; }
  },
  set(name, value) {
    try { localStorage.setItem(name, value); } catch { /* it is for this visit only */ }
  },
};

function colours(theme) {
  if (theme) page.dataset.theme = theme;
  else delete page.dataset.theme;
}

function choices() {
  const language = kept.get("language") ?? (navigator.language.startsWith("zh") ? "zh" : "en");
  find("language").value = LANGUAGES.includes(language) ? language : "en";
  find("theme").value = kept.get("theme") ?? "";
  setLanguage(find("language").value);
  colours(find("theme").value);
  find("language").addEventListener("change", ({ target }) => {
    setLanguage(target.value);
    kept.set("language", target.value);
    if (!find("admin").hidden) admin.show(); // its times and names of buttons are in words too
  });
  find("theme").addEventListener("change", ({ target }) => {
    colours(target.value);
    kept.set("theme", target.value);
  });
}

/** Lets in: the parts that the role may use, and the models that the key may ask. */
async function open(session) {
  for (const each of document.querySelectorAll("[data-route]")) each.hidden = !may(each.dataset.route);
  const { data } = await ask("GET", "/v1/models");
  for (const form of document.querySelectorAll("[data-tasks]")) pick(form, data);
  const grants = find("admin").querySelector("select[name=models]");
  grants.replaceChildren(...data.map((model) => new Option(model.id)));
  find("who").textContent = session.token ? session.name : "";
  find("logout").hidden = !session.token; // where no key is asked for, nobody is logged in
  find("nav").hidden = false;
  turn();
}

/** Offers a form the models that are for its task. */
function pick(form, models) {
  const wanted = form.dataset.tasks.split(" ");
  const fit = models.filter((model) => wanted.includes(model.task));
  form.elements.model.replaceChildren(...fit.map((model) => {
    const option = new Option(model.id);
    option.dataset.task = model.task;
    return option;
  }));
  form.querySelector(".start").disabled = !fit.length;
  fill(form.querySelector(".status"), fit.length ? "" : "no-model");
  const books = models.filter((model) => model.task === "index");
  const index = form.elements.index;
  if (index) {
    index.replaceChildren(new Option("–", ""), ...books.map((model) => new Option(model.id)));
    tasks.offer(form);
  }
}

/** Shuts: nothing of the session stays on the page. */
function close(reason) {
  for (const part of [chat, tasks, admin]) part.forget();
  for (const form of document.forms) form.reset();
  for (const status of document.querySelectorAll(".status")) fill(status, "");
  for (const error of document.querySelectorAll(".error")) error.textContent = "";
  find("who").textContent = "";
  find("logout").hidden = find("nav").hidden = true;
  shown("login");
  if (reason) find("login").querySelector(".error").textContent = inWords(reason);
}

/** Shows the part that the address names, or the first that has a model. */
function turn() {
  if (find("nav").hidden) return;
  const there = links.filter((link) => !link.hidden);
  const works = ({ hash }) => !document.querySelector(`${hash} .start`).disabled;
  const link = there.find((each) => each.hash === location.hash) ?? there.find(works) ?? there[0];
  for (const each of links) {
    if (each === link) each.setAttribute("aria-current", "page");
    else each.removeAttribute("aria-current");
  }
  shown(link.hash.slice(1));
  admin.forget();
  if (link.hash === "#admin") admin.show();
}

function shown(name) {
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== name;
  window.scrollTo(0, 0);
  const first = find(name).querySelector("input, textarea");
  (name === "admin" ? find("main") : first).focus({ preventScroll: true });
}

async function begin() {
  for (const part of [chat, tasks, admin]) part.begin();
  equip(find("login").querySelector("form"), async (fields, _, tell) => {
    const session = await login(fields.get("key").trim());
    find("login").querySelector("form").reset(); // the key stays nowhere
    tell("");
    await open(session);
  });
  choices();
  window.addEventListener("hashchange", turn);
  document.addEventListener("closed", ({ detail }) => close(detail));
  find("logout").addEventListener("click", async () => {
    await logout().catch(() => {});
    document.dispatchEvent(new CustomEvent("closed"));
  });
  try {
    const session = await resume();
    if (session) await open(session);
    else close();
  } catch (reason) {
    close(reason);
  }
}

begin();
