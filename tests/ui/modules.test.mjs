// What modules of the dashboard do that needs no browser.
import assert from "node:assert/strict";
import { test } from "node:test";

globalThis.document = { baseURI: "http://gateway.test/below/ui/" };
const kept = new Map();
globalThis.sessionStorage = { getItem: (name) => kept.get(name) ?? null, setItem: (name, value) => kept.set(name, value), removeItem: (name) => kept.delete(name) };
const from = (name) => import(new URL(`../../gateway/ui/static/${name}`, import.meta.url));
const api = await from("api.js");
const { difference, lines } = await from("diff.js");
const { differs, every } = await from("live.js");
const me = await from("me.js");
const { ago, number, quantile, seconds, shown } = await from("words.js");
const { changes, listed, quoted } = await from("views/upstream_forms.js");
const { rest } = await from("views/audit.js");
const { inSight, pagesOf } = await from("virtual.js");
const { span } = await from("chart.js");
const { cells } = await from("views/upstreams.js");
const { probed } = await from("views/upstream.js");
const { counted, grouped } = await from("views/topology.js");
const { found, written } = await from("views/settings.js");

const signs = (before, after) => difference(before, after).map(({ sign, text }) => sign + text);

test("a difference keeps what stays, and shows what went before what came", () => {
  assert.deepEqual(signs(["a", "b", "c"], ["a", "x", "c"]), [" a", "-b", "+x", " c"]);
  assert.deepEqual(signs([], ["a"]), ["+a"]);
  assert.deepEqual(signs(["a"], []), ["-a"]);
  assert.deepEqual(signs(["a", "b"], ["a", "b"]), [" a", " b"]);
  assert.deepEqual(signs(["x", "a", "b", "y"], ["a", "b", "y", "z"]), ["-x", " a", " b", " y", "+z"]);
});

test("both sides of any difference can be read from it", () => {
  let seed = 7;
  const random = (below) => { seed = (seed * 1103515245 + 12345) % 2147483648; return seed % below; };
  for (let round = 0; round < 200; round += 1) {
    const make = () => Array.from({ length: random(12) }, () => "abcd"[random(4)]);
    const [before, after] = [make(), make()];
    const found = difference(before, after);
    assert.deepEqual(found.filter(({ sign }) => sign !== "+").map(({ text }) => text), before);
    assert.deepEqual(found.filter(({ sign }) => sign !== "-").map(({ text }) => text), after);
  }
});

test("long texts that differ throughout are shown at once, one after the other", () => {
  const began = Date.now();
  const found = difference(Array.from({ length: 20000 }, (_, at) => `a${at}`), Array.from({ length: 20000 }, (_, at) => `b${at}`));
  assert.equal(found.length, 40000);
  assert.ok(Date.now() - began < 5000);
});

test("the order of members makes no difference, that of lists does", () => {
  assert.deepEqual(lines({ b: 1, a: [2, 1] }), lines({ a: [2, 1], b: 1 }));
  assert.notDeepEqual(lines([1, 2]), lines([2, 1]));
  assert.deepEqual(lines(null), []);
  assert.deepEqual(lines(JSON.parse('{"__proto__": 1}')), ["{", '  "__proto__": 1', "}"]);
});

test("a chart shows a minute at least", () => {
  assert.deepEqual(span(null, null, 1000), [940, 1000]);
  assert.deepEqual(span(998, 1000, 1001), [940, 1000]);
  assert.deepEqual(span(100, 1000, 1001), [100, 1000]);
});

test("why a probe failed is said once", () => {
  assert.equal(probed({ healthy: true }, null), "healthy");
  assert.equal(probed({ healthy: false, error: "refused" }, "refused"), "failed");
  assert.equal(probed({ healthy: false, error: "late" }, null), "late");
  assert.equal(probed({ healthy: false, error: null }, null), "failed");
});

