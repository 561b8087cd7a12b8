// The TypeScript SDK's client against the gateway: node client.mjs http|sse URL PREFIX. Prints one JSON object.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";

const [transportName, url, prefix] = process.argv.slice(2);
const Transport = transportName === "sse" ? SSEClientTransport : StreamableHTTPClientTransport;
const transport = new Transport(new URL(url));
const client = new Client({ name: "ts-test", version: "1.0.0" });
await client.connect(transport);

const seen = [];
const call = (name, args, options) =>
  client.callTool({ name: `${prefix}__${name}`, arguments: args }, undefined, options);
const tools = (await client.listTools()).tools.map((tool) => tool.name);
const echoed = (await call("echo", { text: "héllo ✓" })).content[0].text;
const sum = (await call("add", { a: 2, b: 40 })).content[0].text;
const failed = (await call("fail", { message: "on purpose" })).isError;
await call("progress", { steps: 3 }, { onprogress: (progress) => seen.push(progress.progress) });
let unknown = null;
try {
  await client.callTool({ name: "no_such_tool", arguments: {} });
} catch (error) {
  unknown = error.code;
}
await client.ping();
const server = client.getServerVersion().name;
if (transportName === "http") await transport.terminateSession();
await client.close();
console.log(JSON.stringify({ server, tools: tools.length, echoed, sum, failed, seen, unknown }));
