// The settings that the gateway goes by, without secrets: those that somebody gave first.
import * as api from "../api.js";
import { chip, fill, h, table } from "../dom.js";

/** A value as a file has it. */
export function written(value) {
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** The settings that have all words of `text` in their key, variable or description; given ones first. */
export function found(settings, text) {
  const words = text.toLowerCase().split(/\s+/).filter((word) => word);
  const fits = (one) => words.every((word) => `${one.key} ${one.variable} ${one.description}`.toLowerCase().includes(word));
  const fitting = settings.filter(fits);
  return [...fitting.filter((one) => one.given), ...fitting.filter((one) => !one.given)];
}

export function settings() {
  const search = h("input", { type: "search", id: "search", autocomplete: "off", oninput: () => show() });
  const place = h("div", {});
  let all = [];
  function show() {
    const rows = found(all, search.value);
    fill(place, rows.length === 0 ? h("p", {}, "None fits.") : table("Settings", [
      { label: "Setting", header: true, cell: (one) => [h("span", { class: "mono" }, one.key), " ", one.given ? chip(one.source, "good") : ""] },
      { label: "Value", cell: (one) => h("code", {}, written(one.value)) },
      { label: "Default", cell: (one) => (one.given ? h("code", {}, written(one.default)) : "") },
      { label: "What it is", cell: (one) => one.description },
      { label: "Variable", cell: (one) => h("span", { class: "mono" }, one.variable) },
    ], rows));
  }
  api.get("settings").then((got) => { all = got; show(); }, (error) => fill(place, h("p", { class: "problem" }, error.message)));
  return {
    element: h("div", {}, h("p", { class: "soft" }, "As the front end that answers has them. Durations are milliseconds; secrets are masked. Those that are not their default stand first, each with where its value comes from: the file, a variable of the environment, a flag, or the gateway itself."),
      h("div", { class: "field" }, h("label", { for: "search" }, "Search"), search), h("section", { class: "card" }, place)),
  };
}
