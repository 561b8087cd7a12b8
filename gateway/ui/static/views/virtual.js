// Virtual servers: endpoints that show chosen tools of any upstreams. A list, one of them, writing and removing it.
import * as api from "../api.js";
import { confirmed, formDialog, labelled } from "../dialog.js";
import { chip, facts, fill, h, table } from "../dom.js";
import { forWriters } from "../me.js";
import { differs, every } from "../live.js";
import { number } from "../words.js";

const MOST_NAMES = 300;
const KINDS = [["tools", "Tools"], ["prompts", "Prompts"], ["resources", "Resources"], ["resourceTemplates", "Resource templates"]];
const path = (name) => `virtual-servers/${encodeURIComponent(name)}`;
const link = (name) => h("a", { href: `#/virtual/${encodeURIComponent(name)}` }, name);
const FIRST = JSON.stringify({ tools: ["group/tool", "group/read_*"], instructions: "" }, null, 2);

export function virtual(detail, heading) {
  return detail ? one(detail, heading) : all();
}

function all() {
  const place = h("div", {});
  const anew = differs();
  async function load() {
    try {
      const found = await api.get("virtual-servers");
      if (!anew(found)) return;
      fill(place, found.length === 0 ? h("p", {}, "There is none yet. One shows chosen tools of any upstreams at an address of its own.") : table("Virtual servers", [
        { label: "Name", header: true, cell: (row) => link(row.name) },
        { label: "Written in", cell: (row) => (row.source === "file" ? "the gateway's file" : row.source) },
        ...KINDS.map(([kind, label]) => ({ label, number: true, cell: (row) => number(row[kind].length, 0) })),
        { label: "Notes", cell: (row) => (row.notes.length ? chip(`${row.notes.length}`, "warn") : "") },
      ], found));
    } catch (error) {
      fill(place, h("p", { class: "problem" }, error.message));
    }
  }
  return { update: every(3, load), element: h("div", {},
    forWriters(() => h("div", { class: "row" }, h("button", { type: "button", class: "main", onclick: () => writing(null, (name) => { location.hash = `#/virtual/${encodeURIComponent(name)}`; }) }, "Make a virtual server"))),
    h("section", { class: "card" }, place)) };
}

function one(name, heading) {
  fill(heading, name);
  const place = h("div", {});
  const anew = differs();
  async function load() {
    let found;
    try {
      found = await api.get(path(name));
    } catch (error) {
      anew(null);
      fill(place, h("p", { class: "note bad" }, error.message));
      return;
    }
    if (!anew(found)) return;
    const fromFile = found.source === "file";
    fill(place,
      h("section", { class: "card" },
        facts([["Address", h("code", {}, api.url(`servers/${encodeURIComponent(name)}/mcp`).href)], ["Written in", fromFile ? "the gateway's file, where it is changed" : found.source]]),
        found.notes.map((note) => h("p", { class: "note" }, note)),
        fromFile ? null : forWriters(() => h("div", { class: "row" },
          h("button", { type: "button", onclick: () => writing(found, load) }, "Change"),
          h("button", { type: "button", class: "danger", onclick: () => confirmed(`Remove ${name}?`, "Its address is no endpoint any more. The upstreams stay.", "Remove", async () => {
            await api.change("DELETE", path(name));
            location.hash = "#/virtual";
          }, "Keep") }, "Remove")))),
      h("div", { class: "columns" }, KINDS.filter(([kind]) => found[kind].length || kind === "tools").map(([kind, label]) =>
        h("section", { class: "card" }, h("h2", {}, label), names(found[kind])))),
      h("section", { class: "card" }, h("h2", {}, "As it is written"), h("pre", { tabindex: "0", "aria-label": "As it is written" }, JSON.stringify(found.document, null, 2))));
  }
  return { update: every(3, load), element: h("div", {}, h("p", {}, h("a", { href: "#/virtual" }, "All virtual servers")), place) };
}

function names(found) {
  if (found.length === 0) return h("p", { class: "soft" }, "It shows none.");
  return [h("ul", {}, found.slice(0, MOST_NAMES).map((one) => h("li", {}, one))), found.length > MOST_NAMES ? h("p", { class: "soft" }, `and ${found.length - MOST_NAMES} more`) : null];
}

function writing(found, done) {
  const name = h("input", { autocomplete: "off", value: found ? found.name : "", readOnly: Boolean(found) });
  const text = h("textarea", { class: "code", spellcheck: "false", value: found ? JSON.stringify(found.document, null, 2) : FIRST });
  formDialog(found ? `Change ${found.name}` : "Make a virtual server", [
    labelled("Name", name), labelled("What it shows (JSON)", text, "tools, prompts, resources: patterns over group/name. Without the three everything is shown."),
  ], "Save", async () => {
    let document;
    try {
      document = JSON.parse(text.value);
    } catch (error) {
      throw new Error(`What it shows: is no JSON: ${error.message}`);
    }
    await api.change("PUT", path(name.value.trim()), document);
    done(name.value.trim());
  });
}
