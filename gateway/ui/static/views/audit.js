// The audit log as it grows: who did what, and how it ended.
import * as api from "../api.js";
import { chip, fill, h, table } from "../dom.js";
import { labelled } from "../dialog.js";
import { me } from "../me.js";
import { number } from "../words.js";

const MOST = 300;
const KINDS = ["call", "denied", "authentication", "admin", "lost", "tool-quarantined", "tool-changed", "tool-released"];
const GOOD = /^(answered|2\d\d|listening)$/;

/** The parts of an event that have no column of their own, as one text. */
export function rest(event) {
  const { time, event: kind, principal, name, method, outcome, upstream, group, durationMs, frontend, ...others } = event;
  return Object.entries(others).map(([what, value]) => `${what}=${typeof value === "string" ? value : JSON.stringify(value)}`).join(" ");
}

export function audit() {
  if (!me.audit) {
    return { element: h("section", { class: "card" }, h("p", {}, "No audit log is kept in Redis here. Add ", h("code", {}, "audit: {}"), " to ", h("code", {}, "access"), " of the gateway's file; it has an event for each call, each refusal and each change.")) };
  }
  const who = h("input", { type: "search", autocomplete: "off" });
  const tool = h("input", { type: "search", autocomplete: "off" });
  const outcome = h("input", { type: "search", autocomplete: "off" });
  const kind = h("select", {}, h("option", { value: "" }, "any"), KINDS.map((one) => h("option", { value: one }, one)));
  const still = h("input", { type: "checkbox", id: "still" });
  const count = h("p", { class: "soft", role: "status" });
  const place = h("div", {});
  let events = [];
  let after = "";
  let asked = 0;
  let busy = false;

  async function load(anew) {
    if (busy && !anew) return;
    asked += 1;
    const mine = asked;
    busy = true;
    if (anew) [events, after] = [[], ""];
    const query = new URLSearchParams({ limit: "1000", after });
    for (const [name, control] of [["principal", who], ["tool", tool], ["outcome", outcome], ["event", kind]]) {
      if (control.value.trim()) query.set(name, control.value.trim());
    }
    try {
      const found = await api.get(`audit?${query}`);
      if (mine !== asked) return;
      after = found.next;
      if (found.events.length || anew) {
        events = [...found.events.reverse(), ...events].slice(0, MOST);
        show();
      }
    } catch (error) {
      if (mine === asked) fill(place, h("p", { class: "problem" }, error.message));
    } finally {
      if (mine === asked) busy = false;
    }
  }

  function show() {
    count.textContent = events.length === MOST ? `the last ${MOST} events that fit` : `${number(events.length, 0)} events`;
    fill(place, events.length === 0 ? h("p", {}, "Nothing that fits is among the last thousand events. What happens from now on appears here.") : table("Audit log, the newest first", [
      { label: "Time", header: true, cell: (one) => h("time", { datetime: one.time }, new Date(one.time).toLocaleString("en-GB")) },
      { label: "Event", cell: (one) => one.event },
      { label: "Principal", cell: (one) => one.principal || "" },
      { label: "What", cell: (one) => [one.method, one.name].filter((part) => part).join(" ") },
      { label: "Upstream", cell: (one) => one.upstream || one.group || "" },
      { label: "Outcome", cell: (one) => (one.outcome ? chip(one.outcome, GOOD.test(one.outcome) ? "good" : "bad") : "") },
      { label: "ms", number: true, cell: (one) => (one.durationMs === undefined ? "" : number(one.durationMs, 1)) },
      { label: "More", cell: (one) => h("span", { class: "mono" }, rest(one)) },
    ], events));
  }

  let typing = 0;
  for (const control of [who, tool, outcome]) {
    control.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => load(true), 250); });
  }
  kind.addEventListener("change", () => load(true));
  load(true);
  return {
    element: h("div", {},
      h("div", { class: "row" }, labelled("Principal", who), labelled("Tool", tool), labelled("Outcome", outcome), labelled("Event", kind)),
      h("section", { class: "card" }, h("p", {}, still, " ", h("label", { for: "still" }, "hold still")), count, place)),
    update: () => { if (!still.checked) load(false); },
  };
}
