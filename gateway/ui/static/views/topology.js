// Who carries what: front ends, the workers they are linked to, and the upstreams of each worker.
import * as api from "../api.js";
import { chip, facts, fill, h } from "../dom.js";
import { differs, every } from "../live.js";
import { ago, number } from "../words.js";

const MOST = 60;

/** How many of these places have each status, the most frequent first: [[word, count], …]. */
export function counted(places) {
  const found = new Map();
  for (const one of places) {
    const word = one.duty === "active" ? one.status : one.duty;
    found.set(word, (found.get(word) || 0) + 1);
  }
  return [...found].sort(([, one], [, other]) => other - one);
}

/** The places by group, in the order in which groups first appear: [[group, places], …]. */
export function grouped(places) {
  const found = new Map();
  for (const one of places) found.set(one.group, [...(found.get(one.group) || []), one]);
  return [...found];
}

function carried(places) {
  if (places.length === 0) return h("p", { class: "soft" }, "It carries nothing.");
  const groups = grouped(places);
  const lines = groups.slice(0, MOST).map(([group, ones]) => h("li", {}, h("strong", {}, group), " ", ones.slice(0, MOST).map((one, at) => [at ? ", " : "",
    h("a", { href: `#/upstreams/${encodeURIComponent(one.id)}` }, one.id), one.leads ? "" : h("span", { class: "soft" }, " (follows)"),
    one.status === "connected" && one.duty === "active" ? "" : [" ", chip(one.duty === "active" ? one.status : one.duty)]])));
  if (groups.length > MOST) lines.push(h("li", { class: "soft" }, `and ${number(groups.length - MOST, 0)} more groups`));
  return h("details", { open: groups.length <= 12 }, h("summary", {}, counted(places).map(([word, count]) => [chip(word), ` ${number(count, 0)} `])), h("ul", { class: "places" }, lines));
}

export function topology() {
  const frontends = h("div", {});
  const workers = h("div", {});
  const unowned = h("div", {});
  const anew = differs();

  async function load() {
    let now;
    try {
      now = await api.get("topology");
    } catch (error) {
      fill(frontends, h("p", { class: "problem" }, error.message));
      return;
    }
    const shape = [now.frontends.map((one) => [one.id, one.workers, one.inFlight]), now.workers.map((one) => [one.worker.id, one.worker.load, one.worker.draining, one.upstreams]), now.unowned];
    if (!anew(shape)) return;
    const opened = new Set([...workers.querySelectorAll("details")].filter((one) => one.open).map((one) => one.parentElement.dataset.id));
    fill(frontends, now.frontends.map((one) => h("article", { class: "card" }, h("h3", { class: "mono" }, one.id), facts([
      ["Host", one.host], ["Up", ago(one.startedAt)], ["Linked to", `${one.workers} of ${now.workers.length} workers`], ["Calls in flight", number(one.inFlight, 0)],
    ]))));
    fill(workers, now.workers.length === 0 ? h("p", { class: "note bad" }, "No worker is running: no call can be answered.") : now.workers.map(({ worker, upstreams }) =>
      h("article", { class: "card", "data-id": worker.id }, h("h3", { class: "mono" }, worker.id, worker.draining ? [" ", chip("drains", "warn")] : ""), facts([
        ["Host", worker.host], ["Up", ago(worker.startedAt)], ["Linked front ends", number(worker.links, 0)], ["Calls under way", number(worker.load, 0)],
        ["Carries", `${number(upstreams.length, 0)} upstreams, leads ${number(upstreams.filter((one) => one.leads).length, 0)}`],
      ]), carried(upstreams))));
    for (const one of workers.querySelectorAll("article")) if (opened.has(one.dataset.id)) one.querySelector("details")?.setAttribute("open", "");
    fill(unowned, now.unowned.length === 0 ? null : h("section", { class: "card" }, h("h2", {}, "Upstreams that no worker has"), carried(now.unowned)));
  }
  return {
    element: h("div", {}, h("p", { class: "soft" }, "Calls go from any front end to any worker that carries the upstream. One worker leads it: it lists and probes it."),
      h("div", { class: "columns" }, h("section", {}, h("h2", {}, "Front ends"), frontends), h("section", {}, h("h2", {}, "Workers"), workers)), unowned),
    update: every(1, load),
  };
}
