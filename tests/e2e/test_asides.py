"""What an upstream says to a client while no call of it is in flight: on its standing stream, on any front end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.clients import RawClient
from tests.fleet import Fleet, eventually
from tests.machine import stretched
from tests.servers.scripted import Exchange, Scripted, said
from tests.streams import Stream, calling, sse_data, standing

ALL = {"elicitation": {"form": {}, "url": {}}, "sampling": {}, "roots": {}}


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with Fleet(redis_url, 2, 2, standing_wait_s=stretched(1.5)) as fleet:
        yield fleet


@pytest_asyncio.fixture(scope="module")
async def up(fleet: Fleet) -> AsyncIterator[Scripted]:
    async with Scripted("up", "legacy", "hello", "told", "sampled") as up:
        await fleet.register("up", up.connection)
        yield up


async def begin(client: RawClient, url: str = "") -> None:
    """A session of a client that can be asked everything."""
    client.url = url or client.url
    await client.initialize(capabilities=ALL)


async def own_stream(client: RawClient, up: Scripted, tool: str = "hello") -> Exchange:
    """Call once, so that the client has an upstream session; that session's stream."""
    before = list(up.standing)
    assert (await client.legacy_call(tool)).content == up.name
    return await newest(up, before)


async def newest(up: Scripted, before: list[Exchange]) -> Exchange:
    """The stream that the upstream did not have before."""
    await eventually(lambda: len(up.standing) > len(before), 5.0, "the upstream's standing stream")
    (mine,) = [one for one in up.standing if one not in before]
    return mine


async def heard(stream: Stream, method: str, count: int = 1) -> list[dict[str, Any]]:
    """Messages with this method, when there are so many."""

    def found() -> list[dict[str, Any]]:
        return [one for one in stream.messages if one.get("method") == method]

    await eventually(lambda: len(found()) >= count, 5.0, f"{count} × {method}")
    return found()


def custom(number: int, size: int = 0) -> dict[str, Any]:
    return {"method": "notifications/x/news", "params": {"number": number, "x": "x" * size}}


def numbers(stream: Stream) -> list[int]:
    return [one["params"]["number"] for one in stream.messages if one.get("method") == "notifications/x/news"]


@pytest.mark.parametrize("place", [0, 1])
async def test_a_question_outside_of_any_call_is_asked_and_answered(
    fleet: Fleet, up: Scripted, client: RawClient, place: int
) -> None:
    await begin(client)
    async with RawClient(fleet.urls[0]) as other:
        await begin(other)
        theirs = await own_stream(other, up)
        mine = await own_stream(client, up)
        assert theirs is not mine
        async with standing(client, fleet.urls[place]) as stream, standing(other, fleet.urls[place]) as not_mine:
            await mine.send({"id": f"q{place}", "method": "roots/list"})
            (question,) = await heard(stream, "roots/list")
            reply = {"jsonrpc": "2.0", "id": question["id"], "result": {"roots": [{"uri": "file:///mine"}]}}
            assert (await other.post(reply, other.legacy_headers())).status == 202, "not asked: ignored"
            assert (await client.post(reply, client.legacy_headers(), url=fleet.urls[1 - place])).status == 202
            await eventually(lambda: f"q{place}" in up.replies, 5.0, "the upstream has the answer")
            assert up.replies[f"q{place}"]["result"] == reply["result"]
            assert "roots/list" not in not_mine.methods()


async def test_a_question_is_asked_on_a_stream_that_is_opened_in_time(
    fleet: Fleet, up: Scripted, client: RawClient
) -> None:
    await begin(client)
    mine = await own_stream(client, up)
    await mine.ask("late", "Are you there?")
    async with standing(client, fleet.urls[1]) as stream:
        (question,) = await heard(stream, "elicitation/create")
        await asyncio.sleep(fleet.settings.sessions.standing_wait_s + 0.3)  # now it is the client's time that runs
        assert "late" not in up.replies
        reply = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}}
        await client.post(reply, client.legacy_headers())
        await eventually(lambda: "late" in up.replies, 5.0, "answered")
        assert up.replies["late"]["result"] == {"action": "decline"}


async def test_a_client_without_a_stream_cannot_be_asked(fleet: Fleet, up: Scripted, client: RawClient) -> None:
    await begin(client)
    mine = await own_stream(client, up)
    wait_s = fleet.settings.sessions.standing_wait_s
    started = time.monotonic()
    await mine.ask("nobody")
    await eventually(lambda: "nobody" in up.replies, wait_s + 3.0, "refused")
    assert time.monotonic() - started > wait_s - 0.3
    assert "no stream" in up.replies["nobody"]["error"]["message"]


