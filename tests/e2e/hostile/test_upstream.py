"""An upstream that does what servers must not do: its own calls suffer, those of others do not, nothing crosses."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest

from tests.attack import Judge, bystanders, session
from tests.clients import RawClient
from tests.e2e.hostile.calls import BLUE, FORMS_AND_URLS, UPSTREAM_LIMITS, call
from tests.fleet import Fleet, eventually
from tests.machine import scaled
from tests.servers.scripted import Exchange, Scripted, said
from tests.streams import calling, listening, standing


@pytest.fixture(scope="module")
def limits() -> dict[str, Any]:
    return UPSTREAM_LIMITS


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
        assert (await raw.call("evil", meta=FORMS_AND_URLS)).content == "answered"
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
        result = (await raw.call("evil", meta=FORMS_AND_URLS)).body["result"]
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
    fleet: Fleet, modern_upstream: Scripted, raw: RawClient, how: str
) -> None:
    uri = modern_upstream.resources[0]

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

    modern_upstream.on["subscriptions/listen"] = listen
    modern_upstream.seen.clear()
    async with (
        bystanders(fleet),
        listening(raw, fleet.urls[0], resourceSubscriptions=modern_upstream.resources) as stream,
    ):
        agreed = stream.messages[0]["params"]["notifications"]["resourceSubscriptions"]
        assert agreed == (modern_upstream.resources if how in ("close", "twice") else [])
        await asyncio.sleep(1.0)
        assert modern_upstream.seen["subscriptions/listen"] < 10, modern_upstream.seen
