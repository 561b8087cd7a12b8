// All tools as clients see them, with search; one of them with its schema, a form to try it, and where a call would go.
import * as api from "../api.js";
import { chip, fill, h, table } from "../dom.js";
import { number } from "../words.js";
import { virtualList } from "../virtual.js";
import { trial } from "./trial.js";

const MOST_CONFLICTS = 50;

export function tools(detail, heading) {
  const search = h("input", { type: "search", id: "search", autocomplete: "off" });
  const count = h("p", { class: "soft", role: "status" });
  const listed = virtualList("Tools", (offset, limit) => api.page("tools", { search: search.value, limit, offset, schemas: "false" }), row);
  const place = h("div", {}, h("p", { class: "soft" }, "Choose a tool to see its schema and to try it."));
  let chosen = "";
  let running = null;

  function row(tool) {
    const about = (tool.description || "").split("\n")[0].slice(0, 120) || tool.group;
    return h("a", { href: `#/tools/${encodeURIComponent(tool.name)}`, title: tool.name, "aria-current": tool.name === chosen ? "true" : null },
      h("span", {}, tool.name), h("small", {}, about));
  }

  async function load() {
    try {
      const total = await listed.reload();
      if (total !== null) count.textContent = `${number(total, 0)} tools`;
    } catch (error) {
      count.textContent = error.message;
    }
  }

  async function choose(name) {
    chosen = name;
    if (running) running.close();
    running = null;
    listed.each((element, tool) => {
      if (name && tool.name === name) element.firstChild.setAttribute("aria-current", "true");
      else element.firstChild.removeAttribute("aria-current");
    });
    if (!name) return;
    fill(heading, "Tools");
    try {
      const [found, explained] = await Promise.all([api.page("tools", { search: name }), api.get(`explain?tool=${encodeURIComponent(name)}`)]);
      const tool = found.items.find((one) => one.name === name);
      if (name !== chosen) return;
      if (!tool) throw new Error(`there is no tool ${name} any more`);
      running = trial(tool);
      const title = h("h2", { tabindex: "-1" }, tool.name);
      fill(place, h("section", { class: "card" }, title, h("p", { class: "soft" }, `group ${tool.group}, replicas ${tool.replicas.join(", ")}`),
        tool.description ? h("p", {}, tool.description) : null, running.element,
        h("details", {}, h("summary", {}, "Schema"), h("pre", { tabindex: "0" }, JSON.stringify(tool.inputSchema, null, 2)))),
        routing(explained));
      title.focus();
    } catch (error) {
      if (name === chosen) fill(place, h("p", { class: "note bad" }, error.message));
    }
  }

  const clashing = h("div", {});
  api.get("conflicts").then((found) => fill(clashing, conflicts(found)), () => {});

  let typing = 0;
  search.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(load, 150); });
  load().then(() => choose(detail));
  return {
    element: h("div", { class: "split" },
      h("section", { class: "card", "aria-label": "List" }, h("div", { class: "field" }, h("label", { for: "search" }, "Search"), search), count, clashing, listed.element), place),
    moved: choose,
    close: () => { if (running) running.close(); },
  };
}

function conflicts(found) {
  if (found.length === 0) return null;
  return h("details", {}, h("summary", {}, found.length === 1 ? "1 name is that of several groups" : `${number(found.length, 0)} names are those of several groups`),
    h("ul", { class: "places" }, found.slice(0, MOST_CONFLICTS).map((one) => h("li", {}, h("strong", {}, one.name), ": ",
      Object.entries(one.listed).map(([group, listed], at) => [at ? ", " : "", h("a", { href: `#/tools/${encodeURIComponent(listed)}` }, listed), h("span", { class: "soft" }, ` (${group})`)])))),
    found.length > MOST_CONFLICTS ? h("p", { class: "soft" }, `and ${number(found.length - MOST_CONFLICTS, 0)} more`) : null);
}

function routing(explained) {
  return h("section", { class: "card" }, h("h2", {}, "Where a call would go"),
    h("p", {}, explained.choice ? h("strong", {}, explained.choice) : "open", `: ${explained.because} (${explained.balancer})`),
    table("Replicas", [
      { label: "Replica", header: true, cell: (one) => h("a", { href: `#/upstreams/${encodeURIComponent(one.id)}` }, one.id) },
      { label: "Status", cell: (one) => chip(one.status) },
      { label: "Takes calls", cell: (one) => (one.available ? "yes" : `no: ${one.reason}`) },
      { label: "In flight", number: true, cell: (one) => number(one.inFlight + one.inFlightElsewhere, 0) },
      { label: "Waiting", number: true, cell: (one) => number(one.waiting, 0) },
      { label: "Calls", number: true, cell: (one) => number(one.calls, 0) },
      { label: "Errors", number: true, cell: (one) => number(one.errors, 0) },
      { label: "Weight", number: true, cell: (one) => number(one.weight, 0) },
      { label: "Workers", cell: (one) => one.workers.join(", ") },
    ], explained.candidates));
}