test("transports are those that the gateway has, and none while it does not say", async () => {
  const { runsProcess, transports } = await from("transports.js");
  globalThis.fetch = async () => { throw new TypeError("down"); };
  assert.equal(await runsProcess("pipe"), false);
  globalThis.fetch = async () => new Response(JSON.stringify([{ name: "pipe", title: "Pipe", key: "command", runsProcess: true }]));
  assert.equal(await runsProcess("pipe"), true);
  globalThis.fetch = async () => { throw new Error("asked once"); };
  assert.deepEqual((await transports()).map(({ title }) => title), ["Pipe"]);
  assert.equal(await runsProcess("other"), false);
});

test("what cannot be seen is made visible", () => {
  assert.equal(shown("a\u202eb\u0000\ud800\r\nc"), "a\\u202eb\\u0000\\ud800\nc");
  assert.equal(shown("Grüße 👋"), "Grüße 👋");
});

test("numbers, times and quantiles are for people", () => {
  assert.equal(number(1234.56), "1,234.6");
  assert.equal(number(null), "–");
  assert.equal(seconds(0.0042), "4.2 ms");
  assert.equal(seconds(Infinity), "> 30 s");
  assert.equal(ago(0), "");
  assert.equal(ago(Date.now() / 1000 - 300), "5 min");
  assert.equal(quantile([0, 0], 0.5), null);
  assert.equal(quantile([10], 0.5), 0.0005);
  assert.equal(quantile(Array.from({ length: 15 }, (_, at) => (at === 14 ? 1 : 0)), 0.5), Infinity);
});

test("events come out of a stream, however it is cut", async () => {
  const text = 'id: 1\ndata: {"a":\ndata: 1}\n\n: alive\n\nid: 2\r\ndata:{"b":2}\r\n\r\ndata: half';
  for (const size of [1, 2, 3, 7, 1000]) {
    const bytes = new TextEncoder().encode(text);
    const body = new ReadableStream({ start(controller) {
      for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
      controller.close();
    } });
    const found = [];
    for await (const data of api.eventData(body)) found.push(JSON.parse(data));
    assert.deepEqual(found, [{ a: 1 }, { b: 2 }], `in pieces of ${size}`);
  }
});

test("a request goes below the path that a proxy put before, with the token and what it says", async () => {
  const sent = [];
  const answer = (status, body, headers = {}) => ({ ok: status < 300, status, json: async () => body, headers: new Headers(headers) });
  globalThis.fetch = async (url, options) => { sent.push([String(url), options]); return answer(200, ["x"], { "X-Total-Count": "7" }); };
  api.setToken("t");
  assert.deepEqual(await api.page("tools", { search: "a b", limit: 2, server: "", offset: undefined }), { items: ["x"], total: 7 });
  assert.equal(sent[0][0], "http://gateway.test/below/admin/v1/tools?search=a+b&limit=2");
  assert.equal(sent[0][1].headers.Authorization, "Bearer t");
  assert.equal(sent[0][1].credentials, "omit");
  globalThis.fetch = async () => answer(409, { error: "taken", code: "entry_exists" });
  await assert.rejects(api.change("POST", "servers", {}), { message: "taken", status: 409 });
  globalThis.fetch = async () => { throw new TypeError("failed"); };
  await assert.rejects(api.get("me"), { message: "the gateway does not answer", status: 0 });
});

test("who may only read is shown nothing that changes something", async () => {
  globalThis.fetch = async () => ({ ok: true, status: 200, json: async () => ({ principal: "key:eyes", rights: "read", commands: false, roles: [], keys: true, audit: true }) });
  await me.load();
  assert.equal(me.forWriters(() => assert.fail("made")), null);
  assert.equal(me.myName(), "key:eyes");
  Object.assign(me.me, { principal: "", rights: "write" });
  assert.equal(me.forWriters(() => "button"), "button");
  assert.equal(me.myName(), "anybody on this machine");
});

