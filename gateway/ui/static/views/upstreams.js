// The registered servers: a list with search. One of them is in upstream.js.
import * as api from "../api.js";
import { chip, fill, h, table } from "../dom.js";
import { every } from "../live.js";
import { forWriters } from "../me.js";
import { ago, number } from "../words.js";
import { upstream } from "./upstream.js";
import { adding } from "./upstream_forms.js";

const PAGE = 100;
const STATUSES = ["connected", "connecting", "error", "registered", "stopped"];
const link = (id) => h("a", { href: `#/upstreams/${encodeURIComponent(id)}` }, id);

export function upstreams(detail, heading) {
  return detail ? upstream(detail, heading) : list();
}

function list() {
  const search = h("input", { type: "search", id: "search", autocomplete: "off" });
  const status = h("select", { id: "status" }, h("option", { value: "" }, "any"), STATUSES.map((word) => h("option", { value: word }, word)));
  const place = h("div", {});
  const count = h("p", { class: "soft", role: "status" });
  const more = h("button", { type: "button", hidden: true }, "Show more");
  let limit = PAGE;
  let asked = 0;

  async function load() {
    asked += 1;
    const mine = asked;
    try {
      const found = await api.page("servers", { search: search.value, status: status.value, limit });
      if (mine !== asked) return;
      const text = `${number(found.items.length, 0)} of ${number(found.total, 0)} upstreams`;
      if (count.textContent !== text) count.textContent = text;
      more.hidden = found.items.length >= found.total;
      const focused = place.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      fill(place, found.items.length === 0 ? h("p", {}, found.total || search.value || status.value ? "None fits." : "No upstream is registered yet.") : table("Upstreams", [
        { label: "Upstream", header: true, cell: (row) => link(row.id) },
        { label: "Group", cell: (row) => row.name },
        { label: "Transport", cell: (row) => row.transport },
        { label: "Status", cell: (row) => chip(row.status) },
        { label: "Since", number: true, cell: (row) => ago(row.statusSince) },
        { label: "Probe", number: true, cell: (row) => (row.lastHealthCheck && row.lastHealthCheck.latencyMs !== null ? `${number(row.lastHealthCheck.latencyMs, 0)} ms` : "") },
        { label: "Reason", cell: (row) => (row.error ? h("span", { class: "problem" }, row.error) : "") },
      ], found.items));
      if (focused) [...place.querySelectorAll("a")].find((a) => a.getAttribute("href") === focused)?.focus();
    } catch (error) {
      if (mine === asked) fill(place, h("p", { class: "problem" }, error.message));
    }
  }

  let typing = 0;
  search.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => { limit = PAGE; load(); }, 150); });
  status.addEventListener("change", () => { limit = PAGE; load(); });
  more.addEventListener("click", () => { limit += PAGE; load(); });
  return {
    element: h("div", {},
      h("div", { class: "row" },
        h("div", {}, h("label", { for: "search" }, "Search "), search),
        h("div", {}, h("label", { for: "status" }, "Status "), status),
        forWriters(() => h("button", { type: "button", class: "main", onclick: () => adding() }, "Add an upstream"))),
      h("div", { class: "card" }, count, place, more)),
    update: every(2, load),
  };
}