async def test_what_the_client_did_not_declare_is_refused_at_once(
    fleet: Fleet, up: Scripted, client: RawClient
) -> None:
    await client.initialize()
    mine = await own_stream(client, up)
    async with standing(client, fleet.urls[0]) as stream:
        await mine.send({"id": "undeclared", "method": "roots/list"})
        started = time.monotonic()
        await eventually(lambda: "undeclared" in up.replies, 1.0, "refused")
        assert time.monotonic() - started < fleet.settings.sessions.standing_wait_s, "a stream is not waited for"
        assert up.replies["undeclared"]["error"]["code"] == -32601 and "roots/list" not in stream.methods()


async def test_a_question_that_the_upstream_takes_back(fleet: Fleet, up: Scripted, client: RawClient) -> None:
    await begin(client)
    mine = await own_stream(client, up)
    async with standing(client, fleet.urls[1]) as stream:
        await mine.ask("back")
        (question,) = await heard(stream, "elicitation/create")
        await mine.send({"method": "notifications/cancelled", "params": {"requestId": "back"}})
        (cancelled,) = await heard(stream, "notifications/cancelled")
        assert cancelled["params"]["requestId"] == question["id"]
        reply = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "decline"}}
        await client.post(reply, client.legacy_headers())
        assert (await client.legacy_call("hello")).content == "up"
        assert "back" not in up.replies


async def test_a_lost_upstream_session_takes_its_questions_back(fleet: Fleet, client: RawClient) -> None:
    async with Scripted("mortal", "legacy") as mortal:
        await fleet.register("mortal", mortal.connection)
        await begin(client)
        mine = await own_stream(client, mortal, "mortal")
        async with standing(client, fleet.urls[0]) as stream:
            await mine.ask("never")
            (question,) = await heard(stream, "elicitation/create")
            await fleet.store.unregister("mortal")
            (cancelled,) = await heard(stream, "notifications/cancelled")
            assert cancelled["params"]["requestId"] == question["id"]


async def test_notifications_that_we_do_not_know_cross_in_order_and_once(
    fleet: Fleet, up: Scripted, client: RawClient
) -> None:
    await begin(client)
    mine = await own_stream(client, up)
    async with standing(client, fleet.urls[1]) as stream:
        for number in range(20):
            await mine.send(custom(number))
        await heard(stream, "notifications/x/news", 20)
        last = stream.ids[-1]
    assert numbers(stream) == list(range(20))
    await mine.send(custom(20), custom(21))
    await eventually(lambda: _left(fleet, client.sid, 22), 5.0, "kept for a stream that comes back")
    async with standing(client, fleet.urls[0], last) as resumed:
        await heard(resumed, "notifications/x/news", 2)
        await mine.send(custom(22))
        await heard(resumed, "notifications/x/news", 3)
    assert numbers(resumed) == [20, 21, 22]
    async with standing(client, fleet.urls[1]) as fresh:
        await eventually(lambda: fresh.ids, 5.0, "a priming event")
        prime = fresh.ids[-1]
        await mine.send(custom(23))
        await heard(fresh, "notifications/x/news")
    assert numbers(fresh) == [23], "what another stream was given is not given again"
    async with standing(client, fleet.urls[0], prime) as primed:
        await heard(primed, "notifications/x/news")
    assert numbers(primed) == [23], "the priming event has a place too"
    async with standing(client, fleet.urls[0], last) as again:
        await heard(again, "notifications/x/news", 4)
    assert numbers(again) == [20, 21, 22, 23], "but to who says that it did not come"


async def _left(fleet: Fleet, sid: str, count: int) -> bool:
    return bool(await fleet.store.redis.xlen(fleet.store.keys.outbox(sid)) >= count)


async def test_a_standing_stream_survives_the_front_end_that_held_it(redis_url: str) -> None:
    async with Fleet(redis_url, 2, 1) as fleet, Scripted("up", "legacy") as up, RawClient(fleet.urls[0]) as client:
        await fleet.register("up", up.connection)
        await begin(client, fleet.urls[1])
        mine = await own_stream(client, up, "up")
        async with standing(client, fleet.urls[0]) as stream:
            await mine.send(custom(1))
            await heard(stream, "notifications/x/news")
            fleet.kill_frontend(0)
            await eventually(lambda: stream.closed, 5.0, "the stream is lost")
        await mine.send(custom(2))
        await mine.ask("after", "Still there?")
        async with standing(client, fleet.urls[1], stream.ids[-1]) as resumed:
            await heard(resumed, "elicitation/create")
        assert numbers(resumed) == [2]


