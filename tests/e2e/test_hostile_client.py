"""A client that does what clients must not do: it harms itself at most, and learns nothing of others."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.attack import Judge, bystanders, calm, session
from tests.clients import MODERN_META, RawClient
from tests.fleet import Fleet, eventually, script_connection
from tests.machine import scaled, stretched
from tests.servers.scripted import Exchange, Scripted, echo, said
from tests.streams import calling, listening, standing

ASKABLE = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}}
BLUE = {"action": "accept", "content": {"colour": "blue"}}
MAX_PARKED = 6


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    limits = {
        "input_timeout_s": stretched(2.0),
        "max_parked": MAX_PARKED,
        "request_timeout_s": stretched(4.0),
        "keepalive_comment_s": 1.0,
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
async def asker(fleet: Fleet) -> AsyncIterator[Scripted]:
    """A legacy upstream whose tool asks one question and says what it was answered."""
    async with Scripted("asker") as upstream:

        async def ask(exchange: Exchange) -> None:
            question = f"q-{secrets.token_hex(4)}"
            await exchange.ask(question)
            await eventually(lambda: question in upstream.replies, 20.0, "an answer")
            await exchange.answer(said(json.dumps(upstream.replies[question].get("result", "refused"))))

        upstream.on["tools/call"] = ask
        await fleet.register("asker", upstream.connection)
        yield upstream
        await fleet.store.unregister("asker")


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


def call(tool: str, id: Any = 1, token: Any = None, **arguments: Any) -> dict[str, Any]:
    """A legacy ``tools/call``."""
    meta = {"_meta": {"progressToken": token}} if token is not None else {}
    params = {"name": tool, "arguments": arguments, **meta}
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}


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
        await eventually(lambda: _zero(judge, "gateway_in_flight"), 8.0, "nothing is in flight")
        await fleet.store.unregister("talks")


async def _zero(judge: Judge, gauge: str) -> bool:
    return await judge.gauge(gauge) <= 2  # the bystanders' own


def progress(exchange: Exchange, number: int, text: str = "") -> dict[str, Any]:
    params = {"progressToken": exchange.token, "progress": number, "message": text}
    return {"method": "notifications/progress", "params": params}


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


# ---- streams


@pytest_asyncio.fixture
async def steps(fleet: Fleet) -> AsyncIterator[Scripted]:
    """An upstream that reports progress ``count`` times."""
    async with Scripted("steps") as upstream:

        async def tell(exchange: Exchange) -> None:
            for number in range(exchange.arguments["count"]):
                await exchange.send(progress(exchange, number, exchange.arguments.get("who", "")))
            await exchange.answer(said("finished"))

        upstream.on["tools/call"] = tell
        await fleet.register("steps", upstream.connection)
        yield upstream
        await fleet.store.unregister("steps")


async def test_a_long_stream_is_resumed_whole(fleet: Fleet, steps: Scripted) -> None:
    async with await session(fleet.urls[0]) as one:
        async with calling(one, fleet.urls[0], call("steps", 1, "t", count=3000)) as stream:
            await eventually(lambda: stream.closed, 10.0, "the answer")
        for url in fleet.urls:
            async with standing(one, url, stream.ids[0]) as again:
                await eventually(lambda again=again: again.closed, 10.0, "the answer again")
            assert [m["params"]["progress"] for m in again.messages[:-1]] == list(range(3000))


async def test_a_resumed_stream_with_nothing_to_say_shows_a_sign_of_life(fleet: Fleet, judge: Judge) -> None:
    async with Scripted("quiet") as upstream, await session(fleet.urls[0]) as one:
        resumed = asyncio.Event()

        async def quiet(exchange: Exchange) -> None:
            await exchange.send(progress(exchange, 1))
            await resumed.wait()
            await exchange.answer(said("done"))

        upstream.on["tools/call"] = quiet
        await fleet.register("quiet", upstream.connection)
        async with calling(one, fleet.urls[0], call("quiet", 1, "t")) as stream:
            await eventually(lambda: len(stream.ids) > 1, 5.0, "progress")
        async with standing(one, fleet.urls[1], stream.ids[-1]) as again:
            pass  # the head of the answer is there before the answer
        assert not again.messages
        resumed.set()
        await fleet.store.unregister("quiet")
    await eventually(lambda: _zero(judge, "gateway_in_flight"), 5.0, "nothing is in flight")


async def test_event_ids_that_are_made_up_or_of_others_lead_nowhere(fleet: Fleet, steps: Scripted) -> None:
    mine, other = await session(fleet.urls[0]), await session(fleet.urls[0])
    async with mine, other:
        async with calling(mine, fleet.urls[0], call("steps", 1, "t", count=3, who="secret")) as stream:
            await eventually(lambda: stream.closed, 5.0, "the answer")
        worker, frontend, number, _ = stream.ids[0].split(".")
        numbers = ["", "²", "٣", "-1", "+1", " 1", "1e3", "0x1", "9" * 400, "1_0"]
        made_up = ["a.b.c.d", "...", f"{worker}...", f"{worker}.{frontend}.{number}.", f".{frontend}.{number}.0"]
        made_up += [f"{worker}.{frontend}.{one}.0" for one in numbers]
        made_up += [f"{worker}.{frontend}.{number}.{one}" for one in numbers if one != "9" * 400]
        made_up += [f"{worker}.{'x' * 20_000}.1.1", f"{worker}.é.1.1", f"{worker}.\udcff.1.1"]
        for client, ids in ((mine, made_up), (other, [*made_up, *stream.ids])):
            for id in ids:
                headers = {**client.legacy_headers(), "Accept": "text/event-stream", "Last-Event-ID": id}
                status, text = await _get(fleet.urls[1], headers)
                assert status == 400 and "secret" not in text, (id[:60], status)
        for id in ("x", "1-1", "1-1.²", ".5", "9" * 500, "1.2.3.4.5", "a.٣"):  # standing streams: open, from anywhere
            async with standing(other, fleet.urls[0], id) as again:
                await asyncio.sleep(0.02)
            assert not [m for m in again.messages if "list_changed" not in m["method"]]


async def _get(url: str, headers: dict[str, str]) -> tuple[int, str]:
    """A GET by hand: header values that clients refuse to send."""
    host, _, path = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    reader, writer = await asyncio.open_connection(name, int(port))
    head = "".join(f"{name}: {value}\r\n" for name, value in {**headers, "Connection": "close"}.items())
    writer.write(f"GET /{path} HTTP/1.1\r\nHost: {host}\r\n{head}\r\n".encode("utf-8", "surrogateescape"))
    async with asyncio.timeout(scaled(5)):
        text = (await reader.read()).decode()
    writer.close()
    return int(text.split(" ", 2)[1]), text


async def test_a_thousand_streams_opened_and_dropped_leave_nothing_behind(
    fleet: Fleet, judge: Judge, asker: Scripted
) -> None:
    async with Scripted("many", "legacy", resources={"subscribe": True}) as upstream, bystanders(fleet, 3.0):
        upstream.resources = [f"memo://many/{number}" for number in range(8)]
        await fleet.register("many", upstream.connection)
        one = await session(fleet.urls[0])
        connector = aiohttp.TCPConnector(limit=0, force_close=True)
        before = judge.memory_mib()

        async def open_and_drop(number: int) -> None:
            url, wait_s = fleet.urls[number % 2], (number % 7) * 0.01
            with contextlib.suppress(TimeoutError, aiohttp.ClientError):
                async with asyncio.timeout(0.02 + wait_s):
                    headers = {**one.legacy_headers(), "Accept": "text/event-stream, application/json"}
                    if number % 3 == 0:
                        await (await loose.get(url, headers=headers)).read()
                    elif number % 3 == 1:
                        await (await loose.post(url, json=call("asker", number), headers=headers)).read()
                    else:
                        wanted = {"resourceSubscriptions": upstream.resources, "toolsListChanged": True}
                        params = {"_meta": MODERN_META, "notifications": wanted}
                        headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen"}
                        message = {"jsonrpc": "2.0", "id": 1, "method": "subscriptions/listen", "params": params}
                        await (await loose.post(url, json=message, headers=headers)).read()

        async with one, aiohttp.ClientSession(connector=connector) as loose:
            for start in range(0, 1000, 50):
                await asyncio.gather(*(open_and_drop(number) for number in range(start, start + 50)))
            await one.session.delete(fleet.urls[0], headers=one.legacy_headers())
        await eventually(lambda: _zero(judge, "gateway_streams"), 10.0, "no stream is left")
        await eventually(lambda: _zero(judge, "gateway_in_flight"), 10.0, "no call is left")
        seen = upstream.seen
        await eventually(
            lambda: seen["resources/subscribe"] == seen["resources/unsubscribe"], 10.0, "no subscription is left"
        )
        assert judge.memory_mib() - before < 60
        await fleet.store.unregister("many")


async def test_a_stream_that_is_dropped_while_it_takes_over_keeps_no_subscription(fleet: Fleet) -> None:
    async with Scripted("held", "legacy", resources={"subscribe": True}) as upstream:
        upstream.resources = [f"memo://held/{number}" for number in range(10)]

        async def slowly(exchange: Exchange) -> dict[str, Any]:
            await asyncio.sleep(0.03)
            return {}

        upstream.on["resources/subscribe"] = slowly
        await fleet.register("held", upstream.connection, isolation="shared")
        async with await session(fleet.urls[0]) as one:

            def balance() -> bool:
                return upstream.seen["resources/subscribe"] == upstream.seen["resources/unsubscribe"]

            async with standing(one, fleet.urls[0]):
                for uri in upstream.resources:
                    assert (await one.legacy("resources/subscribe", {"uri": uri})).body["result"] == {}
            await eventually(balance, 5.0, "all are given up")
            for number in range(4):
                async with standing(one, fleet.urls[number % 2]):
                    await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)
            await eventually(balance, 5.0, "all are given up again")
        await fleet.store.unregister("held")


async def test_who_comes_and_goes_costs_those_who_stay_no_updates(fleet: Fleet, raw: RawClient) -> None:
    async with Scripted("flaps", "legacy", resources={"subscribe": True}) as upstream:
        (uri,) = upstream.resources = ["memo://flaps/1"]
        watched = set()

        async def subscribe(exchange: Exchange) -> dict[str, Any]:
            watched.add(uri)
            await asyncio.sleep(0.05)
            return {}

        async def unsubscribe(exchange: Exchange) -> dict[str, Any]:
            watched.discard(uri)
            await asyncio.sleep(0.05)
            return {}

        upstream.on.update({"resources/subscribe": subscribe, "resources/unsubscribe": unsubscribe})
        await fleet.register("flaps", upstream.connection)
        for number in range(12):
            with contextlib.suppress(TimeoutError):
                async with (
                    asyncio.timeout(0.03 + number % 4 * 0.01),
                    listening(raw, fleet.urls[0], resourceSubscriptions=[uri]),
                ):
                    pass
            async with listening(raw, fleet.urls[0], resourceSubscriptions=[uri]) as stream:
                assert stream.messages[0]["params"]["notifications"]["resourceSubscriptions"] == [uri]
                await asyncio.sleep(0.2)
                await eventually(lambda: watched, 5.0, f"round {number}: it is watched")
        await fleet.store.unregister("flaps")


async def test_subscriptions_of_one_session_are_bounded_and_unknown_ones_are_no_matter(fleet: Fleet) -> None:
    async with Scripted("wide", "legacy", resources={"subscribe": True}) as upstream, bystanders(fleet):
        upstream.resources = [f"memo://wide/{number}" for number in range(1500)]
        await fleet.register("wide", upstream.connection)
        async with await session(fleet.urls[0]) as one:

            async def each(method: str) -> list[Any]:
                answers = []
                for start in range(0, 1500, 50):
                    uris = upstream.resources[start : start + 50]
                    answers += await asyncio.gather(*(one.legacy(method, {"uri": uri}) for uri in uris))
                return answers

            assert all(answer.body.get("result") == {} for answer in await each("resources/unsubscribe"))
            async with standing(one, fleet.urls[1]):
                answers = await each("resources/subscribe")
                assert sum(1 for answer in answers if "result" in answer.body) in range(1000, 1051)
                assert answers[-1].error["code"] == -32602
        await fleet.store.unregister("wide")


async def test_a_client_that_reads_a_byte_a_second_slows_nobody_else(
    fleet: Fleet, judge: Judge, steps: Scripted
) -> None:
    one = await session(fleet.urls[0])
    host, port = fleet.frontends[0].url.removeprefix("http://").split(":")
    before = judge.memory_mib()
    async with one, bystanders(fleet):
        writers = []
        for number in range(4):
            reader, writer = await asyncio.open_connection(host, int(port), limit=1)
            body = json.dumps(call("steps", number, "t", count=300, who="x" * 30_000)).encode()
            head = "".join(f"{name}: {value}\r\n" for name, value in one.legacy_headers().items())
            head += "Accept: application/json, text/event-stream\r\nContent-Type: application/json\r\n"
            writer.write(f"POST /mcp HTTP/1.1\r\nHost: {host}:{port}\r\n{head}".encode())
            writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
            assert await reader.read(1) == b"H"
            writers.append(writer)
        await asyncio.sleep(2.0)
        assert judge.memory_mib() - before < 60
        for writer in writers:
            writer.transport.abort()
    await eventually(lambda: _zero(judge, "gateway_in_flight"), 8.0, "nothing is in flight")


async def test_an_http_sse_client_that_does_not_read_its_answers_takes_bounded_memory(
    fleet: Fleet, judge: Judge
) -> None:
    before = judge.memory_mib()
    async with RawClient("") as one, bystanders(fleet, 3.0), one.session.get(f"{fleet.url}/sse") as response:
        line = b""
        while not line.startswith(b"data:"):
            line = await response.content.readline()
        url = fleet.url + line[5:].strip().decode()
        assert response.connection is not None and response.connection.transport is not None
        response.connection.transport.pause_reading()  # type: ignore[attr-defined]
        for number in range(120):
            assert (await one.post(call("calm", number, text="x" * 2_000_000), url=url)).status == 202
        await eventually(lambda: _zero(judge, "gateway_in_flight"), 10.0, "all are answered")
        assert judge.memory_mib() - before < 150


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
        await eventually(lambda: _zero(judge, "gateway_streams"), 5.0, "no stream is left")
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
