// What was approved of the tools of a pinned upstream, what it lists instead, and deciding about that.
import * as api from "../api.js";
import { confirmed, dialog, problemLine } from "../dialog.js";
import { difference, lines } from "../diff.js";
import { chip, fill, h, table } from "../dom.js";
import { differs } from "../live.js";
import { forWriters } from "../me.js";
import { ago } from "../words.js";

const COLOURS = { approved: "good", changed: "bad", new: "warn", missing: "idle" };
const path = (id, tool) => `servers/${encodeURIComponent(id)}/pins/${encodeURIComponent(tool)}`;

/** The section about approvals of the upstream `id`: {element, show(pin)}; it is there only for those that are pinned. */
export function pins(id) {
  const place = h("div", {});
  const said = h("p", { class: "soft", role: "status" });
  const element = h("section", { class: "card", hidden: true }, h("h2", {}, "Approved tools"), said, place);
  const anew = differs();

  async function show(pin) {
    element.hidden = pin === "off";
    if (element.hidden) return;
    let found;
    try {
      found = await api.get(`servers/${encodeURIComponent(id)}/pins`);
    } catch (error) {
      fill(place, h("p", { class: "problem" }, error.message));
      return;
    }
    const differing = found.filter((one) => one.state !== "approved");
    const held = pin === "block" ? "held back: nobody sees or calls them" : "shown all the same (pin: warn)";
    said.textContent = differing.length === 0 ? `All ${found.length} are as they were approved.` : `${differing.length} of ${found.length} are not as they were approved, and ${held}.`;
    if (!anew([pin, found])) return;
    fill(place, table("Approved tools", [
      { label: "Tool", header: true, cell: (one) => one.tool },
      { label: "State", cell: (one) => [chip(one.state, COLOURS[one.state] || "idle"), one.state !== "approved" && one.state !== "missing" && pin === "block" ? " quarantined" : ""] },
      { label: "Approved", cell: (one) => (one.approvedAt ? `${ago(one.approvedAt)} ago, by ${one.approvedBy}` : "never") },
      { label: "Difference", cell: (one) => h("button", { type: "button", "aria-label": `Look at ${one.tool}`, onclick: () => look(id, one.tool, () => show(pin)) }, "Look") },
    ], [...differing, ...found.filter((one) => one.state === "approved")]));
  }
  return { element, show };
}

async function look(id, tool, done) {
  const problem = problemLine();
  const place = h("div", {});
  const box = dialog(`Tool ${tool}`, place, problem);
  box.classList.add("broad");

  async function load() {
    try {
      fill(place, shownDifference(await api.get(path(id, tool)), approve, withdraw), h("div", { class: "row" }, h("button", { type: "button", onclick: () => box.close() }, "Close")));
    } catch (error) {
      problem.textContent = error.message;
    }
  }
  async function approve(digest) {
    try {
      await api.change("PUT", path(id, tool), { digest });
      box.close();
      done();
    } catch (error) {
      await load(); // it lists something else by now, which is what has to be looked at
      problem.textContent = error.message;
    }
  }
  function withdraw() {
    box.close();
    confirmed(`Quarantine ${tool}?`, "What was approved is taken back, so the tool counts as new: where tools that change are held back, nobody sees or calls it until somebody approves it again.", "Quarantine", async () => {
      await api.change("DELETE", path(id, tool));
      done();
    });
  }
  await load();
}

function shownDifference(found, approve, withdraw) {
  const made = difference(lines(found.approved), lines(found.listed));
  const signs = { "-": "del", "+": "ins", " ": "span" };
  const by = found.approvedBy ? `approved ${ago(found.approvedAt)} ago by ${found.approvedBy}` : "never approved";
  return [
    h("p", {}, chip(found.state, COLOURS[found.state] || "idle"), ` ${by}; lines with − were approved, those with + are listed now.`),
    h("pre", { class: "diff", tabindex: "0", "aria-label": "Difference" }, made.map(({ sign, text }) => h(signs[sign], {}, `${sign === "-" ? "−" : sign} ${text}\n`))),
    forWriters(() => h("div", { class: "row" },
      found.listed && found.state !== "approved" ? h("button", { type: "button", class: "main", onclick: () => approve(found.digest) }, "Approve what is listed now") : null,
      found.approved ? h("button", { type: "button", class: "danger", onclick: withdraw }, "Quarantine") : null)),
  ];
}
