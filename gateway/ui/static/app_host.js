// The interface that a tool brings (MCP Apps, 2026-01-26): a program of the upstream, in a frame without an origin. This
// module is its host: it gives the program the arguments and the result of the call, and asks the person before a call or
// a link that the program wants.
import * as api from "./api.js";
import { fill, h } from "./dom.js";
import { callTool, readResource } from "./mcp.js";

const VERSION = "2026-01-26";
const TYPE = /^text\/html *(;|$)/i;
const MOST_CHARACTERS = 4_000_000;
const HEIGHT = { least: 60, most: 900 };
const SHOWN = 500;

/** The interface of `tool`, after it was called with `given` and gave back `result`: {element, close()}. It does not run
 * before the person asks for it. */
export function appOf(tool, given, result) {
  const place = h("div", {});
  let running = null;
  const show = h("button", { type: "button", onclick: async () => {
    show.disabled = true;
    try {
      const document = await fetched(tool.interface);
      running = run(tool, given, result, document, place);
      show.hidden = true;
    } catch (error) {
      show.disabled = false;
      fill(place, h("p", { class: "note bad" }, error.message));
    }
  } }, "Show the interface of the tool");
  return {
    element: h("div", { class: "app" }, show, place),
    close: () => { if (running) running.close(); running = null; },
  };
}

/** The document of an interface. Throws an Error that says why there is none. */
async function fetched(uri) {
  const [found] = await readResource(uri);
  if (!found) throw new Error(`the resource ${uri} is empty`);
  if (!TYPE.test(found.mimeType || "")) throw new Error(`the resource ${uri} is of type ${found.mimeType || "unknown"}, not text/html`);
  const html = typeof found.text === "string" ? found.text : decoded(found.blob);
  if (html.length > MOST_CHARACTERS) throw new Error(`the resource ${uri} has more than ${MOST_CHARACTERS} characters`);
  return html;
}

function decoded(blob) {
  return new TextDecoder().decode(Uint8Array.from(atob(blob || ""), (one) => one.charCodeAt(0)));
}

function run(tool, given, result, html, place) {
  const frame = h("iframe", { sandbox: "allow-scripts", title: `Interface of ${tool.name}` });
  const consent = h("div", { "aria-live": "polite" });
  let loads = 0;
  let asking = false;

  const send = (message) => frame.contentWindow?.postMessage({ jsonrpc: "2.0", ...message }, "*");
  const tell = (method, params) => send({ method: `ui/notifications/${method}`, params });

  /** Ask the person; resolves with whether they allow it. */
  function allowed(question, link) {
    if (asking) return Promise.resolve(false);
    asking = true;
    return new Promise((resolve) => {
      const answer = (yes) => () => {
        asking = false;
        fill(consent);
        resolve(yes);
      };
      const yes = link
        ? h("a", { href: link, target: "_blank", rel: "noopener noreferrer", onclick: answer(true) }, "Open it in a new tab")
        : h("button", { type: "button", onclick: answer(true) }, "Allow once");
      fill(consent, h("fieldset", {}, h("legend", {}, "The interface asks"), h("p", {}, question),
        h("div", { class: "row" }, yes, h("button", { type: "button", onclick: answer(false) }, "Refuse"))));
    });
  }

  const requests = {
    "ui/initialize": () => ({
      protocolVersion: VERSION,
      hostInfo: { name: "gateway-dashboard", version: "1" },
      hostCapabilities: { serverTools: {}, openLinks: {}, logging: {} },
      hostContext: {
        toolInfo: { tool: { name: tool.upstreamName, inputSchema: tool.inputSchema } },
        theme: matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light",
        displayMode: "inline",
        availableDisplayModes: ["inline"],
        containerDimensions: { maxWidth: frame.clientWidth, maxHeight: HEIGHT.most },
        locale: navigator.language,
        platform: "web",
      },
    }),
    "ping": () => ({}),
    "tools/call": async ({ name, arguments: wanted = {} }) => {
      const found = await ownTool(tool, name);
      const text = JSON.stringify(wanted);
      if (!await allowed(`Call ${found.name} with ${text.slice(0, SHOWN)}${text.length > SHOWN ? " …" : ""}`)) throw new Error("the person refused the call");
      return callTool(found.name, text, found.inputSchema, { ask: () => Promise.resolve({ action: "decline" }) });
    },
    "ui/open-link": async ({ url }) => {
      if (!/^https:\/\//.test(url || "")) throw new Error("only links of https are opened");
      return await allowed(`Open ${url}`, url) ? {} : { isError: true };
    },
    "ui/request-display-mode": () => ({ mode: "inline" }),
  };
  const notifications = {
    "ui/notifications/initialized": () => {
      tell("tool-input", { arguments: given });
      tell("tool-result", result);
    },
    "ui/notifications/size-changed": ({ height }) => {
      if (height > 0) frame.style.height = `${Math.round(Math.min(Math.max(height, HEIGHT.least), HEIGHT.most))}px`;
    },
    "ui/notifications/request-teardown": () => close(),
  };

  async function take(event) {
    const message = event.data;
    if (event.source !== frame.contentWindow || !message || typeof message !== "object") return;
    const { id, method, params } = message;
    if (typeof method !== "string") return;
    const known = id === undefined ? notifications : requests;
    const said = params && typeof params === "object" ? params : {};
    if (!Object.hasOwn(known, method)) {
      if (id !== undefined) send({ id, error: { code: -32601, message: `this host does not offer ${method.slice(0, SHOWN)}` } });
      return;
    }
    try {
      const answer = await known[method](said);
      if (id !== undefined) send({ id, result: answer });
    } catch (error) {
      if (id !== undefined) send({ id, error: error.error || { code: -32000, message: error.message } });
    }
  }

  function close() {
    removeEventListener("message", take);
    frame.remove();
    fill(place);
  }

  addEventListener("message", take);
  frame.addEventListener("load", () => {
    loads += 1;
    if (loads === 1) frame.contentWindow.postMessage({ html }, "*");
    else if (loads > 2) close();  // the second time was the program itself; this is another page
  });
  frame.src = new URL("app.html", document.baseURI);
  fill(place, h("p", { class: "soft" }, `What follows is made by the upstream group ${tool.group}, not by the gateway. It reaches no network.`),
    frame, consent);
  return { close };
}

/** The tool that an interface means: one of its own upstream, by the name that this gives it or that clients see. */
async function ownTool(tool, name) {
  const wanted = String(name);
  const { items } = await api.page("tools", { server: tool.group, search: wanted });
  const found = items.find((one) => one.upstreamName === wanted) || items.find((one) => one.name === wanted);
  if (!found) throw new Error(`${tool.group} has no tool ${wanted.slice(0, SHOWN)}`);
  return found;
}
