// One upstream: its state and the reason, its tools and what of them is not as it was approved, its history, and what can be done.
import * as api from "../api.js";
import { chip, facts, fill, h } from "../dom.js";
import { every } from "../live.js";
import { forWriters } from "../me.js";
import { store } from "../store.js";
import { runsProcess } from "../transports.js";
import { ago, clock, number } from "../words.js";
import { pins } from "./pins.js";
import { failures } from "./errors.js";
import { editing, onDuty, removing, restarting } from "./upstream_forms.js";

const MOST_TOOLS = 200;

export function upstream(id, heading) {
  fill(heading, id);
  const place = h("div", {});
  const said = h("p", { role: "status", class: "soft" });
  const logs = h("pre", { tabindex: "0", "aria-label": "Last lines of its error output" }, "…");
  const logCard = h("section", { class: "card", hidden: true }, h("h2", {}, "Error output"), logs);
  const history = h("ol", { class: "feed", "aria-label": "What happened to it" });
  const tools = h("ul", {});
  const approvals = pins(id);
  const failed = h("div", {});
  const failedCard = h("section", { class: "card", hidden: true }, h("h2", {}, "Calls that failed here"), failed);
  const duties = h("span", { class: "row flat" });
  let now = null;
  const after = (text) => () => { said.textContent = text; load(); };
  const buttons = forWriters(() => h("div", { class: "row" },
    h("button", { type: "button", onclick: () => now && editing(now, after("Changed.")) }, "Change"),
    h("button", { type: "button", onclick: () => now && restarting(now, after("It begins anew.")) }, "Restart"), duties,
    h("button", { type: "button", class: "danger", onclick: () => removing(id) }, "Remove")));
  const state = h("section", { class: "card", hidden: true }, place, buttons, said);
  const missing = h("div", {});
  const element = h("div", {}, h("p", {}, h("a", { href: "#/upstreams" }, "All upstreams")), missing, state, approvals.element,
    h("div", { class: "columns" }, h("section", { class: "card" }, h("h2", {}, "Tools"), tools),
      h("section", { class: "card" }, h("h2", {}, "History"), history)), failedCard, logCard);

  async function load() {
    try {
      now = await api.get(`servers/${encodeURIComponent(id)}`);
    } catch (error) {
      state.hidden = true;
      fill(missing, h("p", { class: "note bad" }, error.message));
      return;
    }
    fill(missing);
    state.hidden = false;
    fill(place, summary(now));
    fill(tools, now.tools.length === 0 ? h("li", { class: "soft" }, "It lists none.") : now.tools.slice(0, MOST_TOOLS).map((tool) =>
      h("li", {}, h("strong", {}, tool.name), tool.description ? h("span", { class: "soft" }, ` – ${tool.description.slice(0, 200)}`) : "")),
      now.tools.length > MOST_TOOLS ? h("li", { class: "soft" }, `and ${now.tools.length - MOST_TOOLS} more`) : null);
    approvals.show(now.pin);
    showDuties();
    showFailed();
    if (await runsProcess(now.transport)) await showLogs();
  }

  /** Buttons for what it may become. They are made anew only when it became something else, so that focus stays. */
  function showDuties() {
    if (duties.dataset.duty === now.duty) return;
    duties.dataset.duty = now.duty;
    fill(duties, ["draining", "disabled", "active"].filter((duty) => duty !== now.duty).map((duty) => onDuty(now, duty, after)));
  }

  async function showFailed() {
    const found = await api.get(`errors?limit=5&upstream=${encodeURIComponent(id)}`).catch(() => []);
    failedCard.hidden = found.length === 0;
    if (failed.dataset.newest === String(found[0]?.at)) return;
    failed.dataset.newest = String(found[0]?.at);
    fill(failed, failures(found));
  }

  async function showLogs() {
    const lines = await api.get(`servers/${encodeURIComponent(id)}/logs`).catch(() => []);
    logCard.hidden = false;
    const text = lines.slice(-200).join("\n") || "It wrote nothing.";
    if (logs.dataset.text !== text) {
      logs.dataset.text = text;
      fill(logs, text);
    }
  }

  function happened() {
    fill(history, store.events.filter((event) => event.id === id).slice(0, 30).map((event) =>
      h("li", {}, h("time", {}, clock(event.at)), h("span", {}, event.kind.replace("upstream-", ""), " ", event.text))));
  }
  happened();
  return { element, happened, update: every(2, load) };
}

/** How a probe ended. The reason is said once, where it is that of the upstream as well. */
export function probed(health, error) {
  if (health.healthy) return "healthy";
  return health.error && health.error !== error ? health.error : "failed";
}

function summary(now) {
  const health = now.lastHealthCheck;
  return [
    h("p", {}, chip(now.status), " since ", ago(now.statusSince), now.duty === "active" ? null : [" ", chip(now.duty, "warn")]),
    now.error ? h("p", { class: "note bad" }, now.error, now.advice ? h("span", { class: "advice" }, `What helps: ${now.advice}.`) : null) : null,
    now.notes.map((note) => h("p", { class: "note" }, note)),
    facts([
      ["Group", now.name], ["Transport", now.transport], ["Protocol", [...now.eras, now.protocolVersion || ""].join(" ")],
      ["Weight", String(now.weight)], ["Isolation", now.isolation], ["Balancer", now.balancer], ["Registered by", now.source],
      ["Shown tools", now.includeTools ? now.includeTools.join(", ") : ""], ["Hidden tools", now.excludeTools.join(", ")],
      ["Tools that change", now.pin === "off" ? "" : now.pin === "block" ? "are held back" : "are shown, with a warning"],
      ["Workers", now.owners.join(", ")],
      ["Last probe", health ? `${probed(health, now.error)}, ${health.latencyMs === null ? "" : `${number(health.latencyMs, 0)} ms, `}${clock(health.checkedAt)}` : ""],
      ["Connection", h("code", {}, JSON.stringify(now.connection))],
    ]),
  ];
}
