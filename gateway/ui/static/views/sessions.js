// Sessions of clients of the legacy era; one can be ended.
import * as api from "../api.js";
import { confirmed } from "../dialog.js";
import { fill, h, table } from "../dom.js";
import { differs, every } from "../live.js";
import { mayWrite } from "../me.js";
import { ago, number } from "../words.js";

const MOST = 500;

export function sessions() {
  const place = h("div", {});
  const count = h("p", { class: "soft", role: "status" });
  const anew = differs();
  async function load() {
    let found;
    try {
      found = await api.get("sessions");
    } catch (error) {
      fill(place, h("p", { class: "problem" }, error.message));
      return;
    }
    found.sort((one, other) => other.createdAt - one.createdAt);
    if (!anew(found)) return;
    count.textContent = found.length > MOST ? `the newest ${MOST} of ${number(found.length, 0)} sessions` : `${number(found.length, 0)} sessions`;
    const columns = [
      { label: "Session", header: true, cell: (one) => h("span", { class: "mono" }, one.id.slice(0, 12)) },
      { label: "Principal", cell: (one) => one.principal || "nobody was asked" },
      { label: "Endpoint", cell: (one) => (one.scope ? `/servers/${one.scope}` : "/mcp") },
      { label: "Protocol", cell: (one) => one.version },
      { label: "Begun", number: true, cell: (one) => (one.createdAt ? `${ago(one.createdAt)} ago` : "") },
    ];
    if (mayWrite()) columns.push({ label: "End it", cell: (one) => h("button", { type: "button", class: "danger", "aria-label": `End session ${one.id.slice(0, 12)}`, onclick: () => confirmed(
      "End this session?", "Its client is told with its next request, and has to begin a new one. Its calls under way are cancelled.", "End it",
      async () => { await api.change("DELETE", `sessions/${encodeURIComponent(one.id)}`); load(); }, "Keep") }, "End") });
    fill(place, found.length === 0 ? h("p", {}, "No client has a session. Clients of the modern era need none.") : table("Sessions", columns, found.slice(0, MOST)));
  }
  return { element: h("section", { class: "card" }, count, place), update: every(2, load) };
}
