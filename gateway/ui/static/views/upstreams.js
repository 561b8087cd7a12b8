// The registered servers: a list with search, of any length. One of them is in upstream.js.
import * as api from "../api.js";
import { chip, h } from "../dom.js";
import { every } from "../live.js";
import { forWriters } from "../me.js";
import { ago, number } from "../words.js";
import { virtualList } from "../virtual.js";
import { upstream } from "./upstream.js";
import { adding } from "./upstream_forms.js";

const STATUSES = ["connected", "connecting", "error", "registered", "stopped"];
const COLUMNS = ["Upstream", "Group", "Transport", "Status", "Since", "Probe", "Reason"];

export function upstreams(detail, heading) {
  return detail ? upstream(detail, heading) : list();
}

/** What a row says of an upstream: a word for each column. */
export function cells(one) {
  const probe = one.lastHealthCheck ? one.lastHealthCheck.latencyMs : null;
  return [one.id, one.name === one.id ? "" : one.name, one.transport, one.duty === "active" ? one.status : one.duty,
    ago(one.statusSince), probe === null ? "" : `${number(probe, 0)} ms`, one.error || ""];
}

function row(one) {
  const [id, group, transport, status, since, probe, reason] = cells(one);
  return h("a", { class: "line", href: `#/upstreams/${encodeURIComponent(id)}` },
    h("strong", {}, id), h("span", {}, group), h("span", {}, transport), h("span", {}, chip(status)),
    h("span", { class: "number" }, since), h("span", { class: "number" }, probe), h("span", { class: "problem" }, reason));
}

function list() {
  const search = h("input", { type: "search", id: "search", autocomplete: "off" });
  const status = h("select", { id: "status" }, h("option", { value: "" }, "any"), STATUSES.map((word) => h("option", { value: word }, word)));
  const count = h("p", { class: "soft", role: "status" });
  const listed = virtualList("Upstreams", (offset, limit) => api.page("servers", { search: search.value, status: status.value, offset, limit }), row, "rows");

  async function load(look) {
    let text;
    try {
      const total = await look();
      if (total === null) return;
      const filtered = search.value || status.value;
      text = total ? `${number(total, 0)} ${total === 1 ? "upstream" : "upstreams"}` : filtered ? "None fits." : "No upstream is registered yet.";
    } catch (error) {
      text = error.message;
    }
    if (count.textContent !== text) count.textContent = text;
  }

  let typing = 0;
  search.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(() => load(listed.reload), 150); });
  status.addEventListener("change", () => load(listed.reload));
  load(listed.reload);
  return {
    element: h("div", {},
      h("div", { class: "row" },
        h("div", {}, h("label", { for: "search" }, "Search "), search),
        h("div", {}, h("label", { for: "status" }, "Status "), status),
        forWriters(() => h("button", { type: "button", class: "main", onclick: () => adding() }, "Add an upstream"))),
      h("div", { class: "card" }, count, h("p", { class: "line head", "aria-hidden": "true" }, COLUMNS.map((word) => h("span", {}, word))), listed.element)),
    update: every(2, () => load(listed.refresh)),
  };
}
