// What the puppets of both TypeScript SDKs share: see tests/matrix/puppet.py, which says what they are told and say.
import { createInterface } from "node:readline";

export const ANSWERS = { colour: "blue", model: "hello", root: "file:///mine" };
const running = new Map();

export const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");
export const event = (kind, facts = {}) => say({ event: { ...facts, kind } });

// A transport whose every request goes to the other front end, and that asks for this version.
export function transportFor(Transport, ports, path, version) {
  let turn = 0;
  const takingTurns = (url, init) => {
    const next = new URL(url);
    next.port = ports[turn++ % ports.length];
    return fetch(next, init);
  };
  const transport = new Transport(new URL(`http://127.0.0.1:${ports[0]}${path}`), { fetch: takingTurns });
  const send = transport.send.bind(transport);
  transport.send = (message, options) => {
    if (message.method === "initialize") message.params.protocolVersion = version;
    return send(message, options);
  };
  return transport;
}

// What the client answers, by method.
export const answering = {
  "elicitation/create": async ({ params }) => {
    event("elicitation", { params });
    return params.mode === "url" ? { action: "accept" } : { action: "accept", content: { colour: ANSWERS.colour } };
  },
  "sampling/createMessage": async ({ params }) => {
    event("sampling", { params });
    return { role: "assistant", content: { type: "text", text: ANSWERS.model }, model: "m" };
  },
  "roots/list": async () => {
    event("roots");
    return { roots: [{ uri: ANSWERS.root }] };
  },
};

// Carry out commands, side by side, until there are no more.
export function serve(commands) {
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
}

export const cancel = async ({ of }) => running.get(of).abort("no longer wanted");
