"""What strangers can make the gateway hold is bounded, and whoever else is there is served meanwhile.

Strangers come from 127.0.0.2 and its neighbours, so that they are other peers than the bystanders on 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import resource
from collections.abc import AsyncIterator, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from tests.attack import Judge, bystanders, calm
from tests.clients import MODERN_META, RawClient
from tests.e2e.test_express import Wire, call
from tests.e2e.test_hostile import byte_server
from tests.fleet import Fleet, eventually
from tests.machine import scaled, stretched
from tests.servers.scripted import Exchange, Scripted, said

MIB = 1024 * 1024
MAX_BODY, OF_PEER, IN_ALL = 1 * MIB, 3 * MIB, 6 * MIB
MAX_HEAD = 16 * 1024
CONNECTIONS, CONNECTIONS_OF_PEER = 60, 20
STRANGER = "127.0.0.2"
GRACE_S = 2.0


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    bounds: dict[str, Any] = {
        "max_body_bytes": MAX_BODY,
        "max_bodies_bytes": IN_ALL,
        "max_bodies_bytes_per_peer": OF_PEER,
        "body_grace_s": stretched(GRACE_S),
        "head_timeout_s": stretched(GRACE_S),
        "max_head_bytes": MAX_HEAD,
        "max_client_connections": CONNECTIONS,
        "max_client_connections_per_peer": CONNECTIONS_OF_PEER,
        "max_result_bytes": MIB,
    }
    async with Fleet(redis_url, 1, 1, **bounds) as fleet, calm(fleet):
        yield fleet


class Strangers:
    """Raw connections from addresses of their own."""

    def __init__(self, fleet: Fleet) -> None:
        self._port = urlsplit(fleet.url).port
        self.wires: list[Wire] = []

    async def connect(self, host: str = STRANGER) -> Wire:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", self._port, local_addr=(host, 0)))
        self.wires.append(wire)
        return wire

    async def refusals(self, status: int) -> list[tuple[dict[str, str], dict[str, Any]]]:
        """Headers and messages of the answers with this status that have come, and of no other."""
        found = []
        for wire in list(self.wires):
            if wire.reader._buffer:  # type: ignore[attr-defined]
                got, headers, body = await wire.answer()
                assert got == status, (got, body)
                found.append((headers, json.loads(body)))
                self.wires.remove(wire)
                wire.writer.close()
        return found


@pytest_asyncio.fixture
async def strangers(fleet: Fleet) -> AsyncIterator[Strangers]:
    these = Strangers(fleet)
    yield these
    for wire in these.wires:
        wire.writer.close()


def unfinished(size: int, sent: int, *lines: str) -> bytes:
    """A ``POST /mcp`` that announces ``size`` bytes of body, with the first ``sent`` of them."""
    head = ["POST /mcp HTTP/1.1", "Host: localhost", "Content-Type: application/json", *lines]
    length = [f"Content-Length: {size}"] if size else ["Transfer-Encoding: chunked"]
    start = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"'
    body = start + b"a" * (sent - len(start))
    if not size:
        body = b"%x\r\n%b\r\n" % (len(body), body)
    return "\r\n".join([*head, *length, "", ""]).encode() + body


async def gone(wire: Wire) -> bool:
    """Whether the gateway has ended the connection, after whatever it had to say."""
    with contextlib.suppress(ConnectionError):
        await asyncio.wait_for(wire.reader.read(), scaled(20.0))
    return True


async def large_call(fleet: Fleet) -> bool:
    """A call of a bystander whose body comes in several reads."""
    async with RawClient(fleet.urls[0]) as client:
        answer = await client.call("calm", {"text": "x", "blob": "x" * 900_000})
        return bool(answer.content == "x")


# ---- bodies


@pytest.mark.parametrize(("size", "sent"), [(1_000_000, 900_000), (250_000, 240_000), (0, 900_000)])
async def test_unfinished_bodies_of_one_address_are_bounded(
    fleet: Fleet, strangers: Strangers, size: int, sent: int
) -> None:
    count = OF_PEER // sent + 4
    async with bystanders(fleet):
        for _ in range(count):
            with contextlib.suppress(ConnectionError):
                await (await strangers.connect()).send(unfinished(size, sent))
        refused: list[Any] = []

        async def all_but_those_with_room() -> bool:
            refused.extend(await strangers.refusals(429))
            return len(refused) >= 4

        await eventually(all_but_those_with_room, 10.0, "refusals")
        for headers, message in refused:
            assert headers["retry-after"] == "1" and message["id"] is None
            assert message["error"]["data"]["code"] == "too_much_of_peer"
        assert await large_call(fleet)  # another address has room


async def test_unfinished_bodies_of_all_addresses_are_bounded(fleet: Fleet, strangers: Strangers) -> None:
    async with bystanders(fleet):
        for number in range(8):
            with contextlib.suppress(ConnectionError):
                await (await strangers.connect(f"127.0.1.{number + 1}")).send(unfinished(1_000_000, 900_000))

        async def one_too_many() -> bool:
            return any(
                message["error"]["data"]["code"] == "too_much" and headers["retry-after"] == "1"
                for headers, message in await strangers.refusals(503)
            )

        await eventually(one_too_many, 10.0, "a refusal")
        for wire in strangers.wires:
            wire.writer.close()
        await eventually(lambda: large_call(fleet), 10.0, "what left is counted no more")


@pytest.mark.parametrize(("size", "sent"), [(1_000_000, 900_000), (250_000, 1000), (0, 1000)])
async def test_a_body_that_trickles_is_dropped(fleet: Fleet, strangers: Strangers, size: int, sent: int) -> None:
    async with bystanders(fleet):
        wire = await strangers.connect()
        await wire.send(unfinished(size, sent))

        async def trickle() -> None:
            while True:
                await asyncio.sleep(0.2)
                wire.writer.write(b"1\r\na\r\n" if not size else b"a")

        trickling = asyncio.create_task(trickle())
        try:
            status, headers, body = await wire.answer()
            assert (status, headers["connection"]) == (408, "close"), body
            assert json.loads(body)["error"]["data"]["code"] == "too_slow"
            assert await gone(wire)
        finally:
            trickling.cancel()
            await asyncio.gather(trickling, return_exceptions=True)


async def test_a_body_that_is_slow_but_not_too_slow_is_served(fleet: Fleet, strangers: Strangers) -> None:
    wire = await strangers.connect()
    request = call(1, "calm", {"text": "x", "blob": "x" * 100_000})
    pieces = 16
    size = len(request) // pieces + 1
    for number in range(pieces):  # longer than the grace in all, and many times the lowest rate
        await wire.send(request[number * size : (number + 1) * size])
        await asyncio.sleep(stretched(GRACE_S) / 8)
    assert (await wire.result(1))["content"][0]["text"] == "x"


# ---- heads


@pytest.mark.parametrize("before", [False, True])
async def test_a_head_that_trickles_is_dropped(fleet: Fleet, strangers: Strangers, before: bool) -> None:
    """``before``: after a request that was handed to aiohttp with everything that follows."""
    async with bystanders(fleet):
        wire = await strangers.connect()
        if before:
            await wire.send(unfinished(0, 100) + b'3\r\n"}}\r\n0\r\n\r\n')
            assert (await wire.answer())[0] == 200
        await wire.send(b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")

        async def trickle() -> None:
            while True:
                await asyncio.sleep(0.2)
                wire.writer.write(b"a")

        trickling = asyncio.create_task(trickle())
        try:
            assert (await wire.answer())[0] == 408
            assert await gone(wire)
        finally:
            trickling.cancel()
            await asyncio.gather(trickling, return_exceptions=True)


@pytest.mark.parametrize("before", [False, True])
async def test_an_endless_head_is_refused(fleet: Fleet, strangers: Strangers, before: bool) -> None:
    async with bystanders(fleet):
        wire = await strangers.connect()
        if before:
            await wire.send(unfinished(0, 100) + b'3\r\n"}}\r\n0\r\n\r\n')
            assert (await wire.answer())[0] == 200
        await wire.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        with contextlib.suppress(ConnectionError):
            for number in range(100):
                await wire.send(b"X-%d: %b\r\n" % (number, b"a" * 1000))
        status, _, body = await wire.answer()
        assert status == 431 and json.loads(body)["error"]["data"]["code"] == "head_too_large"
        assert await gone(wire)


async def test_a_head_below_the_bound_is_served(strangers: Strangers) -> None:
    wire = await strangers.connect()
    lines = b"".join(b"X-%d: %b\r\n" % (number, b"a" * 1000) for number in range(12))
    await wire.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + lines)
    await wire.send(b"\r\n")
    assert (await wire.answer())[0] == 200


# ---- framing


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize(
    ("version", "lines"),
    [
        ("1.0", "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n"),
        ("1.0", "Transfer-Encoding: chunked\r\n"),
        ("1.0", "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        ("1.1", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        ("1.1", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
    ],
)
async def test_a_frame_that_two_readers_could_see_differently_is_refused(
    fleet: Fleet, strangers: Strangers, version: str, lines: str, before: bool
) -> None:
    wire = await strangers.connect()
    if before:
        await wire.send(unfinished(0, 100) + b'3\r\n"}}\r\n0\r\n\r\n')
        assert (await wire.answer())[0] == 200
    head = f"POST /mcp HTTP/{version}\r\nHost: localhost\r\nContent-Type: application/json\r\n{lines}\r\n"
    await wire.send(head.encode() + b"0\r\n\r\n" + call(2, "calm", {"text": "smuggled"}))
    got = await asyncio.wait_for(wire.reader.read(), scaled(20.0))
    assert got.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 ")) and len(re.findall(rb"HTTP/1\.[01] \d{3}", got)) == 1, (
        got
    )


# ---- connections


async def test_idle_connections_give_way(fleet: Fleet, strangers: Strangers) -> None:
    async with bystanders(fleet):
        for number in range(5 * CONNECTIONS_OF_PEER):
            await strangers.connect(f"127.0.0.{2 + number % 5}")
        for wire in strangers.wires[-CONNECTIONS_OF_PEER // 2 :]:  # whoever came last is there
            await wire.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await wire.answer())[0] == 200
        assert await gone(strangers.wires[0])


@pytest.mark.parametrize(("addresses", "status"), [(1, 429), (4, 503)])
async def test_a_connection_more_than_there_is_room_for_is_refused(
    fleet: Fleet, strangers: Strangers, addresses: int, status: int
) -> None:
    """All connections have calls under way, so that none can give way."""
    done = asyncio.Event()

    async def hang(exchange: Exchange) -> dict[str, Any]:
        await done.wait()
        return said("done")

    async with Scripted("slow", "modern") as slow, bystanders(fleet):
        slow.on["tools/call"] = hang
        await fleet.register("slow", slow.connection)
        try:
            refused = False
            for number in range(CONNECTIONS + 1):
                wire = await strangers.connect(f"127.0.2.{1 + number % addresses}")
                with contextlib.suppress(ConnectionError):
                    await wire.send(call(1, "slow", {}))
                with contextlib.suppress(TimeoutError, ConnectionError):
                    got = await asyncio.wait_for(wire.reader.read(12), 0.2)
                    assert got == b"HTTP/1.1 %d" % status, got
                    rest = await asyncio.wait_for(wire.reader.read(), scaled(5.0))
                    assert b"Retry-After: 1\r\n" in rest and b'"code":"too_much' in rest
                    refused = True
                    break
            assert refused
        finally:
            done.set()
            await fleet.store.unregister("slow")


@contextlib.contextmanager
def open_files(count: int) -> Iterator[None]:
    """Children that are started meanwhile may have so many open files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_more_connections_than_files_may_be_open_take_nobodys_place(redis_url: str) -> None:
    async with Fleet(redis_url, 0, 1) as fleet:
        with open_files(256):
            await fleet.add_frontend()
        async with calm(fleet):
            judge = await Judge(fleet).look()
            crowd = Strangers(fleet)
            async with bystanders(fleet):
                for number in range(600):
                    await crowd.connect(f"127.0.0.{2 + number % 3}")
                assert await large_call(fleet)
            for wire in crowd.wires:
                wire.writer.close()
            await judge.verdict()


