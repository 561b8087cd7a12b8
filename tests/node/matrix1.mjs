// The puppet of the TypeScript SDK 1.x: node matrix1.mjs. See tests/matrix/puppet.py, which says what it is told and says.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import {
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ListRootsRequestSchema,
} from "@modelcontextprotocol/sdk/types.js";
import { answering, cancel, event, serve, transportFor } from "./puppet.mjs";

const LISTS = {
  tools: "listTools",
  prompts: "listPrompts",
  resources: "listResources",
  templates: "listResourceTemplates",
};
let client = null;
let transport = null;

const commands = {
  async connect({ ports, path, version }) {
    await commands.close();
    const Transport = path.includes("/sse") ? SSEClientTransport : StreamableHTTPClientTransport;
    transport = transportFor(Transport, ports, path, version);
    const elicitation = { form: {}, url: {} };
    client = new Client(
      { name: "typescript", version: "1" },
      { capabilities: { sampling: {}, elicitation, roots: { listChanged: true } } },
    );
    client.setRequestHandler(ElicitRequestSchema, answering["elicitation/create"]);
    client.setRequestHandler(CreateMessageRequestSchema, answering["sampling/createMessage"]);
    client.setRequestHandler(ListRootsRequestSchema, answering["roots/list"]);
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
  cancel,
  prompt: ({ name, arguments: args }) => client.getPrompt({ name, arguments: args }),
  read: ({ uri }) => client.readResource({ uri }),
  complete: ({ ref, argument }) => client.complete({ ref, argument }),
  subscribe: ({ uri }) => client.subscribeResource({ uri }),
  unsubscribe: ({ uri }) => client.unsubscribeResource({ uri }),
  level: ({ level }) => client.setLoggingLevel(level),
  ping: () => client.ping(),
};

serve(commands);
