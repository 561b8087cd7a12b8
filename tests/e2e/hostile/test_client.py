"""A client that does what clients must not do: it harms itself at most, and learns nothing of others."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.attack import Judge, bystanders, session
from tests.clients import MODERN_META, RawClient
from tests.e2e.hostile.calls import BLUE, CLIENT_LIMITS, MAX_PARKED, call, is_back_to_bystanders, progress
from tests.fleet import Fleet, eventually, script_connection
from tests.machine import scaled
from tests.servers.scripted import Exchange, Scripted, echo, said
from tests.streams import calling

ASKABLE = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}}


@pytest.fixture(scope="module")
def limits() -> dict[str, Any]:
    return CLIENT_LIMITS


@pytest_asyncio.fixture
async def modern(fleet: Fleet) -> AsyncIterator[Scripted]:
    """A modern upstream with two tools that need input once and say what they got."""
    async with Scripted("modern", "modern", "one", "two") as upstream:

        async def need(exchange: Exchange) -> dict[str, Any]:
            params = exchange.message["params"]
            if "requestState" in params:
                return said(json.dumps([params["requestState"], params.get("inputResponses")]))
            request = {"method": "elicitation/create", "params": {"message": "?", "requestedSchema": {}}}
            who = exchange.arguments.get("who", "")
            return {"resultType": "input_required", "inputRequests": {"k": request}, "requestState": f"state of {who}"}

        upstream.on["tools/call"] = need
        await fleet.register("modern", upstream.connection)
        yield upstream
        await fleet.store.unregister("modern")


# ---- answers


async def test_what_finished_calls_carried_is_not_kept(fleet: Fleet, raw: RawClient, judge: Judge) -> None:
    before = judge.memory_mib()
    for _ in range(60):
        answer = await raw.call("calm", {"text": "x", "blob": "x" * 5_000_000})
        assert answer.content == "x"
    assert judge.memory_mib() - before < 100


async def test_answers_count_once_and_from_the_session_that_was_asked_while_it_is_asked(
    fleet: Fleet, asker: Scripted
) -> None:
    victim, thief = await session(fleet.urls[0]), await session(fleet.urls[1])
    workers = list(await fleet.worker_facts())
    async with victim, thief, bystanders(fleet), calling(victim, fleet.urls[0], call("asker")) as stream:
        await eventually(lambda: stream.messages, 5.0, "the question")
        real = stream.messages[0]["id"]
        stolen = {"action": "accept", "content": {"colour": "stolen"}}
        odd = [f"{real}0", f"0{real}", real.replace(".", "..") + "x", "", ".", "x.1", -1, 10**300]
        guesses = [f"{worker}.{number}" for worker in workers for number in range(30)]
        for id in [*guesses, *odd]:
            for body in ({"result": stolen}, {"error": {"code": 1, "message": "stolen"}}):
                answer = await thief.post({"jsonrpc": "2.0", "id": id, **body}, thief.legacy_headers())
                assert answer.status == 202
        assert "result" not in stream.messages[-1]
        for content in (BLUE, stolen):  # twice, at either front end
            answer = await victim.post(
                {"jsonrpc": "2.0", "id": real, "result": content}, victim.legacy_headers(), url=fleet.urls[1]
            )
            assert answer.status == 202
        await eventually(lambda: stream.closed, 5.0, "the call goes on")
        assert json.loads(stream.messages[-1]["result"]["content"][0]["text"]) == BLUE
        late = {"jsonrpc": "2.0", "id": real, "result": stolen}
        assert (await victim.post(late, victim.legacy_headers())).status == 202


async def test_ids_that_are_used_again_while_they_are_in_use_mix_nothing_up(fleet: Fleet, raw: RawClient) -> None:
    one = await session(fleet.urls[0])
    async with one:

        async def echoed(number: int) -> None:
            answer = await one.legacy_call("calm", {"text": f"t{number}"}, url=fleet.urls[number % 2], id="same")
            assert answer.content == f"t{number}" and answer.body["id"] == "same"

        await asyncio.gather(*(echoed(number) for number in range(40)))


async def test_what_is_too_long_for_a_frame_is_refused(fleet: Fleet, raw: RawClient) -> None:
    one = await session(fleet.urls[0])
    worker = next(iter(await fleet.worker_facts()))
    async with one:
        long = "i" * 70_000
        assert (await one.legacy_call("calm", id=long)).error["code"] == -32600
        answer = await one.post({"jsonrpc": "2.0", "id": f"{worker}.{long}", "result": {}}, one.legacy_headers())
        assert answer.error["code"] == -32600
        assert (await one.legacy_notice("notifications/cancelled", {"requestId": long})).status == 202
        assert (await one.legacy("resources/subscribe", {"uri": "memo://" + "😀" * 15_000})).error["code"] == -32602
        answer = await one.legacy("resources/read", {"uri": "memo://" + "😀" * 15_000})
        assert answer.error["code"] in (-32602, -32002)
        async with RawClient(f"{fleet.url}/servers/calm/mcp") as scoped:
            answer = await scoped.legacy("m" * 70_000)
            assert answer.error["code"] == -32601


async def test_a_batch_is_bounded_and_one_that_is_dropped_leaves_nothing_behind(fleet: Fleet, judge: Judge) -> None:
    async with Scripted("talks") as upstream, bystanders(fleet, 1.0):

        async def talk(exchange: Exchange) -> None:
            await exchange.send(progress(exchange, 1))
            await asyncio.sleep(0.5)
            await exchange.answer(said("done"))

        upstream.on["tools/call"] = talk
        await fleet.register("talks", upstream.connection)
        one = await session(fleet.urls[0], "2025-03-26")
        async with one:
            many = b"[" + b",".join(b'{"jsonrpc":"2.0","id":%d,"method":"ping"}' % n for n in range(50_000)) + b"]"
            answer = await one.post(many, one.legacy_headers())
            assert (answer.status, answer.error["code"]) == (400, -32600)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.25):
                    await one.post([call("talks", n, n) for n in range(30)], one.legacy_headers())
        await eventually(lambda: is_back_to_bystanders(judge, "gateway_in_flight"), 8.0, "nothing is in flight")
        await fleet.store.unregister("talks")


# ---- requestState


async def test_request_state_counts_for_its_request_alone_and_unchanged(
    fleet: Fleet, raw: RawClient, modern: Scripted, asker: Scripted
) -> None:
    async def first(tool: str, **arguments: Any) -> str:
        answer = await raw.call(tool, arguments, meta=ASKABLE)
        return str(answer.body["result"]["requestState"])

    async def retry(tool: str, state: Any, url: str = "", **arguments: Any) -> Any:
        raw.url = url or raw.url
        params = {"name": tool, "arguments": arguments, "requestState": state, "inputResponses": {"k": BLUE}}
        return await raw.modern("tools/call", params, meta=ASKABLE)

    passed, other, kept = await first("one", who="a"), await first("one", who="b"), await first("asker")
    changed = passed[:50] + ("A" if passed[50] != "A" else "B") + passed[51:]
    bad = ["", "A", "A" * 100_000, passed[:-1], passed[:40], passed + "AAAA", changed, passed + passed, "💥", "\0"]
    bad += [5, None, [], {}, other, kept]
    for state in bad:
        answer = await retry("one", state, who="a")
        if state not in ("",):
            assert (answer.status, answer.error["code"]) == (400, -32602), (state, answer.text[:300])
    assert (await retry("two", passed, who="a")).error["code"] == -32602
    assert (await retry("calm", passed, who="a")).error["code"] == -32602
    assert (await retry("asker", passed)).error["code"] == -32602
    assert (await retry("asker", kept, who="somebody else")).error["code"] == -32602
    answer = await retry("one", passed, fleet.urls[1], who="a")
    assert json.loads(answer.content) == ["state of a", {"k": BLUE}]
    answers = await asyncio.gather(*(retry("asker", kept) for _ in range(8)))  # one of them at most goes on
    assert sum(1 for one in answers if "result" in one.body) <= 1


async def test_numbers_of_any_length_in_a_retry_harm_nobody(fleet: Fleet, raw: RawClient, modern: Scripted) -> None:
    async with bystanders(fleet):
        for digits in (5_000, 500_000):
            number = "1" * digits
            meta = json.dumps({**MODERN_META, **ASKABLE})
            state = ""
            for _ in range(2):
                more = f',"requestState":"{state}","inputResponses":{{}}' if state else ""
                body = f'{{"name":"one","arguments":{{"n":{number}}},"_meta":{meta}{more}}}'
                message = f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{body}}}'
                headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "one"}
                answer = await raw.post(message.encode(), headers)
                assert "result" in answer.body, answer.text[:300]
                state = answer.body["result"].get("requestState", "")
            assert json.loads(answer.content)[0] == "state of "


@pytest.mark.parametrize(
    "responses",
    [
        b"[]",
        b"5",
        b'"x"',
        b'{"elicitation-1":' + b"[" * 900 + b"]" * 900 + b"}",
        b"{" + b",".join(b'"k%d":{}' % n for n in range(100_000)) + b"}",
        b'{"elicitation-1":{"action":"accept","content":{"x":"' + b"x" * 5_000_000 + b'"}}}',
        b'{"\\u0000":1,"":2,"elicitation-1":null}',
    ],
    ids=["array", "number", "string", "nested", "many", "enormous", "odd"],
)
async def test_input_responses_of_any_shape_are_taken_or_refused(
    fleet: Fleet, raw: RawClient, asker: Scripted, responses: bytes
) -> None:
    async with bystanders(fleet):
        state = (await raw.call("asker", meta=ASKABLE)).body["result"]["requestState"].encode()
        meta = json.dumps({**MODERN_META, **ASKABLE}).encode()
        params = b'{"name":"asker","arguments":{},"requestState":"%b","inputResponses":%b,"_meta":%b}'
        body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":%b}' % (params % (state, responses, meta))
        headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "asker"}
        headers["Content-Type"] = "application/json"
        async with raw.session.post(raw.url, data=body, headers={**headers, "Accept": "application/json"}) as answer:
            assert answer.status in (200, 400)
            text = await answer.text()
        assert ("requestState" in text or '"content"' in text) if answer.status == 200 else "-32602" in text


async def parked(fleet: Fleet) -> int:
    """Calls that wait for their clients, as the workers' last heartbeats say."""
    return sum(int(facts["parked"]) for facts in (await fleet.worker_facts()).values())


