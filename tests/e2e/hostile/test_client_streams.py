"""A client that does with streams what clients must not do: it harms itself at most, and learns nothing of others."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from tests.attack import Judge, bystanders, session
from tests.clients import MODERN_META, RawClient
from tests.e2e.hostile.calls import CLIENT_LIMITS, call, is_back_to_bystanders, progress
from tests.fleet import Fleet, eventually
from tests.machine import scaled
from tests.servers.scripted import Exchange, Scripted, said
from tests.streams import calling, listening, standing


@pytest.fixture(scope="module")
def limits() -> dict[str, Any]:
    return CLIENT_LIMITS


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
    await eventually(lambda: is_back_to_bystanders(judge, "gateway_in_flight"), 5.0, "nothing is in flight")


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
        await eventually(lambda: is_back_to_bystanders(judge, "gateway_streams"), 10.0, "no stream is left")
        await eventually(lambda: is_back_to_bystanders(judge, "gateway_in_flight"), 10.0, "no call is left")
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
    await eventually(lambda: is_back_to_bystanders(judge, "gateway_in_flight"), 8.0, "nothing is in flight")


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
        await eventually(lambda: is_back_to_bystanders(judge, "gateway_in_flight"), 10.0, "all are answered")
        assert judge.memory_mib() - before < 150
