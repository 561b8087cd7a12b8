// The last calls that failed: which, where, for whom, and where their traces are.
import * as api from "../api.js";
import { chip, fill, h, table } from "../dom.js";
import { differs, every } from "../live.js";
import { clock, number } from "../words.js";

const MOST = 100;
const FILTERS = [["name", "Tool"], ["upstream", "Upstream"], ["principal", "Principal"], ["request", "Trace id"]];

/** The id of a call's trace: a link where the gateway knows an address for it. */
export function trace(one) {
  if (!one.request) return h("span", { class: "soft" }, "none");
  const id = h("code", {}, one.request);
  return one.link ? h("a", { href: one.link, rel: "noreferrer", target: "_blank" }, id) : id;
}

/** Failed calls as a table. */
export function failures(found) {
  return table("Failed calls, the newest first", [
    { label: "When", cell: (one) => h("time", { datetime: new Date(one.at * 1000).toISOString() }, clock(one.at)) },
    { label: "Call", header: true, cell: (one) => [one.name || one.method, one.group ? h("span", { class: "soft" }, ` of ${one.group}`) : ""] },
    { label: "Failed", cell: (one) => chip(one.outcome, "bad") },
    { label: "Upstream", cell: (one) => (one.upstream ? h("a", { href: `#/upstreams/${encodeURIComponent(one.upstream)}` }, one.upstream) : "") },
    { label: "Principal", cell: (one) => one.principal },
    { label: "After", number: true, cell: (one) => `${number(one.ms, 0)} ms` },
    { label: "Attempts", number: true, cell: (one) => number(one.attempts, 0) },
    { label: "Trace", cell: trace },
    { label: "What was said", cell: (one) => one.error },
  ], found);
}

export function errors() {
  const place = h("div", {});
  const count = h("p", { class: "soft", role: "status" });
  const fields = FILTERS.map(([name, label]) => [name, h("input", { type: "search", id: `by-${name}`, autocomplete: "off", oninput: () => { clearTimeout(typing); typing = setTimeout(load, 150); } }), label]);
  const anew = differs();
  let typing = 0;

  async function load() {
    const wanted = fields.filter(([, input]) => input.value.trim()).map(([name, input]) => [name, input.value.trim()]);
    let found;
    try {
      found = await api.get(`errors?${new URLSearchParams([...wanted, ["limit", MOST]])}`);
    } catch (error) {
      fill(place, h("p", { class: "problem" }, error.message));
      return;
    }
    if (!anew([found, wanted.length])) return;
    count.textContent = found.length ? `the newest ${found.length} calls that failed` : wanted.length ? "None fits." : "No call has failed lately.";
    fill(place, found.length ? failures(found) : null);
  }
  return {
    element: h("div", {},
      h("div", { class: "row" }, fields.map(([, input, label]) => h("div", {}, h("label", { for: input.id }, `${label} `), input))),
      h("section", { class: "card" }, count, place)),
    update: every(1, load),
  };
}