async def test_who_never_comes_back_holds_a_bounded_number_of_calls_for_a_bounded_time(
    fleet: Fleet, raw: RawClient, asker: Scripted
) -> None:
    async def none() -> bool:
        return not await parked(fleet)

    await raw.call("asker", meta=ASKABLE)
    await eventually(lambda: parked(fleet), 10.0, "a heartbeat after that call")
    await eventually(none, 10.0, "what other tests left parked is gone, and this as well")
    before = asker.seen["notifications/cancelled"]
    async with bystanders(fleet):
        results = [(await raw.call("asker", meta=ASKABLE)).body["result"] for _ in range(3 * MAX_PARKED)]
        kept = [one["requestState"] for one in results if one["resultType"] == "input_required"]
        assert MAX_PARKED <= len(kept) <= 2 * MAX_PARKED, "maxParked in each of two workers"
        told = before + len(kept)
        await eventually(lambda: asker.seen["notifications/cancelled"] >= told, 10.0, "the upstream is told")
        answer = await raw.call("asker", meta=ASKABLE)
        assert answer.body["result"]["resultType"] == "input_required", "there is room again"
        params = {"name": "asker", "arguments": {}, "requestState": kept[0], "inputResponses": {"elicitation-1": BLUE}}
        answer = await raw.modern("tools/call", params, meta=ASKABLE)
        assert (answer.status, answer.error["code"]) == (400, -32602)


