// Front ends and workers, how often they were replaced, and how much they log.
import * as api from "../api.js";
import { chip, fill, h, table } from "../dom.js";
import { confirmed } from "../dialog.js";
import { differs } from "../live.js";
import { forWriters, mayWrite } from "../me.js";
import { store } from "../store.js";
import { ago, clock, number } from "../words.js";

export function processes() {
  const frontends = h("div", {});
  const workers = h("div", {});
  const restarts = h("div", {});
  const said = h("p", { role: "status" });
  const level = h("select", { id: "level", disabled: !mayWrite() }, ["debug", "info", "warning", "error"].map((one) => h("option", { value: one }, one)));
  api.get("log-level").then((now) => { level.value = now.level; }, () => {});
  level.addEventListener("change", async () => {
    try {
      await api.change("PUT", "log-level", { level: level.value });
      said.textContent = `All processes log at ${level.value} now, until they end.`;
    } catch (error) {
      said.textContent = error.message;
    }
  });
  const roll = h("div", { "aria-live": "polite" });

  function restarting() {
    confirmed("Replace all processes?", "Every front end and worker is replaced, one after the other, by one with the code that is installed and the settings of the file as they are now. Calls go on.", "Replace them", async () => {
      await api.change("POST", "restart");
      following = true;
    });
  }

  const anew = differs();
  let following = false;
  async function lastRestart() {
    if (!following) return;
    const last = await api.get("restart").catch(() => null); // not begun yet, or a front end that is being replaced
    if (last === null || !anew(last)) return;
    fill(roll, [
      h("p", {}, chip(last.state, last.state === "failed" ? "bad" : last.state === "done" ? "good" : "warn"), ` restart of ${clock(last.beganAt)}`),
      last.error ? h("p", { class: "note bad" }, last.error) : null,
      last.notApplied.length ? h("p", { class: "note" }, `Needs a stop and a start: ${last.notApplied.join(", ")}`) : null,
      last.steps.length ? table("Steps of the last restart", [
        { label: "Process", header: true, cell: (one) => one.process },
        { label: "State", cell: (one) => one.state },
        { label: "Took", number: true, cell: (one) => (one.tookS ? `${number(one.tookS)} s` : "") },
      ], last.steps) : null,
    ]);
  }

  function update() {
    const now = store.overview;
    if (!now) return;
    fill(frontends, table("Front ends", [
      { label: "Front end", header: true, cell: (one) => h("span", { class: "mono" }, one.id) },
      { label: "Host", cell: (one) => one.host },
      { label: "Pid", number: true, cell: (one) => String(one.pid) },
      { label: "Up", number: true, cell: (one) => ago(one.startedAt) },
      { label: "Calls", number: true, cell: (one) => number(one.calls, 0) },
      { label: "In flight", number: true, cell: (one) => number(one.inFlight, 0) },
      { label: "Streams", number: true, cell: (one) => number(one.streams, 0) },
      { label: "Sessions", number: true, cell: (one) => number(one.sessions, 0) },
      { label: "Workers", number: true, cell: (one) => number(one.workers, 0) },
      { label: "Version", cell: (one) => one.version },
    ], now.frontends));
    fill(workers, now.workers.length === 0 ? h("p", { class: "note bad" }, "No worker is running: no call can be answered.") : table("Workers", [
      { label: "Worker", header: true, cell: (one) => h("span", { class: "mono" }, one.id) },
      { label: "Host", cell: (one) => one.host },
      { label: "Pid", number: true, cell: (one) => String(one.pid) },
      { label: "Up", number: true, cell: (one) => ago(one.startedAt) },
      { label: "Calls", number: true, cell: (one) => number(one.calls, 0) },
      { label: "In flight", number: true, cell: (one) => number(one.load, 0) },
      { label: "Parked", number: true, cell: (one) => number(one.parked, 0) },
      { label: "State", cell: (one) => (one.draining ? chip("drains", "warn") : chip("serves", "good")) },
      { label: "Version", cell: (one) => one.version },
    ], now.workers));
    const replaced = Object.entries(now.restarts);
    fill(restarts, replaced.length === 0 ? h("p", { class: "soft" }, "No process had to be replaced.") : table("Replaced processes", [
      { label: "Process", header: true, cell: ([name]) => name },
      { label: "Times", number: true, cell: ([, times]) => number(times, 0) },
    ], replaced));
  }
  return {
    element: h("div", {},
      h("section", { class: "card" }, h("h2", {}, "Front ends"), frontends),
      h("section", { class: "card" }, h("h2", {}, "Workers"), workers),
      h("section", { class: "card" }, h("h2", {}, "Replaced"), restarts, roll,
        forWriters(() => h("button", { type: "button", onclick: restarting }, "Replace all processes"))),
      h("section", { class: "card" }, h("h2", {}, "Logs"), h("p", {}, h("label", { for: "level" }, "Level of all processes "), level), said)),
    update: () => { update(); lastRestart(); },
  };
}