test("only what differs is changed of an upstream", () => {
  const now = { weight: 1, isolation: "auto", pin: "off", metadata: {}, settings: {}, connection: { url: "u" }, balancer: null, includeTools: null, excludeTools: [] };
  const same = { ...now, balancer: "", includeTools: [] };
  assert.deepEqual(changes(now, same), {});
  assert.deepEqual(changes(now, { ...same, weight: 2, excludeTools: ["x"] }), { weight: 2, excludeTools: ["x"] });
  assert.deepEqual(changes({ ...now, includeTools: ["a"] }, { ...same, includeTools: [] }), { includeTools: ["*"] });
  assert.deepEqual(changes({ ...now, includeTools: ["*"] }, { ...same, includeTools: ["*"] }), {});
  assert.deepEqual(changes(now, { ...same, balancer: "random" }), { balancer: "random" });
});

test("lines and commands are read as people mean them", () => {
  assert.deepEqual(listed(" a \n\n b\n"), ["a", "b"]);
  assert.deepEqual(quoted('npx -y "my server" --name=\'x\' '), ["npx", "-y", "my server", "--name='x'"]);
  assert.deepEqual(quoted("  "), []);
});

test("an audit event shows what has no column of its own", () => {
  assert.equal(rest({ time: "t", event: "call", name: "x", attempts: 2, arguments: { a: 1 } }), 'attempts=2 arguments={"a":1}');
});

test("only rows in sight exist, and some around them", () => {
  assert.deepEqual(inSight(0, 540, 54, 10000), [0, 22]);
  assert.deepEqual(inSight(54 * 5000, 540, 54, 10000), [4988, 5022]);
  assert.deepEqual(inSight(54 * 9990, 540, 54, 10000), [9978, 10000]);
  assert.deepEqual(inSight(54 * 90, 540, 54, 3), [3, 3]);
});

test("pages look every so often and draw what is new", () => {
  let looked = 0;
  const look = every(3, () => { looked += 1; });
  for (let round = 0; round < 7; round += 1) look();
  assert.equal(looked, 3);
  const anew = differs();
  assert.deepEqual([anew([1]), anew([1]), anew([2]), anew(null)], [true, false, true, true]);
});

test("the pages that are asked for are those in sight", () => {
  assert.deepEqual(pagesOf(0, 0), []);
  assert.deepEqual(pagesOf(0, 1), [0]);
  assert.deepEqual(pagesOf(199, 201), [0, 1]);
  assert.deepEqual(pagesOf(400, 600), [2]);
});

test("a row of an upstream says what somebody wants of it before how it is", () => {
  const one = { id: "a", name: "a", transport: "http", status: "connected", duty: "active", statusSince: 0, error: null, lastHealthCheck: { latencyMs: 1.6 } };
  assert.deepEqual(cells(one), ["a", "", "http", "connected", "", "2 ms", ""]);
  assert.deepEqual(cells({ ...one, name: "g", duty: "disabled", error: "why", lastHealthCheck: null }), ["a", "g", "http", "disabled", "", "", "why"]);
});

test("what a worker carries is counted by status and grouped as it comes", () => {
  const place = (id, group, status = "connected", duty = "active") => ({ id, group, status, duty });
  const places = [place("a1", "a"), place("b", "b", "error"), place("a2", "a"), place("c", "c", "connected", "draining")];
  assert.deepEqual(counted(places), [["connected", 2], ["error", 1], ["draining", 1]]);
  assert.deepEqual(grouped(places).map(([group, ones]) => [group, ones.map((one) => one.id)]), [["a", ["a1", "a2"]], ["b", ["b"]], ["c", ["c"]]]);
  assert.deepEqual(grouped([place("x", "__proto__")]).length, 1);
});

test("settings are found by all words, the given ones first", () => {
  const one = (key, given, description = "") => ({ key, given, description, variable: `GATEWAY_${key.toUpperCase()}` });
  const all = [one("host", false, "where it listens"), one("port", true, "where it listens"), one("name", false)];
  assert.deepEqual(found(all, "").map(({ key }) => key), ["port", "host", "name"]);
  assert.deepEqual(found(all, "LISTENS gateway_h").map(({ key }) => key), ["host"]);
  assert.deepEqual([written("a"), written(5), written(["x"])], ["a", "5", '["x"]']);
});
