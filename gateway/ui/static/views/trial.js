// Trying a tool: a form made from its schema (or JSON), progress, what it asks, and its result.
import { appOf } from "../app_host.js";
import { fill, freshId, h } from "../dom.js";
import { schemaForm } from "../form.js";
import { CallRefused, callTool, setClientKey } from "../mcp.js";
import { shownResult } from "../result.js";
import { number, seconds } from "../words.js";

const MOST_LOGS = 200;

/** The form of one tool: {element, close()}. */
export function trial(tool) {
  let form = schemaForm(tool.inputSchema);
  const asForm = h("div", {}, form.element);
  const rawId = freshId();
  const raw = h("textarea", { id: rawId, class: "code", spellcheck: "false" });
  const rawProblem = h("p", { class: "problem", role: "alert" });
  const asJson = h("div", { class: "field", hidden: true }, h("label", { for: rawId }, "Arguments as JSON"), raw, rawProblem);
  const toggleId = freshId();
  const toggle = h("input", { type: "checkbox", id: toggleId });
  const call = h("button", { class: "main" }, "Call");
  const stop = h("button", { type: "button", disabled: true }, "Cancel");
  const outcome = h("div", { "aria-live": "polite" });
  const questions = h("div", {});
  let running = null;
  let app = null;

  toggle.addEventListener("change", () => {
    asForm.hidden = toggle.checked;
    asJson.hidden = !toggle.checked;
    if (toggle.checked) raw.value = JSON.stringify(form.read().value, null, 2);
  });
  stop.addEventListener("click", () => running && running.abort());

  function argumentsText() {
    rawProblem.textContent = "";
    if (!toggle.checked) {
      const found = form.read();
      if (found.problems.length === 0) return JSON.stringify(found.value);
      asForm.querySelector("[aria-invalid]")?.focus();
      return null;
    }
    try {
      const value = JSON.parse(raw.value || "{}");
      if (value && typeof value === "object" && !Array.isArray(value)) return raw.value.trim() || "{}";
      rawProblem.textContent = "must be a JSON object";
    } catch (error) {
      rawProblem.textContent = `is no JSON: ${error.message}`;
    }
    return null;
  }

  async function submit(event) {
    event.preventDefault();
    const text = argumentsText();
    if (text === null || running) return;
    closeApp();
    running = new AbortController();
    call.disabled = true;
    stop.disabled = false;
    const bar = h("progress", { "aria-label": "Progress", max: "1" });
    const words = h("p", { class: "soft" }, "called…");
    const logs = h("ul", {});
    fill(outcome, bar, words, logs);
    const began = performance.now();
    const took = () => h("p", { class: "soft" }, `after ${seconds((performance.now() - began) / 1000)}`);
    try {
      const result = await callTool(tool.name, text, tool.inputSchema, {
        signal: running.signal,
        onProgress: ({ progress, total, message }) => {
          if (total > 0) bar.value = Math.min(progress / total, 1);
          fill(words, `${number(progress)}${total ? ` of ${number(total)}` : ""}${typeof message === "string" ? ` ${message}` : ""}`);
        },
        onLog: ({ level, data }) => {
          if (logs.childElementCount < MOST_LOGS) logs.append(h("li", { class: "soft" }, `${level}: ${typeof data === "string" ? data : JSON.stringify(data)}`));
        },
        ask: (request) => asked(request, questions, running.signal),
      });
      app = tool.interface ? appOf(tool, JSON.parse(text), result) : null;
      fill(outcome, took(), app ? app.element : null, shownResult(result));
    } catch (error) {
      if (error.name === "AbortError") fill(outcome, h("p", { class: "note" }, "Cancelled."));
      else fill(outcome, took(), refusal(error));
    } finally {
      fill(questions);
      running = null;
      call.disabled = false;
      stop.disabled = true;
    }
  }

  function closeApp() {
    if (app) app.close();
    app = null;
  }

  const element = h("div", {},
    h("form", { onsubmit: submit, novalidate: true, "aria-label": `Try ${tool.name}` }, asForm, asJson,
      h("div", { class: "row" }, call, stop, h("span", {}, toggle, " ", h("label", { for: toggleId }, "write JSON")))),
    questions, outcome);
  return { element, close: () => { closeApp(); if (running) running.abort(); } };
}

function refusal(error) {
  const more = error instanceof CallRefused && error.error.data !== undefined ? h("pre", { tabindex: "0" }, JSON.stringify(error.error.data, null, 2)) : null;
  const said = h("p", { class: "note bad" }, error.message || "the call failed");
  if (!(error instanceof CallRefused) || error.status !== 401) return h("div", {}, said, more);
  const id = freshId();
  const input = h("input", { id, type: "password", autocomplete: "off" });
  return h("div", {}, said, h("div", { class: "field" }, h("label", { for: id }, "Key for calling tools (kept in this tab alone)"), input),
    h("button", { type: "button", onclick: () => { setClientKey(input.value); fill(said, "Kept. Call again."); } }, "Use it"));
}

/** Ask the person what the tool asks; resolves with the answer. */
function asked(request, place, signal) {
  const { method, params = {} } = request;
  if (method !== "elicitation/create") return Promise.resolve({ action: "decline" });
  return new Promise((resolve, reject) => {
    const answer = (action, content) => {
      fill(place);
      resolve(content === undefined ? { action } : { action, content });
    };
    signal.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")), { once: true });
    const refuse = [
      h("button", { type: "button", onclick: () => answer("decline") }, "Decline"),
      h("button", { type: "button", onclick: () => answer("cancel") }, "Not now"),
    ];
    const title = h("legend", { tabindex: "-1" }, "The tool asks");
    if (params.mode === "url") {
      const safe = /^https?:\/\//.test(params.url || "");
      fill(place, h("fieldset", {}, title, h("p", {}, params.message), h("p", {}, "It wants you to open ", h("code", {}, params.url)),
        h("div", { class: "row" }, safe ? h("a", { href: params.url, target: "_blank", rel: "noopener noreferrer", onclick: () => answer("accept") }, "Open it in a new tab") : null, refuse)));
    } else {
      const form = schemaForm(params.requestedSchema || {});
      fill(place, h("form", { novalidate: true, onsubmit: (event) => {
        event.preventDefault();
        const found = form.read();
        if (found.problems.length === 0) answer("accept", found.value);
      } }, h("fieldset", {}, title, h("p", {}, params.message), form.element, h("div", { class: "row" }, h("button", { class: "main" }, "Answer"), refuse))));
    }
    title.focus();
  });
}
