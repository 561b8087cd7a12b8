"""An upstream that does what servers must not do: its own calls suffer, those of others do not, nothing crosses."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.attack import Judge, bystanders, calm, session
from tests.clients import RawClient
from tests.fleet import Fleet, eventually, script_connection
from tests.machine import scaled, stretched
from tests.servers.scripted import Exchange, Scripted, said
from tests.streams import calling, listening, standing

ASKABLE = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}, "url": {}}}}
BLUE = {"action": "accept", "content": {"colour": "blue"}}


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    limits = {
        "input_timeout_s": stretched(5.0),
        "request_timeout_s": stretched(3.0),
        "reconnect_min_s": 0.2,
        "health_check_interval_s": 1.0,
    }
    async with Fleet(redis_url, 2, 2, **limits) as fleet, calm(fleet):
        yield fleet


@pytest_asyncio.fixture(scope="module")
async def judge(fleet: Fleet) -> Judge:
    return await Judge(fleet).look()


@pytest_asyncio.fixture(autouse=True)
async def unharmed(judge: Judge) -> AsyncIterator[None]:
    judge.forget()
    yield
    await judge.verdict()


@pytest_asyncio.fixture
async def raw(fleet: Fleet) -> AsyncIterator[RawClient]:
    async with RawClient(fleet.urls[0]) as client:
        yield client


@pytest_asyncio.fixture
async def upstream(fleet: Fleet) -> AsyncIterator[Scripted]:
    """A legacy upstream: tool ``evil``, resources ``memo://evil/{0…19}``, logging."""
    async with Scripted("evil", "legacy", resources={"subscribe": True}, logging={}) as upstream:
        upstream.resources = [f"memo://evil/{number}" for number in range(20)]
        await fleet.register("evil", upstream.connection)
        yield upstream
        await fleet.store.unregister("evil")


@pytest_asyncio.fixture
async def modern(fleet: Fleet) -> AsyncIterator[Scripted]:
    """A modern one."""
    async with Scripted("modern", "modern", resources={"subscribe": True}) as upstream:
        upstream.resources = [f"memo://modern/{number}" for number in range(5)]
        await fleet.register("modern", upstream.connection)
        yield upstream
        await fleet.store.unregister("modern")


def call(tool: str, id: Any = 1, token: Any = None, **arguments: Any) -> dict[str, Any]:
    """A legacy ``tools/call``."""
    meta = {"_meta": {"progressToken": token}} if token is not None else {}
    params = {"name": tool, "arguments": arguments, **meta}
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}


def updated(**params: Any) -> dict[str, Any]:
    return {"method": "notifications/resources/updated", "params": params}


# ---- answers and questions


async def test_answers_to_ids_of_others_reach_nobody(fleet: Fleet, upstream: Scripted) -> None:
    ids: list[int] = []

    async def forge(exchange: Exchange) -> None:
        ids.append(exchange.message["id"])
        await asyncio.sleep(0.05)
        forged = said("forged")
        odd = [*range(ids[0] - 50, ids[0] + 50), *ids, 0, -1, 2**63, "1", "x" * 5000, None, 1.5]
        for id in odd:
            if id != exchange.message["id"]:
                await exchange.send({"id": id, "result": forged}, {"id": id, "error": {"code": 1, "message": "forged"}})
        await exchange.answer(said(exchange.arguments["who"]))
        await exchange.answer(forged)

    upstream.on["tools/call"] = forge
    clients = [await session(fleet.urls[number % 2]) for number in range(4)]
    async with bystanders(fleet):
        for _ in range(3):
            calls = [one.legacy_call("evil", {"who": f"w{number}"}) for number, one in enumerate(clients)]
            assert [one.content for one in await asyncio.gather(*calls)] == ["w0", "w1", "w2", "w3"]
    for one in clients:
        await one.session.close()


async def test_questions_after_the_answer_are_refused_and_take_no_room(
    fleet: Fleet, upstream: Scripted, raw: RawClient
) -> None:
    async def ask_late(exchange: Exchange) -> None:
        await exchange.answer(said("answered"))
        for number in range(70):
            await exchange.ask(f"late-{exchange.message['id']}-{number}")
        await asyncio.sleep(0.2)

    upstream.on["tools/call"] = ask_late
    async with await session(fleet.urls[0]) as one, bystanders(fleet):
        for _ in range(3):
            assert (await one.legacy_call("evil")).content == "answered"
        assert (await raw.call("evil", meta=ASKABLE)).content == "answered"
        await eventually(lambda: len(upstream.replies) == 4 * 70, 3.0, "each is refused at once")
        assert all("over" in reply["error"]["message"] for reply in upstream.replies.values())