async def test_a_notification_on_a_calls_stream_belongs_to_the_call(
    fleet: Fleet, up: Scripted, client: RawClient
) -> None:
    async def tell(exchange: Exchange) -> dict[str, Any] | None:
        await exchange.send(custom(7))
        await exchange.answer(said("told"))
        return None

    await begin(client)
    up.on["tools/call"] = tell
    try:
        message = {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "told", "arguments": {}}}
        async with calling(client, fleet.urls[0], message) as stream:
            await eventually(lambda: stream.closed, 5.0, "answered")
        assert [one.get("method", "answer") for one in stream.messages] == ["notifications/x/news", "answer"]
        modern = await client.modern("tools/call", {"name": "told", "arguments": {}})
        assert [one.get("method", "answer") for one in modern.messages] == ["notifications/x/news", "answer"]
    finally:
        del up.on["tools/call"]


async def test_an_http_sse_client_hears_them_on_its_stream(fleet: Fleet, up: Scripted) -> None:
    for frontend in fleet.frontends:  # a worker says it to one front end, whichever holds the stream
        async with RawClient(frontend.url) as client, client.session.get(f"{frontend.url}/sse") as response:
            messages = f"{frontend.url}{await sse_data(response)}"
            params = {"protocolVersion": "2025-11-25", "capabilities": ALL, "clientInfo": {"name": "r", "version": "1"}}
            await client.post({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}, url=messages)
            assert "result" in json.loads(await sse_data(response))
            before = list(up.standing)
            call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "hello", "arguments": {}}}
            await client.post(call, url=messages)
            assert json.loads(await sse_data(response))["id"] == 1
            mine = await newest(up, before)
            for number in range(3):
                await mine.send(custom(number))
                assert json.loads(await sse_data(response)) == {"jsonrpc": "2.0", **custom(number)}
            await mine.ask("sse")
            question = json.loads(await sse_data(response))
            up.replies.pop("sse", None)
            reply = {"jsonrpc": "2.0", "id": question["id"], "result": {"action": "cancel"}}
            await client.post(reply, url=messages)
            await eventually(lambda: "sse" in up.replies, 5.0, "answered")


async def test_a_clients_notifications_that_we_do_not_know_reach_the_group_they_are_sent_to(
    fleet: Fleet, up: Scripted
) -> None:
    async with RawClient(f"{fleet.url}/servers/up/mcp") as client, RawClient(fleet.urls[0]) as anywhere:
        await begin(client)
        await client.legacy_notice("notifications/x/hello", {"a": 1})  # opens the client's session up there
        await eventually(lambda: up.seen["notifications/x/hello"] == 1, 5.0, "it arrives")
        await begin(anywhere)
        assert (await anywhere.legacy_notice("notifications/x/hello")).status == 202, "to nobody in particular"
        assert (await anywhere.legacy_call("hello")).content == "up"
        assert up.seen["notifications/x/hello"] == 1


async def test_how_far_a_client_is_with_its_answer_is_told(fleet: Fleet, up: Scripted, client: RawClient) -> None:
    heard_by_upstream: list[dict[str, Any]] = []
    up.noticed = heard_by_upstream.append
    await begin(client)
    mine = await own_stream(client, up)
    params = {"messages": [], "maxTokens": 5, "_meta": {"progressToken": "theirs", "other": 1}}
    async with standing(client, fleet.urls[1]) as stream:
        await mine.send({"id": "long", "method": "sampling/createMessage", "params": params})
        (question,) = await heard(stream, "sampling/createMessage")
        token = question["params"]["_meta"]["progressToken"]
        assert token != "theirs" and question["params"]["_meta"]["other"] == 1
        await client.legacy_notice("notifications/progress", {"progressToken": token, "progress": 0.5})
        await client.legacy_notice("notifications/progress", {"progressToken": "theirs", "progress": 0.6})
        await eventually(lambda: up.seen["notifications/progress"], 5.0, "told")
        result = {"role": "assistant", "content": {"type": "text", "text": "hi"}, "model": "m"}
        await client.post({"jsonrpc": "2.0", "id": question["id"], "result": result}, client.legacy_headers())
        await eventually(lambda: "long" in up.replies, 5.0, "answered")
    told = [one["params"] for one in heard_by_upstream if one.get("method") == "notifications/progress"]
    assert told == [{"progressToken": "theirs", "progress": 0.5}]


