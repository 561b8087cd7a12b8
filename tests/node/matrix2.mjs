// The puppet of the TypeScript SDK 2.x, in both eras: node matrix2.mjs. See tests/matrix/puppet.py, which says what it is
// told and says.
import { Client, SSEClientTransport, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { answering, cancel, event, serve, transportFor } from "./puppet.mjs";

const MODERN = "2026-07-28";
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
let client = null;
let transport = null;
let logLevel = null;

const commands = {
  async connect({ ports, path, version, log_level }) {
    await commands.close();
    logLevel = version === MODERN ? log_level : null;
    const Transport = path.includes("/sse") ? SSEClientTransport : StreamableHTTPClientTransport;
    transport = transportFor(Transport, ports, path, version);
    const elicitation = { form: {}, url: {} };
    client = new Client(
      { name: "typescript2", version: "1" },
      {
        capabilities: { sampling: {}, elicitation, roots: { listChanged: true } },
        versionNegotiation: { mode: version === MODERN ? { pin: MODERN } : "legacy" },
      },
    );
    for (const [method, handler] of Object.entries(answering)) client.setRequestHandler(method, handler);
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
  cancel,
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

serve(commands);