async def test_requests_that_the_client_cannot_take_are_refused(
    fleet: Fleet, upstream: Scripted, raw: RawClient
) -> None:
    wrong: list[dict[str, Any]] = [
        {"method": "roots/list"},
        {"method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}},
        {"method": "elicitation/create", "params": {"mode": "url", "url": "https://x", "message": "?"}},
        {"method": "elicitation/create", "params": {"mode": 5}},
        {"method": "elicitation/create", "params": []},
        {"method": "tools/call", "params": {"name": "calm"}},
        {"method": "initialize", "params": {}},
        {"method": "x" * 100_000},
        {"method": "\ud83d\ude00\n\r"},
    ]

    async def ask(exchange: Exchange) -> None:
        for number, one in enumerate(wrong):
            await exchange.send({"id": f"wrong-{number}", **one})
        await exchange.answer(said("done"))

    upstream.on["tools/call"] = ask
    form = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}}
    async with await session(fleet.urls[0]) as one:
        for answer in (one.legacy_call("evil"), raw.call("evil", meta=form)):
            upstream.replies.clear()
            result = await answer
            assert result.content == "done" and len(result.messages) == 1
            await eventually(lambda: len(upstream.replies) == len(wrong), 3.0, "all are refused")
            assert {reply["error"]["code"] for reply in upstream.replies.values()} <= {-32601, -32602}


async def test_of_thousands_of_questions_in_one_call_a_bounded_number_is_asked(
    fleet: Fleet, upstream: Scripted, raw: RawClient
) -> None:
    async def ask(exchange: Exchange) -> None:
        upstream.replies.clear()
        for number in range(2000):
            await exchange.ask(number)
        await eventually(lambda: len(upstream.replies) >= 1900, 10.0, "most are refused")
        await exchange.answer(said("done"))

    upstream.on["tools/call"] = ask
    async with await session(fleet.urls[0]) as one, bystanders(fleet):
        async with calling(one, fleet.urls[0], call("evil")) as stream:
            await eventually(lambda: stream.closed, 10.0, "the answer")
        said_of = Counter(message.get("method") for message in stream.messages)
        assert said_of == {"elicitation/create": 64, "notifications/cancelled": 64, None: 1}, "asked, taken back, done"
        result = (await raw.call("evil", meta=ASKABLE)).body["result"]
        assert len(result.get("inputRequests", [])) <= 64


@pytest.mark.parametrize("level", ["", "warning", "error"])
async def test_a_question_in_a_flood_of_progress_is_not_lost_and_the_client_is_told_what_is(
    fleet: Fleet, upstream: Scripted, judge: Judge, level: str
) -> None:
    async def flood(exchange: Exchange) -> None:
        note = {"progressToken": exchange.token, "progress": 1, "message": "m" * 2000}
        for number in range(100):
            if number == 50:
                await exchange.ask("the question")
            await exchange.send(*[{"method": "notifications/progress", "params": note}] * 100)
        flooded.set()
        await eventually(lambda: "the question" in upstream.replies, 8.0, "an answer")
        await exchange.answer(said("done"))

    flooded = asyncio.Event()
    upstream.on["tools/call"] = flood
    before = judge.memory_mib()
    seen = dropped = as_log_message = 0
    async with await session(fleet.urls[0]) as one, bystanders(fleet):
        if level:
            await one.legacy("logging/setLevel", {"level": level})
        headers = {**one.legacy_headers(), "Accept": "application/json, text/event-stream"}
        async with one.session.post(fleet.urls[0], json=call("evil", 1, "t"), headers=headers) as response:
            async with asyncio.timeout(scaled(8.0)):
                await flooded.wait()  # it does not read meanwhile
            assert judge.memory_mib() - before < 60
            question: dict[str, Any] = {}
            async with asyncio.timeout(scaled(8.0)):
                async for line in response.content:
                    if line.startswith(b": ") and b"dropped" in line:
                        dropped += int(line.split()[1])
                    message = json.loads(line[5:]) if line.startswith(b"data: {") else {}
                    seen += message.get("method") == "notifications/progress"
                    if message.get("method") == "notifications/message":
                        assert message["params"]["logger"] == "gateway" and message["params"]["level"] == "warning"
                        as_log_message += int(message["params"]["data"].split()[0])
                    if "method" in message and "id" in message:
                        question = message
                        reply = {"jsonrpc": "2.0", "id": message["id"], "result": BLUE}
                        await one.post(reply, one.legacy_headers(), url=fleet.urls[1])
                    if "result" in message:
                        break
        assert question, "the question came"
    assert dropped > 0 and seen + dropped == 10_000, "every notification came, or was counted"
    assert as_log_message == (dropped if level == "warning" else 0), "in words only to who asked for warnings"


