// The puppet of the TypeScript SDK 2.x, in both eras: node matrix2.mjs. See tests/matrix/puppet.py, which says what it is
// told and says.
import { createInterface } from "node:readline";
import { Client, SSEClientTransport, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";

const MODERN = "2026-07-28";
const ANSWERS = { colour: "blue", model: "hello", root: "file:///mine" };
const LISTS = {
  tools: "tools/list",
  prompts: "prompts/list",
  resources: "resources/list",
  templates: "resources/templates/list",
};
const WANTED = {
  tools_list_changed: "toolsListChanged",
  prompts_list_changed: "promptsListChanged",
  resources_list_changed: "resourcesListChanged",
  resource_subscriptions: "resourceSubscriptions",
};
const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");
const event = (kind, facts = {}) => say({ event: { ...facts, kind } });
const running = new Map();
let client = null;
let transport = null;
let logLevel = null;

const commands = {
  async connect({ ports, path, version, log_level }) {
    await commands.close();
    logLevel = version === MODERN ? log_level : null;
    let turn = 0;
    // Every request goes to the other front end.
    const takingTurns = (url, init) => {
      const next = new URL(url);
      next.port = ports[turn++ % ports.length];
      return fetch(next, init);
    };
    const Transport = path.endsWith("/sse") ? SSEClientTransport : StreamableHTTPClientTransport;
    transport = new Transport(new URL(`http://127.0.0.1:${ports[0]}${path}`), { fetch: takingTurns });
    const send = transport.send.bind(transport);
    transport.send = (message, options) => {
      if (message.method === "initialize") message.params.protocolVersion = version;
      return send(message, options);
    };
    const elicitation = { form: {}, url: {} };
    client = new Client(
      { name: "typescript2", version: "1" },
      {
        capabilities: { sampling: {}, elicitation, roots: { listChanged: true } },
        versionNegotiation: { mode: version === MODERN ? { pin: MODERN } : "legacy" },
      },
    );
    client.setRequestHandler("elicitation/create", async ({ params }) => {
      event("elicitation", { params });
      return params.mode === "url" ? { action: "accept" } : { action: "accept", content: { colour: ANSWERS.colour } };
    });
    client.setRequestHandler("sampling/createMessage", async ({ params }) => {
      event("sampling", { params });
      return { role: "assistant", content: { type: "text", text: ANSWERS.model }, model: "m" };
    });
    client.setRequestHandler("roots/list", async () => {
      event("roots");
      return { roots: [{ uri: ANSWERS.root }] };
    });
    client.fallbackNotificationHandler = async ({ method, params }) => {
      if (method === "notifications/message") event("log", { level: params.level, data: params.data });
      if (version === MODERN && method !== "notifications/message") event("changed", { what: method, uri: params?.uri ?? "" });
      event("notification", { method, params });
    };
    await client.connect(transport);
    return { version: client.getNegotiatedProtocolVersion() };
  },
  async close() {
    if (client === null) return null;
    const ended = client;
    client = null;
    if (transport.terminateSession) await transport.terminateSession();
    await ended.close();
    return null;
  },
  async list({ what }) {
    if (what === "tools") await client.listTools(undefined, { cacheMode: "refresh" }); // what calls are checked against
    const pages = [];
    let cursor;
    do {
      const page = await client.request({ method: LISTS[what], params: cursor === undefined ? {} : { cursor } });
      pages.push(page);
      cursor = page.nextCursor;
    } while (cursor !== undefined);
    return pages;
  },
  call: ({ name, arguments: args }, signal) => {
    const meta = logLevel === null ? {} : { _meta: { "io.modelcontextprotocol/logLevel": logLevel } };
    const options = { signal, onprogress: (seen) => event("progress", seen) };
    return client.callTool({ name, arguments: args, ...meta }, options);
  },
  cancel: async ({ of }) => running.get(of).abort("no longer wanted"),
  prompt: ({ name, arguments: args }) => client.getPrompt({ name, arguments: args }),
  read: ({ uri }) => client.readResource({ uri }, { cacheMode: "bypass" }),
  complete: ({ ref, argument }) => client.complete({ ref, argument }),
  subscribe: ({ uri }) => client.subscribeResource({ uri }),
  unsubscribe: ({ uri }) => client.unsubscribeResource({ uri }),
  level: ({ level }) => client.setLoggingLevel(level),
  ping: () => client.ping(),
  async listen(wanted, signal) {
    const filter = Object.fromEntries(Object.entries(wanted).map(([name, value]) => [WANTED[name], value]));
    const subscription = await client.listen(filter);
    event("listening");
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
    await subscription.close();
    throw new Error("no longer wanted");
  },
};

const lines = createInterface({ input: process.stdin });
lines.on("line", async (line) => {
  const { id, do: name, ...args } = JSON.parse(line);
  const abort = new AbortController();
  running.set(id, abort);
  try {
    say({ id, result: (await commands[name](args, abort.signal)) ?? null });
  } catch (error) {
    // The SDK puts "MCP error CODE: " before the message.
    const message = String(error?.message ?? error).replace(/^MCP error -?\d+: /, "");
    say({ id, error: { code: error?.code ?? 0, message, data: error?.data ?? null } });
  } finally {
    running.delete(id);
  }
});
lines.on("close", () => process.exit(0));
