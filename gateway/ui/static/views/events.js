// What happened lately, the newest first.
import { chip, fill, h } from "../dom.js";
import { store } from "../store.js";
import { clock } from "../words.js";

const BAD = /-left$|-removed$/;

/** One event as a line of a feed. */
export function line(event) {
  const upstream = event.kind.startsWith("upstream-");
  const status = event.kind === "upstream-status" ? event.text.split(":")[0] : "";
  const name = upstream && event.kind !== "upstream-removed"
    ? h("a", { href: `#/upstreams/${encodeURIComponent(event.id)}` }, event.id) : event.id;
  const at = new Date(event.at * 1000);
  return h("li", {}, h("time", { datetime: at.toISOString() }, clock(event.at)), h("span", {},
    status ? chip(status) : chip(event.kind, BAD.test(event.kind) ? "bad" : "idle"), " ", name,
    event.group && event.group !== event.id ? h("span", { class: "soft" }, ` (${event.group})`) : "",
    " ", status ? event.text.slice(status.length).replace(/^: /, "") : event.text));
}

export function events() {
  const feed = h("ol", { class: "feed", reversed: true, "aria-label": "Events, the newest first" });
  const paused = h("input", { type: "checkbox", id: "paused" });
  const none = h("p", { class: "soft" }, "Nothing has happened since this front end started.");
  function happened() {
    if (paused.checked) return;
    none.hidden = store.events.length > 0;
    fill(feed, store.events.map(line));
  }
  paused.addEventListener("change", happened);
  happened();
  return {
    element: h("div", { class: "card" }, h("p", {}, paused, " ", h("label", { for: "paused" }, "hold still")), none, feed),
    happened,
  };
}
