// Calling tools and reading resources as any client does: POST /mcp in the modern era (2026-07-28), with progress and
// questions.
import { eventData, url } from "./api.js";

const VERSION = "2026-07-28";
const KEPT = "gateway-client-key";
const MOST_ROUNDS = 20;
const CAPABILITIES = {
  elicitation: { form: {}, url: {} },
  extensions: { "io.modelcontextprotocol/ui": { mimeTypes: ["text/html;profile=mcp-app"] } },
};
let numbers = 0;

/** The call was refused: `error` is the JSON-RPC error, `status` that of HTTP. */
export class CallRefused extends Error {
  constructor(error, status) {
    super(error.message || `HTTP ${status}`);
    this.error = error;
    this.status = status;
  }
}

export function setClientKey(key) {
  if (key) sessionStorage.setItem(KEPT, key);
  else sessionStorage.removeItem(KEPT);
}

/** A value as a header carries it (streamable-http, "Request Metadata"). */
export function headerValue(text) {
  if (/^[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?$/.test(text) && !/^=\?base64\?.*\?=$/.test(text)) return text;
  const bytes = new TextEncoder().encode(text);
  return `=?base64?${btoa(Array.from(bytes, (one) => String.fromCharCode(one)).join(""))}?=`;
}

/** The Mcp-Param-* headers that a schema asks for. */
export function parameterHeaders(schema, value, found = {}) {
  for (const [name, part] of Object.entries((schema && schema.properties) || {})) {
    const one = value && typeof value === "object" ? value[name] : undefined;
    if (part && typeof part === "object") {
      const token = part["x-mcp-header"];
      if (typeof token === "string" && /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(token) && ["string", "number", "boolean"].includes(typeof one)) {
        found[`Mcp-Param-${token}`] = headerValue(String(one));
      }
      parameterHeaders(part, one, found);
    }
  }
  return found;
}

/** Call a tool. `argumentsText` is JSON, which is sent as it is. `onProgress` gets {progress, total, message}, `onLog` a
 * log message, `ask` a question ({method, params}) and returns its answer. Returns the result, throws CallRefused. */
export async function callTool(name, argumentsText, schema, { onProgress, onLog, ask, signal }) {
  let more = "";
  for (let round = 0; round < MOST_ROUNDS; round += 1) {
    const result = await once(name, argumentsText, schema, more, { onProgress, onLog, signal });
    if (result.resultType !== "input_required") return result;
    const answers = [];
    for (const [id, request] of Object.entries(result.inputRequests || {})) {
      answers.push([id, await ask(request)]);
    }
    more = `,"inputResponses":${JSON.stringify(Object.fromEntries(answers))}`;
    if (result.requestState !== undefined) more += `,"requestState":${JSON.stringify(result.requestState)}`;
  }
  throw new CallRefused({ message: `the tool asked more than ${MOST_ROUNDS} times` }, 200);
}

/** Read a resource; returns its contents, a list. Throws CallRefused. */
export async function readResource(uri, signal) {
  const result = await post("resources/read", uri, `{"uri":${JSON.stringify(uri)}`, {}, { signal });
  return Array.isArray(result.contents) ? result.contents : [];
}

function once(name, argumentsText, schema, more, handlers) {
  const members = `{"name":${JSON.stringify(name)},"arguments":${argumentsText}${more}`;
  return post("tools/call", name, members, parameterHeaders(schema, JSON.parse(argumentsText)), handlers);
}

/** Send one request; `members` is the beginning of its params. */
async function post(method, about, members, more, { onProgress, onLog, signal }) {
  numbers += 1;
  const number = numbers;
  const meta = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientInfo": { name: "gateway-dashboard", version: "1" },
    "io.modelcontextprotocol/clientCapabilities": CAPABILITIES,
    "io.modelcontextprotocol/logLevel": "info",
    progressToken: number,
  };
  const key = sessionStorage.getItem(KEPT);
  const response = await fetch(url("mcp"), {
    method: "POST",
    headers: {
      "Content-Type": "application/json",
      Accept: "application/json, text/event-stream",
      "MCP-Protocol-Version": VERSION,
      "Mcp-Method": method,
      "Mcp-Name": headerValue(about),
      ...more,
      ...(key ? { Authorization: `Bearer ${key}` } : {}),
    },
    body: `{"jsonrpc":"2.0","id":${number},"method":"${method}","params":${members},"_meta":${JSON.stringify(meta)}}}`,
    credentials: "omit",
    cache: "no-store",
    redirect: "error",
    signal,
  });
  const kind = response.headers.get("Content-Type") || "";
  if (kind.startsWith("text/event-stream")) {
    for await (const data of eventData(response.body)) {
      const message = JSON.parse(data);
      if (message.method === "notifications/progress") onProgress?.(message.params || {});
      else if (message.method === "notifications/message") onLog?.(message.params || {});
      else if (message.id === number) return outcome(message, response.status);
    }
    throw new CallRefused({ message: "the stream ended without an answer" }, response.status);
  }
  let message;
  try {
    message = await response.json();
  } catch {
    throw new CallRefused({ message: `HTTP ${response.status}` }, response.status);
  }
  return outcome(message, response.status);
}

function outcome(message, status) {
  if (message.error) throw new CallRefused(message.error, status);
  return message.result || {};
}
