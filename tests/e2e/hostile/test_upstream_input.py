"""An upstream that asks for input in wrong ways, or dies while it waits: only its own calls suffer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.attack import Judge, bystanders, session
from tests.clients import RawClient
from tests.e2e.hostile.calls import BLUE, FORMS_AND_URLS, UPSTREAM_LIMITS, call
from tests.fleet import Fleet, eventually, script_connection
from tests.machine import scaled
from tests.servers.scripted import Exchange, Scripted
from tests.streams import listening


@pytest.fixture(scope="module")
def limits() -> dict[str, Any]:
    return UPSTREAM_LIMITS


# ---- input_required and errors of the wrong kind


@pytest.mark.parametrize(
    "result",
    [
        {"inputRequests": []},
        {"inputRequests": {"k": []}},
        {"inputRequests": {"k": {"method": 5}}},
        {"inputRequests": {"k": {"method": "elicitation/create", "params": 5}}},
        {"inputRequests": {"": {"method": "tools/call"}, '\0\n"\\😀': {"method": "x", "params": {}}}},
        {"inputRequests": {f"k{n}": {"method": "roots/list"} for n in range(1000)}},
        {"inputRequests": None, "requestState": None},
        {"requestState": 5},
        {"requestState": {"a": []}},
        {"requestState": "s" * 5_000_000},
        {"inputRequests": {}, "requestState": "again"},
        {},
    ],
    ids=lambda result: str(result)[:40],
)
async def test_garbage_in_input_required_ends_the_call_in_time(
    fleet: Fleet, modern_upstream: Scripted, raw: RawClient, result: dict[str, Any]
) -> None:
    async def need(exchange: Exchange) -> dict[str, Any]:
        return {"resultType": "input_required", **result}

    modern_upstream.on["tools/call"] = need
    modern_upstream.seen.clear()
    async with await session(fleet.urls[0]) as one, bystanders(fleet):
        answer = await one.legacy_call("modern")  # asked by requests, or failed: never left hanging
        assert "error" in answer.body, answer.text[:300]
        assert modern_upstream.seen["tools/call"] <= 11
        answer = await raw.call("modern", meta=FORMS_AND_URLS)
        if "result" in answer.body:  # passed on: then the client can come back with it
            params = {"name": "modern", "arguments": {}, "requestState": answer.body["result"]["requestState"]}
            again = await raw.modern("tools/call", params, meta=FORMS_AND_URLS)
            assert "result" in again.body, again.text[:300]


@pytest.mark.parametrize("method", ["tools/list", "server/discover"])
async def test_input_required_where_it_must_not_be_is_no_answer(fleet: Fleet, method: str) -> None:
    async with Scripted("needy", "modern") as needy, bystanders(fleet):

        async def need(exchange: Exchange) -> dict[str, Any]:
            return {"resultType": "input_required", "inputRequests": {"k": {"method": "roots/list"}}}

        await fleet.register("needy", needy.connection)
        needy.on[method] = need
        await fleet.store.run_script("ANNOUNCE", "relist:notifications/tools/list_changed", "needy")
        await asyncio.sleep(1.3)  # a health check as well
        del needy.on[method]
        await fleet.connected("needy")
        await fleet.store.unregister("needy")


@pytest.mark.parametrize(
    "data",
    [
        b"5",
        b"null",
        b"[]",
        b"{}",
        b'{"elicitations":5}',
        b'{"elicitations":[5]}',
        b'{"elicitations":[{}]}',
        b'{"elicitations":[{"mode":5,"url":[]}]}',
        b'{"elicitations":[{"mode":"form"},{"mode":"url","url":"x","elicitationId":{}}]}',
        b'{"elicitations":' + b"[" * 900 + b"]" * 900 + b"}",
        *(b'{"elicitations":[' + b"[" * depth + b"]" * depth + b"]}" for depth in range(930, 990, 6)),
    ],
    ids=lambda data: data[:40].decode() + str(len(data)),
)
async def test_url_required_errors_with_garbage_are_passed_or_refused(
    fleet: Fleet, upstream: Scripted, raw: RawClient, data: bytes
) -> None:
    async def fail(exchange: Exchange) -> None:
        error = b'{"code":-32042,"message":"m","data":%b}' % data
        await exchange.write(b'data: {"jsonrpc":"2.0","id":%d,"error":%b}\n\n' % (exchange.message["id"], error))

    upstream.on["tools/call"] = fail
    params = {"name": "evil", "arguments": {}, "_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}
    params["_meta"].update(FORMS_AND_URLS)
    modern = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "evil"}
    for body, headers in (({**call("evil"), "params": params}, modern), (call("evil"), {})):
        async with asyncio.timeout(scaled(2.5)), raw.session.post(raw.url, json=body, headers=headers) as response:
            assert response.status in (200, 400), await response.text()
            assert (await response.text()).startswith(("{", "event:"))


# ---- dying


async def test_an_upstream_that_dies_with_parked_calls_and_questions_ends_them(fleet: Fleet, raw: RawClient) -> None:
    async with await session(fleet.urls[0]) as one, bystanders(fleet):
        async with Scripted("dies") as dies:

            async def ask(exchange: Exchange) -> None:
                await exchange.ask("q")
                await asyncio.sleep(20)

            dies.on["tools/call"] = ask
            await fleet.register("dies", dies.connection)
            parked = (await raw.call("dies", meta=FORMS_AND_URLS)).body["result"]
            (key,) = parked["inputRequests"]
            asked = asyncio.create_task(one.legacy_call("dies"))
            await eventually(lambda: dies.seen["tools/call"] == 2, 5.0, "asked")
            await asyncio.sleep(0.1)
        answer = await asyncio.wait_for(asked, scaled(4.0))
        assert answer.error["data"]["code"] == "outcome_unknown"
        params = {
            "name": "dies",
            "arguments": {},
            "requestState": parked["requestState"],
            "inputResponses": {key: BLUE},
        }
        answer = await asyncio.wait_for(raw.modern("tools/call", params, meta=FORMS_AND_URLS), scaled(4.0))
        assert answer.error["data"]["code"] == "outcome_unknown", answer.text
        await fleet.store.unregister("dies")


STDIO = """
import json, os, sys
path = {path!r}
with open(path, "a") as log:
    log.write("x")