# ---- sessions


async def test_nobody_cancels_the_requests_of_others(fleet: Fleet) -> None:
    async with Scripted("waits") as upstream:

        async def wait(exchange: Exchange) -> dict[str, Any]:
            await asyncio.sleep(0.6)
            return said("done")

        upstream.on["tools/call"] = wait
        await fleet.register("waits", upstream.connection)
        victim, thief = await session(fleet.urls[0]), await session(fleet.urls[0])
        async with victim, thief:
            waiting = asyncio.create_task(victim.legacy_call("waits", id="mine"))
            await eventually(lambda: upstream.seen["tools/call"], 5.0, "under way")
            for id in ("mine", 1, None, [], {}, "x" * 2000, "m" * 900):
                for url in fleet.urls:
                    await thief.legacy_notice("notifications/cancelled", {"requestId": id}, url=url)
            await thief.legacy_notice("notifications/cancelled", {})
            await thief.session.delete(fleet.urls[1], headers=thief.legacy_headers())
            assert (await waiting).content == "done"
        await fleet.store.unregister("waits")


async def test_a_session_that_ends_in_the_middle_of_everything_is_over(
    fleet: Fleet, judge: Judge, asker: Scripted
) -> None:
    async with Scripted("subs", "legacy", resources={"subscribe": True}) as upstream, bystanders(fleet):
        upstream.resources = ["memo://subs/1"]
        upstream.on["tools/call"] = echo
        await fleet.register("subs", upstream.connection)

        async def live_and_die(number: int) -> None:
            async with await session(fleet.urls[number % 2]) as one:
                here, there = fleet.urls[number % 2], fleet.urls[(number + 1) % 2]
                headers = {**one.legacy_headers(), "Accept": "text/event-stream"}

                async def stream() -> None:
                    async with one.session.get(there, headers=headers) as response:
                        await response.read()

                doing = [
                    asyncio.create_task(one.legacy("resources/subscribe", {"uri": "memo://subs/1"}, url=there)),
                    asyncio.create_task(one.legacy_call("asker", url=here)),
                    asyncio.create_task(one.legacy("logging/setLevel", {"level": "debug"}, url=there)),
                    *(asyncio.create_task(stream()) for _ in range(3)),
                ]
                await asyncio.sleep(number % 10 * 0.003)
                async with one.session.delete(here, headers=one.legacy_headers()) as response:
                    assert response.status == 200
                await asyncio.wait_for(asyncio.gather(*doing), scaled(3.0))
                for url in fleet.urls:
                    assert (await one.legacy("ping", url=url)).status == 404
                assert not await fleet.store.redis.exists(fleet.store.keys.session(one.sid)), "it came back to life"

        for _ in range(3):
            await asyncio.gather(*(live_and_die(number) for number in range(10)))
        await eventually(lambda: is_back_to_bystanders(judge, "gateway_streams"), 5.0, "no stream is left")
        await fleet.store.unregister("subs")


