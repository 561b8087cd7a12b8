// The registered servers: a list with search, one of them with its reasons, adding and removing.
import * as api from "../api.js";
import { chip, facts, fill, freshId, h, table } from "../dom.js";
import { store } from "../store.js";
import { ago, clock, number } from "../words.js";

const PAGE = 100;
const STATUSES = ["connected", "connecting", "error", "registered", "stopped"];
const link = (id) => h("a", { href: `#/upstreams/${encodeURIComponent(id)}` }, id);

export function upstreams(detail, heading) {
  return detail ? one(detail, heading) : list();
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
  let rounds = 0;
  return {
    element: h("div", {},
      h("div", { class: "row" },
        h("div", {}, h("label", { for: "search" }, "Search "), search),
        h("div", {}, h("label", { for: "status" }, "Status "), status),
        h("button", { type: "button", class: "main", onclick: () => adding() }, "Add an upstream")),
      h("div", { class: "card" }, count, place, more)),
    update: () => { if (rounds % 2 === 0) load(); rounds += 1; },
  };
}

function dialog(title, ...content) {
  const id = freshId();
  const box = h("dialog", { "aria-labelledby": id }, h("h2", { id }, title), content);
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
  return box;
}

function adding() {
  const ids = { id: freshId(), url: freshId(), group: freshId(), kind: freshId() };
  const id = h("input", { id: ids.id, required: true, autocomplete: "off" });
  const where = h("input", { id: ids.url, type: "url", required: true, autocomplete: "off" });
  const group = h("input", { id: ids.group, autocomplete: "off" });
  const kind = h("select", { id: ids.kind }, [["", "find out"], ["http", "Streamable HTTP"], ["sse", "HTTP+SSE"]].map(([value, text]) => h("option", { value }, text)));
  const problem = h("p", { class: "problem", role: "alert" });
  const form = h("form", { onsubmit: async (event) => {
    event.preventDefault();
    const connection = { url: where.value, ...(kind.value ? { type: kind.value } : {}) };
    try {
      await api.change("POST", "servers", { id: id.value, connection, ...(group.value ? { name: group.value } : {}) });
      box.close();
      location.hash = `#/upstreams/${encodeURIComponent(id.value)}`;
    } catch (error) {
      problem.textContent = error.message;
    }
  } },
    h("div", { class: "field" }, h("label", { for: ids.id }, "Id"), id),
    h("div", { class: "field" }, h("label", { for: ids.url }, "URL"), where),
    h("div", { class: "field" }, h("label", { for: ids.kind }, "Transport"), kind),
    h("div", { class: "field" }, h("label", { for: ids.group }, "Group (default: the id)"), group),
    h("p", { class: "soft" }, "Commands are added with ", h("code", {}, "gateway servers add ID -- COMMAND"), "."),
    problem, h("div", { class: "row" }, h("button", { class: "main" }, "Add"), h("button", { type: "button", onclick: () => box.close() }, "Cancel")));
  const box = dialog("Add an upstream", form);
  id.focus();
}

function removing(id) {
  const problem = h("p", { class: "problem", role: "alert" });
  const box = dialog(`Remove ${id}?`, h("p", {}, "Its tools leave the lists, and calls under way are still answered. An entry of a configuration file has to be removed there."), problem,
    h("div", { class: "row" }, h("button", { type: "button", class: "danger", onclick: async () => {
      try {
        await api.change("DELETE", `servers/${encodeURIComponent(id)}`);
        box.close();
        location.hash = "#/upstreams";
      } catch (error) {
        problem.textContent = error.message;
      }
    } }, "Remove"), h("button", { type: "button", onclick: () => box.close() }, "Keep")));
}

function one(id, heading) {
  fill(heading, id);
  const place = h("div", {});
  const logs = h("pre", { tabindex: "0", "aria-label": "Last lines of its error output" }, "…");
  const logCard = h("section", { class: "card", hidden: true }, h("h2", {}, "Error output"), logs);
  const history = h("ol", { class: "feed", "aria-label": "What happened to it" });
  const tools = h("ul", {});
  const element = h("div", {}, h("p", {}, h("a", { href: "#/upstreams" }, "All upstreams")), place,
    h("div", { class: "columns" }, h("section", { class: "card" }, h("h2", {}, "Tools"), tools),
      h("section", { class: "card" }, h("h2", {}, "History"), history)), logCard);

  async function load() {
    let now;
    try {
      now = await api.get(`servers/${encodeURIComponent(id)}`);
    } catch (error) {
      fill(place, h("p", { class: "note bad" }, error.message));
      return;
    }
    const health = now.lastHealthCheck;
    fill(place, h("section", { class: "card" },
      h("p", {}, chip(now.status), " since ", ago(now.statusSince)),
      now.error ? h("p", { class: "note bad" }, now.error) : null,
      now.notes.map((note) => h("p", { class: "note" }, note)),
      facts([
        ["Group", now.name], ["Transport", now.transport], ["Protocol", [...now.eras, now.protocolVersion || ""].join(" ")],
        ["Weight", String(now.weight)], ["Isolation", now.isolation], ["Balancer", now.balancer], ["Registered by", now.source],
        ["Workers", now.owners.join(", ")],
        ["Last probe", health ? `${health.healthy ? "healthy" : health.error || "unhealthy"}, ${health.latencyMs === null ? "" : `${number(health.latencyMs, 0)} ms, `}${clock(health.checkedAt)}` : ""],
        ["Connection", h("code", {}, JSON.stringify(now.connection))],
      ]),
      h("div", { class: "row" }, h("button", { type: "button", class: "danger", onclick: () => removing(id) }, "Remove"))));
    fill(tools, now.tools.length === 0 ? h("li", { class: "soft" }, "It lists none.") : now.tools.slice(0, 200).map((tool) =>
      h("li", {}, h("strong", {}, tool.name), tool.description ? h("span", { class: "soft" }, ` – ${tool.description.slice(0, 200)}`) : "")),
      now.tools.length > 200 ? h("li", { class: "soft" }, `and ${now.tools.length - 200} more`) : null);
    if (now.transport === "stdio") {
      const lines = await api.get(`servers/${encodeURIComponent(id)}/logs`).catch(() => []);
      logCard.hidden = false;
      const text = lines.slice(-200).join("\n") || "It wrote nothing.";
      if (logs.dataset.text !== text) {
        logs.dataset.text = text;
        fill(logs, text);
      }
    }
  }
  function happened() {
    fill(history, store.events.filter((event) => event.id === id).slice(0, 30).map((event) =>
      h("li", {}, h("time", {}, clock(event.at)), h("span", {}, event.kind.replace("upstream-", ""), " ", event.text))));
  }
  let rounds = 0;
  happened();
  return { element, happened, update: () => { if (rounds % 2 === 0) load(); rounds += 1; } };
}