# ---- upstreams


async def test_an_upstreams_endless_header_costs_its_call(fleet: Fleet, judge: Judge) -> None:
    async def talk(message: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while True:
            writer.write(b"a" * 65536)
            await writer.drain()

    before = judge.memory_mib()
    async with byte_server(talk, "flood") as connection, bystanders(fleet):
        await fleet.register("flood", connection)
        async with RawClient(fleet.urls[0]) as client:
            answer = await client.call("flood", {})
        assert answer.error["data"]["code"] == "upstream_protocol" and "no body" in answer.error["message"]
        await fleet.store.unregister("flood")
    assert judge.memory_mib() - before < 50


@pytest.mark.parametrize("line", [b"data:\n", b"data:ab\n", b"data: " + b"a" * 1000 + b"\n"])
async def test_an_event_without_end_costs_its_call(fleet: Fleet, judge: Judge, line: bytes) -> None:
    async def flood(exchange: Exchange) -> None:
        chunk = line * (65536 // len(line))
        while True:
            await exchange.write(chunk)

    before = judge.memory_mib()
    async with Scripted("lines", "modern") as upstream, bystanders(fleet):
        upstream.on["tools/call"] = flood
        await fleet.register("lines", upstream.connection)
        async with RawClient(fleet.urls[0]) as client:
            answer = await client.call("lines", {})
        assert f"larger than {MIB} bytes" in answer.error["message"]
        await fleet.store.unregister("lines")
    assert judge.memory_mib() - before < 50


# ---- heavy JSON


async def test_params_with_very_many_members_are_refused_where_all_must_be_known(fleet: Fleet) -> None:
    many = b",".join(b'"%d":1' % number for number in range(80_000))
    body = b'{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"_meta":%b,%b}}' % (
        json.dumps(MODERN_META).encode(),
        many,
    )
    async with bystanders(fleet), RawClient(fleet.urls[0]) as client:
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": "2026-07-28",
            "Mcp-Method": "completion/complete",
        }
        async with client.session.post(fleet.urls[0], data=body, headers=headers) as response:
            answer = await response.json()
        assert "more than 20000 members" in answer["error"]["message"]


async def test_sessions_that_are_opened_and_left_give_way_to_new_ones(redis_url: str) -> None:
    async with (
        Fleet(redis_url, max_client_sessions_per_peer=5) as fleet,
        RawClient(fleet.urls[0]) as used,
        RawClient(fleet.urls[0]) as left,
    ):
        await used.initialize()
        await left.initialize()
        for number in range(8):
            assert (await used.legacy("ping")).status == 200, number
            async with RawClient(fleet.urls[0]) as another:
                assert (await another.initialize()).status == 200
        assert (await used.legacy("ping")).status == 200

        async def gone() -> bool:
            return (await left.legacy("ping")).status == 404

        await eventually(gone, 10.0, "the session that nobody used has ended")
        keys = [key async for key in fleet.store.redis.scan_iter(match=fleet.store.keys.session("") + "*")]
        assert len(keys) <= 6, "and Redis does not keep it"
