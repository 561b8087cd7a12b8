// The gateway at a glance: figures, charts, what is wrong, what happened.
import * as api from "../api.js";
import { chart } from "../chart.js";
import { chip, fill, h, table } from "../dom.js";
import { store } from "../store.js";
import { ago, number, quantile, seconds } from "../words.js";
import { failures } from "./errors.js";
import { line } from "./events.js";

const SLOW_EVERY = 2;
const FAILED = 3;
const FAILING = 5;
const HELD = 10;

export function overview() {
  const tiles = h("dl", { class: "tiles" });
  const wrong = h("div", {});
  const feed = h("ol", { class: "feed", "aria-label": "Latest events" });
  const groups = h("div", {});
  const failed = h("div", {});
  const held = h("div", {});
  const perSecond = (value) => `${number(value)}/s`;
  const charts = [
    chart("Calls a second", [
      { label: "calls", of: (one) => one.calls, text: perSecond },
      { label: "errors", of: (one) => one.errors, text: perSecond },
    ], (value) => number(value), 1),
    chart("Time to the answer", [
      { label: "half within", of: (one) => one.p50, text: seconds },
      { label: "99 % within", of: (one) => one.p99, text: seconds },
    ], seconds, 0.001),
    chart("Calls in flight", [{ label: "in flight", of: (one) => one.inFlight, text: (value) => number(value, 0) }], (value) => number(value, 0), 4),
  ];
  let rounds = 0;
  let closed = false;

  async function slowly() {
    const [failing, traffic, lately, differing] = await Promise.all([
      api.page("servers", { status: "error", limit: FAILING }), api.get("traffic"), api.get(`errors?limit=${FAILED}`), api.get("quarantine"),
    ]);
    if (closed) return;
    fill(wrong, failing.items.length === 0 ? null : h("section", { class: "card" }, h("h2", {}, "Upstreams that fail"),
      h("ul", { class: "feed" }, failing.items.map((one) => h("li", {}, h("span", { class: "soft" }, ago(one.statusSince)), h("span", {},
        h("a", { href: `#/upstreams/${encodeURIComponent(one.id)}` }, one.id), " ", h("span", { class: "problem" }, one.error || "no reason is known"))))),
      failing.total > failing.items.length ? h("p", {}, h("a", { href: "#/upstreams" }, `and ${number(failing.total - failing.items.length, 0)} more`)) : null));
    fill(held, differing.length === 0 ? null : h("section", { class: "card" }, h("h2", {}, "Tools that are not as they were approved"),
      h("ul", { class: "feed" }, differing.slice(0, HELD).map((one) => h("li", {}, chip(one.state, one.heldBack ? "bad" : "warn"), h("span", {},
        h("a", { href: `#/upstreams/${encodeURIComponent(one.upstream)}` }, one.upstream), ` ${one.tool}${one.heldBack ? ", held back" : ""}`)))),
      differing.length > HELD ? h("p", { class: "soft" }, `and ${differing.length - HELD} more`) : null));
    fill(failed, lately.length === 0 ? null : h("section", { class: "card" }, h("h2", {}, "Calls that failed lately"), failures(lately), h("p", {}, h("a", { href: "#/errors" }, "All of them"))));
    const busiest = traffic.groups.sort((one, other) => other.calls - one.calls).slice(0, 12);
    fill(groups, busiest.length === 0 ? h("p", { class: "soft" }, "No call has been made yet. ", h("a", { href: "#/tools" }, "Try a tool.")) : table("Calls by group", [
      { label: "Group", header: true, cell: (one) => one.group },
      { label: "Calls", number: true, cell: (one) => number(one.calls, 0) },
      { label: "Errors", number: true, cell: (one) => number(one.errors, 0) },
      { label: "Half within", number: true, cell: (one) => seconds(quantile(one.buckets, 0.5)) },
      { label: "99 % within", number: true, cell: (one) => seconds(quantile(one.buckets, 0.99)) },
    ], busiest));
  }

  function update() {
    const now = store.overview;
    const last = store.samples.at(-1) || {};
    if (!now) return;
    const connected = now.upstreams.connected || 0;
    const all = Object.values(now.upstreams).reduce((sum, one) => sum + one, 0);
    const tile = (what, value, more) => h("div", { class: "tile" }, h("dt", {}, what), h("dd", {}, value, more ? h("small", {}, ` ${more}`) : null));
    fill(tiles,
      tile("Calls a second", number(last.calls)),
      tile("Errors a second", number(last.errors)),
      tile("99 % within", seconds(last.p99)),
      tile("In flight", number(last.inFlight, 0)),
      tile("Upstreams", `${connected}`, `of ${all} up`),
      tile("Tools", number(now.tools, 0)),
      tile("Front ends", now.frontends.length, now.workers.length === 1 ? "1 worker" : `${now.workers.length} workers`),
      tile("Redis", now.redis ? chip("answers", "good") : chip("away", "bad")));
    charts.forEach((one) => one.update(store.samples));
    if (rounds % SLOW_EVERY === 0) slowly().catch(() => {});
    rounds += 1;
    happened();
  }
  function happened() {
    fill(feed, store.events.slice(0, 8).map(line));
  }

  const element = h("div", {}, tiles, wrong, held, h("div", { class: "columns" }, charts.map((one) => one.element)),
    h("div", { class: "columns" }, h("section", { class: "card" }, h("h2", {}, "Busiest groups"), groups),
      h("section", { class: "card" }, h("h2", {}, "Latest events"), feed)), failed);
  return { element, update, happened, close: () => { closed = true; charts.forEach((one) => one.destroy()); } };
}
