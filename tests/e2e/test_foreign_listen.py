"""What a ``subscriptions/listen`` on ``/servers/{name}`` asks for that we do not know: it passes, both ways."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.clients import MODERN_META, Answer, RawClient
from tests.fleet import Fleet, eventually, script_connection
from tests.machine import scaled, stretched
from tests.servers.scripted import Exchange, Scripted
from tests.streams import Stream, listening

TAG = "io.modelcontextprotocol/subscriptionId"
LINES = """
import json, sys

def say(**message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)

CACHED = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
listens = {}
for line in sys.stdin:
    message = json.loads(line)
    method, id, params = message.get("method"), message.get("id"), message.get("params", {})
    if method == "server/discover":
        say(id=id, result={"supportedVersions": ["2026-07-28"], "capabilities": {"tools": {}}, **CACHED})
    elif method == "tools/list":
        say(id=id, result={"tools": [{"name": "go", "inputSchema": {"type": "object"}}], **CACHED})
    elif method == "subscriptions/listen":
        wanted = params["notifications"]
        tag = {"_meta": {"io.modelcontextprotocol/subscriptionId": id}}
        say(method="notifications/subscriptions/acknowledged", params={"notifications": wanted, **tag})
        if "weather" in wanted:
            listens[id] = tag
    elif method == "notifications/cancelled":
        listens.pop(params["requestId"], None)
    elif method == "tools/call":
        for tag in listens.values():
            say(method="notifications/weather", params={"now": "rain", **tag})
        say(id=id, result={"content": [{"type": "text", "text": str(len(listens))}], "resultType": "complete"})
    elif id is not None:
        say(id=id, error={"code": -32601, "message": "method not found"})
"""


class Weather:
    """What the HTTP upstream does with listens: those that ask for ``weather`` stay open."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self._begun: list[Exchange] = []
        self.over = asyncio.Event()
        self.aborts = False

    async def __call__(self, exchange: Exchange) -> dict[str, Any] | None:
        """One listen."""
        wanted = exchange.message["params"]["notifications"]
        tag = {"_meta": {TAG: exchange.message["id"]}}
        if "weather" not in wanted:
            return {"error": {"code": -32601, "message": "method not found"}}
        self.asked.append(exchange.message["params"])
        honoured = {"weather": wanted["weather"]}
        acknowledged = {"notifications": honoured, **tag}
        await exchange.send({"method": "notifications/subscriptions/acknowledged", "params": acknowledged})
        self._begun.append(exchange)
        await self.over.wait()
        if self.aborts:
            exchange.abort()
        else:
            await exchange.answer({"resultType": "complete", **tag})
        return None

    @property
    def open(self) -> list[Exchange]:
        """Those whose connection is there."""
        connections = [(exchange, exchange.request.transport) for exchange in self._begun]
        return [exchange for exchange, transport in connections if transport and not transport.is_closing()]

    async def tell(self, **params: Any) -> None:
        """Everybody who listens."""
        for exchange in self.open:
            tag = {"_meta": {TAG: exchange.message["id"], "kept": 1}}
            await exchange.send({"method": "notifications/weather", "params": {**params, **tag}})


@pytest_asyncio.fixture
async def weather() -> AsyncIterator[Scripted]:
    async with Scripted("weather", "modern") as upstream:
        upstream.on["subscriptions/listen"] = Weather()
        yield upstream


@pytest_asyncio.fixture
async def fleet(redis_url: str, weather: Scripted) -> AsyncIterator[Fleet]:
    async with Fleet(redis_url, frontends=2, acknowledge_s=stretched(1.0)) as fleet:
        await fleet.register("weather", weather.connection)
        yield fleet


def _of(upstream: Scripted) -> Weather:
    found = upstream.on["subscriptions/listen"]
    assert isinstance(found, Weather)
    return found


def _acknowledged(stream: Stream) -> Any:
    return stream.messages[0]["params"]["notifications"]


def _text(answer: Answer) -> str:
    text: str = answer.body["result"]["content"][0]["text"]
    return text


@contextlib.asynccontextmanager
async def _listen(fleet: Fleet, group: str, **wanted: Any) -> AsyncIterator[Stream]:
    async with (
        RawClient(f"{fleet.url}/servers/{group}/mcp") as client,
        listening(client, client.url, **wanted) as stream,
    ):
        yield stream


async def _hears(stream: Stream) -> None:
    await eventually(lambda: "notifications/weather" in stream.methods(), 5.0, "told")