@pytest.mark.parametrize("kind", ["stdio", "http"])
async def test_a_flood_of_a_clients_notifications_takes_bounded_memory_and_nobodys_connection(
    fleet: Fleet, judge: Judge, kind: str
) -> None:
    """The upstream does not take them: a child that does not read, a server that does not answer."""
    deaf = """
import json, sys, time
info = {"protocolVersion": "2025-11-25", "capabilities": {}, "serverInfo": {"name": "deaf", "version": "1"}}
results = {"initialize": info, "tools/list": {"tools": [{"name": "t", "inputSchema": {"type": "object"}}]}, "ping": {}}
for line in sys.stdin:
    message = json.loads(line)
    if message["method"] == "notifications/x":
        time.sleep(600)
    if "id" in message:
        result = results.get(message["method"])
        answer = {"error": {"code": -32601, "message": "no"}} if result is None else {"result": result}
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer}), flush=True)
"""
    async with Scripted("slow", "legacy") as upstream:
        connection = script_connection(deaf) if kind == "stdio" else upstream.connection
        upstream.notices = asyncio.Event()
        await fleet.register("flooded", connection)
        async with RawClient(f"{fleet.url}/servers/flooded/mcp") as client:
            await client.initialize()
            await client.legacy_notice("notifications/x", {"first": True})
            before = judge.memory_mib()
            for _ in range(40):
                answer = await client.legacy_notice("notifications/x", {"x": "x" * 3_000_000})
                assert answer.status == 202
            await asyncio.sleep(0.5)
            assert judge.memory_mib() - before < 90, "120 MB were sent"
        upstream.notices.set()
        await fleet.store.unregister("flooded")
