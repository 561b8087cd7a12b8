// The puppet of the TypeScript SDK 1.x: node matrix1.mjs. See tests/matrix/puppet.py, which says what it is told and says.
import { createInterface } from "node:readline";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
} from "@modelcontextprotocol/sdk/types.js";

const ANSWERS = { colour: "blue", model: "hello", root: "file:///mine" };
const LISTS = {
  tools: "listTools",
  prompts: "listPrompts",
  resources: "listResources",
  templates: "listResourceTemplates",
};
const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");
const event = (kind, facts = {}) => say({ event: { ...facts, kind } });
const running = new Map();
let client = null;
let transport = null;

const commands = {
  async connect({ ports, path, version }) {
    await commands.close();
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
      { name: "typescript", version: "1" },
      { capabilities: { sampling: {}, elicitation, roots: { listChanged: true } } },
    );
    client.setRequestHandler(ElicitRequestSchema, async ({ params }) => {
      event("elicitation", { params });
      return params.mode === "url" ? { action: "accept" } : { action: "accept", content: { colour: ANSWERS.colour } };
    });
    client.setRequestHandler(CreateMessageRequestSchema, async ({ params }) => {
      event("sampling", { params });
      return { role: "assistant", content: { type: "text", text: ANSWERS.model }, model: "m" };
    });
    client.setRequestHandler(ListRootsRequestSchema, async () => {
      event("roots");
      return { roots: [{ uri: ANSWERS.root }] };
    });
    client.fallbackNotificationHandler = async ({ method, params }) => {
      if (method === "notifications/message") event("log", { level: params.level, data: params.data });
      event("notification", { method, params });
    };
    let agreed = null;
    const setVersion = transport.setProtocolVersion?.bind(transport);
    transport.setProtocolVersion = (negotiated) => {
      agreed = negotiated;
      setVersion?.(negotiated);
    };
    await client.connect(transport);
    return { version: agreed };
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
    const pages = [];
    let cursor;
    do {
      const page = await client[LISTS[what]]({ cursor });
      pages.push(page);
      cursor = page.nextCursor;
    } while (cursor !== undefined);
    return pages;
  },
  call: ({ name, arguments: args }, signal) =>
    client.callTool({ name, arguments: args }, undefined, { signal, onprogress: (seen) => event("progress", seen) }),
  cancel: async ({ of }) => running.get(of).abort("no longer wanted"),
  prompt: ({ name, arguments: args }) => client.getPrompt({ name, arguments: args }),
  read: ({ uri }) => client.readResource({ uri }),
  complete: ({ ref, argument }) => client.complete({ ref, argument }),
  subscribe: ({ uri }) => client.subscribeResource({ uri }),
  unsubscribe: ({ uri }) => client.unsubscribeResource({ uri }),
  level: ({ level }) => client.setLoggingLevel(level),
  ping: () => client.ping(),
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