@pytest.mark.parametrize("size", [10, 20_000])
async def test_a_flood_is_bounded_its_newest_and_its_questions_are_kept_and_the_client_is_told(
    fleet: Fleet, up: Scripted, client: RawClient, size: int
) -> None:
    await begin(client)
    await client.legacy("logging/setLevel", {"level": "warning"})
    mine = await own_stream(client, up)
    count = 20_000 if size == 10 else 500
    await mine.ask(f"early-{size}")
    for start in range(0, count, 100):
        await mine.send(*(custom(number, size) for number in range(start, start + 100)))
    await eventually(lambda: _left(fleet, client.sid, 2), 5.0, "it is there")
    async with standing(client, fleet.urls[1]) as stream:
        await eventually(lambda: count - 1 in numbers(stream), 30.0, "the newest comes")
        assert len(await heard(stream, "elicitation/create")) == 1
    kept = numbers(stream)
    told = [m["params"]["data"] for m in stream.messages if m.get("method") == "notifications/message"]
    dropped = sum(int(text.split()[0]) for text in told)
    assert kept == sorted(set(kept)) and len(kept) + dropped == count, (len(kept), told)
    outbox = fleet.store.keys.outbox(client.sid)
    assert await fleet.store.redis.xlen(outbox) <= 257
    assert int(await fleet.store.redis.hget(f"{outbox}:state", "bytes")) < 1_100_000


async def test_what_is_too_large_for_a_stream_harms_nobody(fleet: Fleet, up: Scripted, client: RawClient) -> None:
    await begin(client)
    mine = await own_stream(client, up)
    async with standing(client, fleet.urls[1]) as stream:
        await mine.send(custom(1, 3_000_000))
        await mine.ask("huge", "?" * 3_000_000)
        await eventually(lambda: "huge" in up.replies, 5.0, "refused")
        assert "too large" in up.replies["huge"]["error"]["message"]
        await mine.send(custom(2))
        await heard(stream, "notifications/x/news")
    assert numbers(stream) == [2]


async def test_what_an_upstream_logs_in_the_background_is_heard(fleet: Fleet, client: RawClient) -> None:
    async with Scripted("logger", "legacy", logging={}) as logger:
        await fleet.register("logger", logger.connection)
        await begin(client)
        mine = await own_stream(client, logger, "logger")
        async with standing(client, fleet.urls[1]) as stream:
            await mine.send({"method": "notifications/message", "params": {"level": "info", "data": "by itself"}})
            (message,) = await heard(stream, "notifications/message")
            assert message["params"] == {"level": "info", "data": "by itself"}
        await fleet.store.unregister("logger")


async def test_the_loss_of_an_upstreams_state_is_told(fleet: Fleet, client: RawClient) -> None:
    gone: list[str] = []

    async def get(exchange: Exchange) -> dict[str, Any] | None:
        """The standing stream: it ends when told so, and then the session is unknown."""
        sid = exchange.request.headers["Mcp-Session-Id"]
        if sid in gone:
            return {"status": 404}
        await exchange.open()
        forgetful.standing.append(exchange)
        await eventually(lambda: sid in gone, 60.0, "forgotten")
        return None

    async with Scripted("forgetful", "legacy", logging={}) as forgetful:
        forgetful.on["GET"] = get
        await fleet.register("forgetful", forgetful.connection)
        await begin(client)
        mine = await own_stream(client, forgetful, "forgetful")
        async with standing(client, fleet.urls[0]) as stream:
            gone.append(mine.request.headers["Mcp-Session-Id"])
            (message,) = await heard(stream, "notifications/message")
            assert message["params"]["logger"] == "gateway" and "state is lost" in message["params"]["data"]
        await fleet.store.unregister("forgetful")
        gone += [one.request.headers["Mcp-Session-Id"] for one in forgetful.standing]