async def test_unknown_members_of_a_filter_pass_and_what_comes_of_them(fleet: Fleet, weather: Scripted) -> None:
    upstream = _of(weather)
    wanted = {"of": "Oslo", "digits": 2**100}
    async with _listen(fleet, "weather", toolsListChanged=True, weather=wanted, moon=True) as stream:
        assert _acknowledged(stream) == {"toolsListChanged": True, "weather": wanted}
        assert [asked["notifications"] for asked in upstream.asked] == [{"weather": wanted, "moon": True}]
        assert "progressToken" not in upstream.asked[0]["_meta"], "no progress is told of a stream"
        await upstream.tell(now="rain", big=2**70)
        await _hears(stream)
        told = stream.messages[-1]
        assert told["params"] == {"_meta": {"kept": 1, TAG: "listen-1"}, "now": "rain", "big": 2**70}
    await eventually(lambda: not upstream.open, 5.0, "the upstream's stream is closed with the client's")


async def test_each_client_hears_its_own_and_only_on_the_group(fleet: Fleet, weather: Scripted) -> None:
    upstream = _of(weather)
    async with (
        _listen(fleet, "weather", weather=1) as one,
        _listen(fleet, "weather", weather=2) as two,
        RawClient(f"{fleet.url}/mcp") as client,
        listening(client, client.url, weather=3) as everything,
    ):
        assert [_acknowledged(stream) for stream in (one, two, everything)] == [{"weather": 1}, {"weather": 2}, {}]
        tag = {"_meta": {TAG: upstream.open[1].message["id"]}}
        await upstream.open[1].send({"method": "notifications/weather", "params": tag})
        await _hears(two)
        await upstream.tell(now="sun")
        await _hears(one)
        assert one.methods().count("notifications/weather") == 1
        assert everything.methods() == ["notifications/subscriptions/acknowledged"]


@pytest.mark.parametrize("aborts", [False, True], ids=["in good order", "broken"])
async def test_the_end_of_the_upstreams_stream_is_the_end_of_the_clients(
    fleet: Fleet, weather: Scripted, aborts: bool
) -> None:
    upstream = _of(weather)
    upstream.aborts = aborts
    async with _listen(fleet, "weather", weather=1) as stream:
        await upstream.tell(now="rain")
        upstream.over.set()
        await eventually(lambda: stream.closed, 5.0, "the client's stream ends")
    assert "notifications/weather" in stream.methods()
    assert [message["id"] for message in stream.messages if "result" in message] == ([] if aborts else ["listen-1"])


async def test_an_upstream_that_does_not_agree_costs_the_client_nothing_else(redis_url: str) -> None:
    async def never(exchange: Exchange) -> dict[str, Any] | None:
        await exchange.open()
        await asyncio.sleep(60)
        return None

    async with Scripted("deaf", "modern") as deaf, Scripted("old", "legacy") as old:
        deaf.on["subscriptions/listen"] = never
        async with Fleet(redis_url, acknowledge_s=0.3) as fleet:
            for upstream in (deaf, old):
                await fleet.register(upstream.name, upstream.connection)
                async with _listen(fleet, upstream.name, promptsListChanged=True, weather=1) as stream:
                    assert _acknowledged(stream) == {"promptsListChanged": True}
                    assert not stream.closed


async def test_what_cannot_be_read_costs_nothing_else(fleet: Fleet, weather: Scripted) -> None:
    """What is in a long text is its sender's business; what is wrong there must not cost the stream."""
    async with _listen(fleet, "weather", weather=1) as stream:
        (exchange,) = _of(weather).open
        tag = json.dumps({TAG: exchange.message["id"]})
        for text in ("\\q" + "x" * 20_000, "x" * 20_000 + "\x01"):
            raw = f'{{"jsonrpc":"2.0","method":"notifications/weather","params":{{"_meta":{tag},"text":"{text}"}}}}'
            await exchange.write(b"data: %b\n\n" % raw.encode())
        await exchange.send({"method": "notifications/weather", "params": [1]})
        await _of(weather).tell(now="rain")
        await eventually(lambda: any("rain" in json.dumps(one) for one in stream.messages), 5.0, "told")
        assert not stream.closed