if os.path.exists(path + ".dead"):
    sys.exit(1)
def say(message):
    sys.stdout.write(message if isinstance(message, str) else json.dumps(dict(jsonrpc="2.0", **message)) + "\\n")
    sys.stdout.flush()
for line in sys.stdin:
    message = json.loads(line)
    method, id, result = message.get("method"), message.get("id"), None
    if method == "initialize":
        offers = dict(tools={{}}, logging={{}}, resources=dict(subscribe=True))
        result = dict(protocolVersion="2025-06-18", capabilities=offers, serverInfo=dict(name="x", version="1"))
    elif method == "tools/list":
        result = dict(tools=[dict(name="child", inputSchema={{}})])
    elif method == "resources/list":
        result = dict(resources=[dict(uri="memo://child/1", name="1")])
    elif method == "tools/call":
        what = message["params"]["arguments"].get("what")
        text = message["params"]["arguments"].get("who", "")
        if what == "die":
            open(path + ".dead", "w").close()
            sys.exit(1)
        if what == "flood":
            updated = dict(method="notifications/resources/updated", params=dict(uri="memo://child/1", _meta=5))
            for number in range(5000):
                say(dict(method="notifications/tools/list_changed"))
                say(updated)
                say(dict(method="notifications/message", params=dict(level="info", data=text)))
            say("not json\\n" * 5000 + "\\x00\\xff{{}}\\n[]\\n[1,2]\\n" + "x" * 1000000 + "\\n")
            for other in (id - 1, id + 1000, str(id + 1001), None, "x" * 5000):  # its other calls are its own to answer
                say(dict(id=other, result=dict(content=[dict(type="text", text="forged")])))
            for number in range(200):
                say(dict(id="q%d" % number, method="elicitation/create", params=dict(message=text)))
        result = dict(content=[dict(type="text", text=text)])
    elif method in ("ping", "resources/subscribe", "resources/unsubscribe", "logging/setLevel"):
        result = {{}}
    if id is not None and method:
        say(dict(id=id, result=result) if result is not None else dict(id=id, error=dict(code=-32601, message="no")))
        if method == "tools/call":
            say(dict(id=id, result=dict(content=[dict(type="text", text="second")])))
"""


async def test_a_child_that_floods_and_forges_and_dies_harms_only_its_own_calls(
    fleet: Fleet, raw: RawClient, judge: Judge, tmp_path: Path
) -> None:
    path = tmp_path / "starts"
    await fleet.register("child", script_connection(STDIO.format(path=str(path))), era="legacy")
    before = judge.memory_mib()
    one, two = await session(fleet.urls[0]), await session(fleet.urls[1])
    async with one, two, bystanders(fleet, 2.5):
        async with listening(raw, fleet.urls[0], resourceSubscriptions=["memo://child/1"]) as stream:
            flooding = [
                asyncio.create_task(one.legacy_call("child", {"what": "flood", "who": "one"})),
                asyncio.create_task(two.legacy_call("child", {"who": "two"})),
                asyncio.create_task(raw.call("child", {"who": "raw"})),
            ]
            answers = await asyncio.wait_for(asyncio.gather(*flooding), scaled(20.0))
            assert [answer.content for answer in answers] == ["one", "two", "raw"]
            assert "one" not in answers[1].text and "one" not in answers[2].text
            await eventually(lambda: stream.updated(), 5.0, "it is told")
            assert len(stream.updated()) < 200
            starts = path.stat().st_size
            answer = await one.legacy_call("child", {"what": "die"})
            assert answer.error["data"]["code"] == "outcome_unknown"
            await asyncio.sleep(2.0)
            assert path.stat().st_size - starts < 12, "started again and again"
        assert judge.memory_mib() - before < 80
    await fleet.store.unregister("child")
