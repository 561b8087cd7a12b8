// Router, header, and the question for the token. Pages are modules in views/; each returns {title, element, update?, close?}.
import * as api from "./api.js";
import { fill, freshId, h } from "./dom.js";
import { load as learnWhoIAm, mayWrite, myName } from "./me.js";
import { store } from "./store.js";
import { access } from "./views/access.js";
import { audit } from "./views/audit.js";
import { errors } from "./views/errors.js";
import { events } from "./views/events.js";
import { overview } from "./views/overview.js";
import { processes } from "./views/processes.js";
import { sessions } from "./views/sessions.js";
import { topology } from "./views/topology.js";
import { settings } from "./views/settings.js";
import { tools } from "./views/tools.js";
import { upstreams } from "./views/upstreams.js";
import { virtual } from "./views/virtual.js";

const PAGES = [
  ["overview", "Overview", overview],
  ["upstreams", "Upstreams", upstreams],
  ["tools", "Tools", tools],
  ["virtual", "Virtual servers", virtual],
  ["sessions", "Sessions", sessions],
  ["errors", "Errors", errors],
  ["events", "Events", events],
  ["audit", "Audit", audit],
  ["access", "Access", access],
  ["topology", "Topology", topology],
  ["processes", "Processes", processes],
  ["settings", "Settings", settings],
];
const main = document.getElementById("main");
const live = document.getElementById("live");
const who = document.getElementById("who");
const AGAIN_MS = 2000;
let page = null;

function place() {
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  let detail = "";
  try {
    detail = decodeURIComponent(rest.join("/"));
  } catch { /* half an escape: no detail */ }
  return [PAGES.find(([one]) => one === name) || PAGES[0], detail];
}

function show(moved) {
  const [[name, label, make], detail] = place();
  fill(document.getElementById("nav"), PAGES.map(([one, text]) =>
    h("a", { href: `#/${one}`, "aria-current": one === name ? "page" : null }, text)));
  if (moved && page && page.name === name && page.moved) {
    page.moved(detail);
    return;
  }
  if (page && page.close) page.close();
  const heading = h("h1", { tabindex: "-1" }, label);
  page = { name, ...make(detail, heading) };
  fill(main, heading, page.element);
  page.label = label;
  entitle();
  if (page.update) page.update();
  if (moved) heading.focus();
}

function entitle() {
  document.title = `${page.label} · ${store.overview ? store.overview.name : "MCP gateway"}`;
}

function askForToken(wrong) {
  if (page && page.close) page.close();
  page = null;
  const id = freshId();
  const input = h("input", { id, type: "password", autocomplete: "off", required: true });
  const problem = h("p", { class: "problem", role: "alert" }, wrong ? "That is not the token." : "");
  const form = h("form", { class: "card", onsubmit: (event) => {
    event.preventDefault();
    api.setToken(input.value);
    start();
  } },
    h("p", {}, "The admin API of this gateway needs its token (", h("code", {}, "GATEWAY_ADMIN_TOKEN"), "), or an API key whose role has admin rights. It is kept in this tab alone."),
    h("div", { class: "field" }, h("label", { for: id }, "Admin token"), input),
    problem, h("button", { class: "main" }, "Continue"));
  fill(main, h("h1", { tabindex: "-1" }, "Admin token"), form);
  input.focus();
}

function say(kind, text) {
  if (live.textContent !== text) live.textContent = text;
  live.className = `live ${kind}`;
}

store.addEventListener("overview", () => {
  const { name, redis } = store.overview;
  document.getElementById("name").textContent = name;
  if (redis) say("on", "live");
  else say("", "live, without Redis");
  if (!page) return; // it is not known yet who asks
  entitle();
  if (page.update) page.update();
});
store.addEventListener("events", () => { if (page && page.happened) page.happened(); });
store.addEventListener("problem", () => {
  if (store.problem.status === 401) {
    say("off", "no token");
    askForToken(api.hasToken());
    api.setToken("");
  } else {
    say("off", store.problem.message);
  }
});

async function start() {
  say("", "connecting…");
  store.start();
  for (;;) {
    try {
      await learnWhoIAm();
      break;
    } catch (error) {
      if (error.status === 401) return; // the store hears it too, and asks for a token
      await new Promise((done) => setTimeout(done, AGAIN_MS));
    }
  }
  who.textContent = mayWrite() ? "" : `${myName()}, read only`;
  if (!page) show(false);
}

const THEMES = ["auto", "light", "dark"];
const button = document.getElementById("theme");
function theme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  button.textContent = `Theme: ${name}`;
  document.dispatchEvent(new Event("recoloured"));
}
button.addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(localStorage.getItem("gateway-theme") || "auto") + 1) % THEMES.length];
  localStorage.setItem("gateway-theme", next);
  theme(next);
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new Event("recoloured")));
const kept = localStorage.getItem("gateway-theme");
theme(THEMES.includes(kept) ? kept : "auto");

addEventListener("hashchange", () => { if (page) show(true); });
document.addEventListener("visibilitychange", () => { if (!document.hidden && page) store.refresh(); });
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
start();
