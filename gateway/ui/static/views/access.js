// Who uses the dashboard, API keys, who calls, and why a principal may use a tool or not.
import * as api from "../api.js";
import { confirmed, dialog, formDialog, labelled } from "../dialog.js";
import { chip, facts, fill, h, table } from "../dom.js";
import { forWriters, mayWrite, me, myName } from "../me.js";
import { every } from "../live.js";
import { ago, number, seconds } from "../words.js";

const BUSIEST = 20;

export function access() {
  const callers = whoCalls();
  const element = h("div", {}, whoAmI(), me.keys ? keys() : h("section", { class: "card" }, h("h2", {}, "API keys"),
    h("p", { class: "soft" }, "This gateway takes none: add ", h("code", {}, '{"type": "apiKey"}'), " to ", h("code", {}, "access.authentication"), " of its file.")),
  explaining(), callers.element);
  return { element, update: every(2, callers.load) };
}

/** Who calls most, as far as callers are known by name. */
function whoCalls() {
  const place = h("div", {});
  async function load() {
    const traffic = await api.get("traffic").catch(() => null);
    if (traffic === null) return;
    const busiest = traffic.principals.sort((one, other) => other.calls - one.calls).slice(0, BUSIEST);
    fill(place, busiest.length === 0 ? h("p", { class: "soft" }, "Nobody who is known by name has called since the processes started.") : table("Calls by principal", [
      { label: "Principal", header: true, cell: (one) => one.principal },
      { label: "Calls", number: true, cell: (one) => number(one.calls, 0) },
      { label: "Errors", number: true, cell: (one) => number(one.errors, 0) },
      { label: "On average", number: true, cell: (one) => seconds(one.calls ? one.seconds / one.calls : null) },
    ], busiest));
  }
  return { element: h("section", { class: "card" }, h("h2", {}, "Who calls"), place), load };
}

function whoAmI() {
  return h("section", { class: "card" }, h("h2", {}, "You"), facts([
    ["Who", myName()],
    ["Rights", mayWrite() ? "see and change everything" : "see everything, change nothing"],
    ["Commands", me.commands ? "you may add upstreams that run a command" : "upstreams that run a command are added with gateway servers add, or in the file"],
    ["Roles that there are", me.roles.join(", ") || "none: everybody may use every tool"],
  ]), api.hasToken() ? h("button", { type: "button", onclick: () => { api.setToken(""); location.reload(); } }, "Forget the token") : null);
}

function keys() {
  const place = h("div", {});
  async function load() {
    try {
      const found = await api.get("keys");
      const columns = [
        { label: "Name", header: true, cell: (one) => one.name },
        { label: "Roles", cell: (one) => one.roles.join(", ") },
        { label: "Made", number: true, cell: (one) => (one.createdAt ? `${ago(one.createdAt)} ago` : "") },
        { label: "Expires", cell: (one) => expires(one.expiresAt) },
        { label: "Kept in", cell: (one) => (one.source === "file" ? "the gateway's file" : "Redis, as a digest") },
      ];
      if (mayWrite()) columns.push({ label: "Revoke", cell: (one) => (one.source === "file" ? "" : h("button", { type: "button", class: "danger", "aria-label": `Revoke ${one.name}`, onclick: () => confirmed(
        `Revoke ${one.name}?`, "Whoever has this key is refused from now on, and their streams end.", "Revoke",
        async () => { await api.change("DELETE", `keys/${encodeURIComponent(one.name)}`); load(); }, "Keep") }, "Revoke")) });
      fill(place, found.length === 0 ? h("p", {}, "There is none yet.") : table("API keys", columns, found));
    } catch (error) {
      fill(place, h("p", { class: "problem" }, error.message));
    }
  }
  load();
  return h("section", { class: "card" }, h("h2", {}, "API keys"), place,
    forWriters(() => h("button", { type: "button", class: "main", onclick: () => making(load) }, "Make a key")));
}

function expires(at) {
  if (!at) return "never";
  return at * 1000 > Date.now() ? new Date(at * 1000).toLocaleString("en-GB") : chip("expired", "bad");
}

function making(done) {
  const name = h("input", { autocomplete: "off" });
  const roles = h("select", { multiple: true, size: String(Math.min(Math.max(me.roles.length, 2), 8)) }, me.roles.map((one) => h("option", { value: one }, one)));
  const lasts = h("input", { autocomplete: "off", placeholder: "90d" });
  formDialog("Make a key", [
    labelled("Name of its client", name), me.roles.length ? labelled("Roles", roles) : null, labelled("Expires after", lasts, "12h, 90d, 1y; empty: never."),
  ], "Make it", async () => {
    const made = await api.change("POST", "keys", { name: name.value.trim(), roles: [...roles.selectedOptions].map((one) => one.value), expires: lasts.value.trim() });
    once(made);
    done();
  });
}

/** Show a key, this once: it is in the dialog alone, and gone with it. */
function once(made) {
  const key = h("input", { class: "mono", readOnly: true, value: made.key });
  const said = h("p", { class: "soft", role: "status" });
  const box = dialog(`The key of ${made.name}`,
    h("p", { class: "note" }, "This is the only time that it is shown: the gateway keeps a digest of it."),
    labelled("Key", key), h("p", { class: "soft" }, "A client sends it as ", h("code", {}, "Authorization: Bearer KEY"), "."), said,
    h("div", { class: "row" }, h("button", { type: "button", class: "main", onclick: async () => {
      key.select();
      try {
        await navigator.clipboard.writeText(key.value);
        said.textContent = "Copied.";
      } catch {
        said.textContent = "Copy it from the field.";
      }
    } }, "Copy"), h("button", { type: "button", onclick: () => box.close() }, "Close")));
  box.addEventListener("close", () => { key.value = ""; });
  key.focus();
  key.select();
}

function explaining() {
  const who = h("input", { autocomplete: "off", value: me.principal.startsWith("key:") ? me.principal : "", placeholder: "key:ci" });
  const tool = h("input", { autocomplete: "off" });
  const answer = h("div", { "aria-live": "polite" });
  return h("section", { class: "card" }, h("h2", {}, "Why may somebody use a tool?"),
    h("form", { onsubmit: async (event) => {
      event.preventDefault();
      try {
        const found = await api.get(`access/explain?${new URLSearchParams({ as: who.value.trim(), tool: tool.value.trim() })}`);
        fill(answer, h("p", { class: `note ${found.shown ? "good" : "bad"}` }, found.verdict), facts([
          ["Roles", found.roles.join(", ") || "none"],
          ["Decided by", found.rules.length ? h("ul", {}, found.rules.map((one) => h("li", {}, one))) : ""],
          ["Limits", found.limits.length ? h("ul", {}, found.limits.map((one) => h("li", {}, one))) : ""],
          ["Conditions", found.conditions.length ? h("ul", {}, found.conditions.map((one) => h("li", {}, one))) : ""],
        ]));
      } catch (error) {
        fill(answer, h("p", { class: "problem" }, error.message));
      }
    } }, labelled("Principal", who, "key:NAME, or what the audit log says; empty: who says nothing."), labelled("Tool", tool, "As clients see it."),
      h("button", {}, "Explain")), answer);
}