async def test_listens_are_no_calls(redis_url: str, weather: Scripted) -> None:
    """They take nothing from the limits of calls, and one that is agreed to by nobody takes nothing at all."""
    async with (
        Fleet(redis_url, max_connections=2, max_inflight=3, acknowledge_s=stretched(0.5)) as fleet,
        RawClient(fleet.urls[0]) as client,
        contextlib.AsyncExitStack() as streams,
    ):
        await fleet.register("weather", weather.connection)
        for number in range(5):
            await streams.enter_async_context(_listen(fleet, "weather", weather=number))
        assert len(_of(weather).open) == 5
        answers = await asyncio.gather(*(client.call("weather") for _ in range(3)))
        assert [answer.content for answer in answers] == ["weather"] * 3
        await streams.enter_async_context(_listen(fleet, "weather", weather=5, nothing=True))
        await streams.enter_async_context(_listen(fleet, "weather", moon=True))
        assert len(_of(weather).open) == 6
        async with client.session.get(f"{fleet.url}/admin/v1/workers") as response:
            (worker,) = await response.json()

        async def idle() -> bool:
            return (await fleet.worker_facts())[worker["id"]]["load"] == "0"

        await eventually(idle, 10.0, "the next heartbeat says that no call is under way")


async def test_a_legacy_client_cannot_begin_one(fleet: Fleet, weather: Scripted) -> None:
    """Its era has none, and nothing would ever end it."""
    async with RawClient(f"{fleet.url}/servers/weather/mcp") as client:
        answers = [await client.legacy("subscriptions/listen", {"notifications": {"weather": 1}})]
        await client.initialize()
        answers.append(await client.legacy("subscriptions/listen", {"notifications": {"weather": 1}}))
        assert [answer.error["code"] for answer in answers] == [-32601] * 2
        assert not _of(weather).asked


@pytest.mark.parametrize(
    "filter",
    [
        "[]",
        "1",
        pytest.param('{"weather":1,"deep":%s}' % ("[" * 1_000_000 + "]" * 1_000_000), id="too deep for any reader"),
        pytest.param(
            '{"weather":1,"resourceSubscriptions":%s}' % ("[" * 5000 + "]" * 5000),
            id="too deep for orjson, from Python 3.12 on",
        ),
    ],
)
async def test_a_filter_that_makes_no_sense_is_refused_and_leaves_nothing(fleet: Fleet, filter: str) -> None:
    params = f'{{"_meta":{json.dumps(MODERN_META)},"notifications":{filter}}}'
    body = f'{{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{params}}}'
    headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen"}
    async with RawClient(f"{fleet.url}/servers/weather/mcp") as client:
        answer = await client.post(body.encode(), headers)
        assert answer.status == 400 and answer.error["code"] in (-32602, -32700)
        async with client.session.get(f"{fleet.url}/admin/v1/frontends") as response:
            assert {frontend["streams"] for frontend in await response.json()} == {0}


async def test_it_ends_with_the_worker_that_carries_it(fleet: Fleet) -> None:
    loop = asyncio.get_running_loop()
    async with _listen(fleet, "weather", weather=1) as stream:
        began = loop.time()
        await fleet.workers[0].stop(scaled(20.0))
        assert loop.time() - began < fleet.settings.fleet.drain_timeout_s / 2, "it waited for a stream without an end"
        await eventually(lambda: stream.closed, 5.0, "the client's stream ends")


async def test_it_outlives_the_timeout_of_calls(redis_url: str, weather: Scripted) -> None:
    async with Fleet(redis_url, request_timeout_s=0.2, request_timeout_max_s=0.3) as fleet:
        await fleet.register("weather", weather.connection)
        async with _listen(fleet, "weather", weather=1) as stream:
            await asyncio.sleep(0.8)  # several timeouts
            await _of(weather).tell(now="rain")
            await _hears(stream)


async def test_over_stdio_each_listen_gets_what_carries_its_id(redis_url: str) -> None:
    async with Fleet(redis_url) as fleet, RawClient(f"{fleet.url}/servers/lines/mcp") as client:
        await fleet.register("lines", script_connection(LINES), era="modern")
        async with _listen(fleet, "lines", weather=1) as one, _listen(fleet, "lines", sun=1) as two:
            assert (_acknowledged(one), _acknowledged(two)) == ({"weather": 1}, {"sun": 1})
            assert _text(await client.call("go")) == "1"
            await _hears(one)
            assert one.messages[-1]["params"] == {"_meta": {TAG: "listen-1"}, "now": "rain"}
            assert "notifications/weather" not in two.methods()

        async def gone() -> bool:
            return _text(await client.call("go")) == "0"

        await eventually(gone, 5.0, "the upstream is told that nobody listens any more")