async def test_a_method_that_we_do_not_know_is_asked_of_who_sees_that_group_alone(
    fleet: Fleet, up: Scripted, client: RawClient
) -> None:
    async with RawClient(f"{fleet.url}/servers/up/mcp") as alone:
        for one, url in ((alone, alone.url), (client, fleet.urls[0])):
            await begin(one)
            mine = await own_stream(one, up)
            async with standing(one, url) as stream:
                id = f"new-{one is alone}"
                await mine.send({"id": id, "method": "x/new", "params": {"a": 1}})
                if one is alone:
                    (question,) = await heard(stream, "x/new")
                    reply = {"jsonrpc": "2.0", "id": question["id"], "result": {"b": 2}}
                    await one.post(reply, one.legacy_headers())
                await eventually(lambda id=id: id in up.replies, 5.0, "answered")
                assert up.replies[id].get("result") == ({"b": 2} if one is alone else None)


async def test_made_up_tokens_and_ids_are_ignored(fleet: Fleet, up: Scripted, client: RawClient) -> None:
    await begin(client)
    await own_stream(client, up)
    worker = next(iter(await fleet.worker_facts()))
    for text in (f"{worker}." + "x" * 70_000, f"{worker}.1", "x" * 70_000, "."):
        notice = await client.legacy_notice("notifications/progress", {"progressToken": text, "progress": 1})
        assert notice.status == 202
        reply = {"jsonrpc": "2.0", "id": text, "result": {}}
        assert (await client.post(reply, client.legacy_headers())).status in (202, 400)
    assert (await client.legacy_call("hello")).content == "up"


async def test_an_open_stream_at_any_front_end_keeps_the_upstream_session(redis_url: str) -> None:
    """Beside it a client without a stream, whose upstream talks all the time: its session ends, and that is no use."""
    async with (
        Fleet(redis_url, 2, 1, upstream_session_idle_s=1.0) as fleet,
        Scripted("up", "legacy", logging={}) as up,
        RawClient(fleet.urls[0]) as watching,
        RawClient(fleet.urls[0]) as away,
    ):
        await fleet.register("up", up.connection)
        await begin(watching)
        mine = await own_stream(watching, up, "up")
        async with standing(watching, fleet.urls[1]) as stream:  # which never heard of the call
            for _ in range(3):  # each time as long as it takes until an idle session is closed
                await begin(away)
                theirs, closed = await own_stream(away, up, "up"), up.seen["DELETE"]

                async def ends(theirs: Exchange = theirs, closed: int = closed) -> bool:
                    with contextlib.suppress(ConnectionError):
                        await theirs.send(custom(1))
                    return up.seen["DELETE"] == closed + 1

                await eventually(ends, 10.0, "the session of the one who is away is closed")
                assert mine in up.standing, "the other one's is not"
            await mine.send(custom(2))
            await heard(stream, "notifications/x/news")
        async with standing(away, fleet.urls[0]) as stream:
            (message,) = await heard(stream, "notifications/message")
            assert "state is lost" in message["params"]["data"]


async def test_questions_as_large_as_results_may_be_break_no_link(redis_url: str) -> None:
    limit = 200_000
    async with (
        Fleet(redis_url, 1, 1, max_result_bytes=limit, replay_bytes=10 * limit) as fleet,
        Scripted("up", "legacy") as up,
        Scripted("other", "modern") as other,
        RawClient(fleet.urls[0]) as client,
        RawClient(fleet.urls[0]) as bystander,
    ):
        go = asyncio.Event()

        async def slow(exchange: Exchange) -> dict[str, Any]:
            await go.wait()
            return said("there")

        other.on["tools/call"] = slow
        await fleet.register("up", up.connection)
        await fleet.register("other", other.connection)
        call = asyncio.ensure_future(bystander.call("other"))
        await begin(client)
        mine = await own_stream(client, up, "up")
        async with standing(client, fleet.urls[0]) as stream:
            await mine.send(_question("q", limit - 2))
            await heard(stream, "elicitation/create")

        async def asks(exchange: Exchange) -> dict[str, Any] | None:
            for number in range(3):
                await exchange.send(_question(f"part-{number}", limit - 2))
            await go.wait()
            return None

        up.on["tools/call"] = asks
        meta = {"io.modelcontextprotocol/clientCapabilities": ALL}
        answer = await bystander.call("up", meta=meta)  # together they are three times what may be
        assert "maxResultBytes" in answer.error["message"]
        go.set()
        assert (await call).content == "there"


def _question(id: str, size: int) -> dict[str, Any]:
    """An elicitation of so many bytes."""
    params = {"message": "", "requestedSchema": {"type": "object", "properties": {}}}
    question = {"jsonrpc": "2.0", "id": id, "method": "elicitation/create", "params": params}
    params["message"] = "?" * (size - len(json.dumps(question)))
    return question