# ---- floods


@pytest.mark.parametrize("kind", ["progress", "log", "updated", "vague", "list_changed"])
async def test_a_flood_of_notifications_slows_others_within_bounds(
    fleet: Fleet, upstream: Scripted, raw: RawClient, judge: Judge, kind: str
) -> None:
    count = 20_000
    sent: list[dict[str, Any]] = [{"method": "notifications/tools/list_changed"}]
    if kind == "log":
        sent = [{"method": "notifications/message", "params": {"level": "info", "data": "x" * 100}}]
    elif kind == "updated":
        sent = [updated(uri=uri, n=number) for uri in upstream.resources for number in range(5)]
    elif kind == "vague":
        sent = [updated(uri=f"memo://nobody/{number}") for number in range(100)]

    async def flood(exchange: Exchange) -> None:
        notes = sent
        if kind == "progress":
            notes = [{"method": "notifications/progress", "params": {"progressToken": exchange.token, "progress": 1}}]
        block = b"".join(b"data: " + json.dumps({"jsonrpc": "2.0", **one}).encode() + b"\n\n" for one in notes)
        for _ in range(count // 400):
            await exchange.write(block * (400 // len(notes)))
        last = {"progressToken": exchange.token, "progress": 2}
        await exchange.send({"method": "notifications/progress", "params": last})
        await exchange.answer(said("done"))

    upstream.on["tools/call"] = flood
    changes, before = await fleet.store.last_change(), judge.memory_mib()
    clients = [await session(fleet.urls[number % 2]) for number in range(3)]
    async with (
        bystanders(fleet, 2.5),
        listening(raw, fleet.urls[0], resourceSubscriptions=upstream.resources, toolsListChanged=True) as listener,
    ):
        for one in clients:
            async with calling(one, one.url, call("evil", 1, "t")) as stream:
                await eventually(lambda stream=stream: stream.closed, 15.0, "the answer")
            assert stream.messages[-1]["result"]["content"][0]["text"] == "done"
            told = [m for m in stream.messages if m.get("method") == "notifications/progress"]
            assert told[-1]["params"]["progress"] == 2, "the newest is kept"
        await asyncio.sleep(0.5)
        assert len(listener.messages) < 2500
    assert await fleet.store.last_change() - changes < 60
    assert judge.memory_mib() - before < 60
    for one in clients:
        await one.session.close()


# ---- subscriptions


async def test_garbage_about_resources_harms_nobody(fleet: Fleet, upstream: Scripted) -> None:
    uri = upstream.resources[0]
    deep: Any = {}
    for _ in range(300):
        deep = {"a": deep}
    garbage: list[Any] = [{"uri": uri, "_meta": odd} for odd in (5, [], None, "x", {"a": 1}, deep, {"k" * 70_000: 1})]
    garbage += [{}, {"uri": 5}, {"uri": None}, {"uri": ""}, {"uri": "u" * 100_000}, [], 5, None, {"uri": [uri]}]
    async with await session(fleet.urls[0]) as one, bystanders(fleet), standing(one, fleet.urls[1]) as stream:
        assert (await one.legacy("resources/subscribe", {"uri": uri})).body["result"] == {}
        await eventually(lambda: len(upstream.standing) >= 2, 5.0, "its stream")
        for params in garbage:
            for exchange in list(upstream.standing):
                await exchange.send({"method": "notifications/resources/updated", "params": params})
            await asyncio.sleep(0.06)
        await eventually(lambda: uri in stream.updated(), 5.0, "what is right comes through")
        assert set(stream.updated()) <= {uri, "", "u" * 100_000}


async def test_an_upstream_that_never_answers_a_subscription_costs_its_clients_alone(
    fleet: Fleet, upstream: Scripted, raw: RawClient
) -> None:
    async def never(exchange: Exchange) -> dict[str, Any]:
        await asyncio.sleep(20)
        return {}

    upstream.on["resources/subscribe"] = never
    async with await session(fleet.urls[0]) as one, bystanders(fleet):
        answers = await asyncio.gather(
            *(one.legacy("resources/subscribe", {"uri": uri}) for uri in upstream.resources[:5]),
            raw.modern("resources/read", {"uri": upstream.resources[0]}, headers={"Mcp-Name": upstream.resources[0]}),
        )
        assert all("error" in answer.body for answer in answers)
        async with listening(raw, fleet.urls[1], resourceSubscriptions=upstream.resources) as stream:
            assert stream.messages[0]["params"]["notifications"]["resourceSubscriptions"] == []
        del upstream.on["resources/subscribe"]
        assert (await one.legacy_call("evil")).content == "evil"


@pytest.mark.parametrize("how", ["404-and-no-session", "404-always", "closes-at-once", "drops-after-200"])
async def test_an_upstream_that_refuses_what_is_renewed_is_not_pressed(
    fleet: Fleet, upstream: Scripted, how: str
) -> None:
    async with await session(fleet.urls[0]) as one, bystanders(fleet), standing(one, fleet.urls[0]):
        assert (await one.legacy("resources/subscribe", {"uri": upstream.resources[0]})).body["result"] == {}
        await eventually(lambda: len(upstream.standing) >= 2, 5.0, "its stream")
        turns = 0

        async def get(exchange: Exchange) -> dict[str, Any]:
            nonlocal turns
            turns += 1
            if how == "closes-at-once" or (how == "drops-after-200" and turns % 2):
                await exchange.write(b"retry: 0\n\n")
                return {}
            return {"status": 404}

        async def initialize(exchange: Exchange) -> dict[str, Any]:
            return {"error": {"code": -32603, "message": "no"}}

        upstream.on["GET"] = get
        if how == "404-and-no-session":
            upstream.on["initialize"] = initialize
        upstream.seen.clear()
        for exchange in list(upstream.standing):
            exchange.abort()
        await asyncio.sleep(1.5)
        assert sum(upstream.seen.values()) < 60, upstream.seen


@pytest.mark.parametrize("how", ["never", "wrong", "close", "error", "twice"])
async def test_listens_that_are_acknowledged_wrongly_or_closed_make_no_hot_loop(
    fleet: Fleet, modern: Scripted, raw: RawClient, how: str
) -> None:
    uri = modern.resources[0]

    async def listen(exchange: Exchange) -> dict[str, Any] | None:
        def acknowledged(what: Any) -> dict[str, Any]:
            meta = {"io.modelcontextprotocol/subscriptionId": exchange.message["id"]}
            params = {"_meta": meta, "notifications": what}
            return {"method": "notifications/subscriptions/acknowledged", "params": params}

        if how == "error":
            return {"error": {"code": -32603, "message": "no"}}
        await exchange.open()
        if how == "wrong":
            odd = ([], 5, {"resourceSubscriptions": 5}, {"resourceSubscriptions": [{}, None, 5]}, None)
            await exchange.send(*(acknowledged(one) for one in odd))
        elif how in ("close", "twice"):
            wanted = exchange.message["params"]["notifications"]
            await exchange.send(*[acknowledged(wanted)] * (2 if how == "twice" else 1))
        if how == "close":
            return None
        await exchange.send(updated(uri=uri), {"id": "other", "result": {}})
        await asyncio.sleep(20)
        return None

    modern.on["subscriptions/listen"] = listen
    modern.seen.clear()
    async with bystanders(fleet), listening(raw, fleet.urls[0], resourceSubscriptions=modern.resources) as stream:
        agreed = stream.messages[0]["params"]["notifications"]["resourceSubscriptions"]
        assert agreed == (modern.resources if how in ("close", "twice") else [])
        await asyncio.sleep(1.0)
        assert modern.seen["subscriptions/listen"] < 10, modern.seen


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
    fleet: Fleet, modern: Scripted, raw: RawClient, result: dict[str, Any]
) -> None:
    async def need(exchange: Exchange) -> dict[str, Any]:
        return {"resultType": "input_required", **result}

    modern.on["tools/call"] = need
    modern.seen.clear()
    async with await session(fleet.urls[0]) as one, bystanders(fleet):
        answer = await one.legacy_call("modern")  # asked by requests, or failed: never left hanging
        assert "error" in answer.body, answer.text[:300]
        assert modern.seen["tools/call"] <= 11
        answer = await raw.call("modern", meta=ASKABLE)
        if "result" in answer.body:  # passed on: then the client can come back with it
            params = {"name": "modern", "arguments": {}, "requestState": answer.body["result"]["requestState"]}
            again = await raw.modern("tools/call", params, meta=ASKABLE)
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
    params["_meta"].update(ASKABLE)
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
            parked = (await raw.call("dies", meta=ASKABLE)).body["result"]
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
        answer = await asyncio.wait_for(raw.modern("tools/call", params, meta=ASKABLE), scaled(4.0))
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
