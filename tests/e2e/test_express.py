"""The express lane and aiohttp on one connection: whatever way bytes arrive, every request gets its answer, in
order."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from shared.registry.members import Members
from tests.clients import MODERN_META
from tests.fleet import Fleet, SdkServer, eventually
from tests.machine import scaled
from tests.servers.raw import RawUpstreams


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, upstreams: RawUpstreams) -> AsyncIterator[Fleet]:
    async with SdkServer("http", "sdk") as sdk, Fleet(redis_url) as fleet:
        upstreams.add("up")
        await fleet.register("up", upstreams.connection("up"))
        await fleet.register("sdk", sdk.connection, era="legacy")
        yield fleet


class Wire:
    """A connection of raw bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers in lower case, body."""
        head = (await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), scaled(10.0))).decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:]) if name}
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await self.reader.readline(), 16):
                body += await self.reader.readexactly(size)
                await self.reader.readline()
            await self.reader.readline()
        else:
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(head[0].split()[1]), headers, body

    async def result(self, id: Any) -> Any:
        """The result of the next answer, which must be that of request ``id``."""
        status, _, body = await self.answer()
        message = json.loads(body)
        assert status == 200 and message["id"] == id, body[:300]
        return message["result"]

    async def closed(self) -> bool:
        return await asyncio.wait_for(self.reader.read(), scaled(10.0)) == b""


@pytest_asyncio.fixture
async def wire(fleet: Fleet) -> AsyncIterator[Wire]:
    one = await connect(fleet)
    yield one
    one.writer.close()


async def connect(fleet: Fleet, receive_bytes: int = 0) -> Wire:
    """``receive_bytes`` bounds what the kernel takes in for this end (it may be tuned to give tens of megabytes)."""
    here = socket.socket()
    here.setblocking(False)
    if receive_bytes:
        here.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    await asyncio.get_running_loop().sock_connect(here, ("127.0.0.1", urlsplit(fleet.url).port))
    return Wire(*await asyncio.open_connection(sock=here, limit=receive_bytes or 1 << 26))


def call(id: Any, tool: str = "up__who", arguments: Any = None, meta: Any = None, **headers: str) -> bytes:
    """A modern ``tools/call`` as bytes; ``headers`` with ``_`` for ``-``, an empty one is left out."""
    params = {"name": tool, "arguments": arguments or {}, "_meta": {**MODERN_META, **(meta or {})}}
    body = json.dumps({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).encode()
    sent = {
        "Host": "localhost",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": tool,
        "Content-Length": str(len(body)),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items() if value)
    return b"POST /mcp HTTP/1.1\r\n%b\r\n%b" % (lines.encode(), body)


async def test_pipelined_calls_are_answered_in_order(wire: Wire) -> None:
    await wire.send(b"".join(call(number) for number in range(50)))
    for number in range(50):
        await wire.result(number)


async def test_bytes_may_come_in_any_pieces(wire: Wire) -> None:
    for piece in (1, 7, 100):
        data = call(piece) + call(piece + 1000)
        for start in range(0, len(data), piece):
            await wire.send(data[start : start + piece])
            if start % (piece * 16) == 0:
                await asyncio.sleep(0)
        await wire.result(piece)
        await wire.result(piece + 1000)
    head, _, body = call("apart").partition(b"\r\n\r\n")
    await wire.send(head + b"\r\n\r\n")
    await asyncio.sleep(0.05)  # long enough to be two segments; the answer must not depend on it
    await wire.send(body)
    await wire.result("apart")


async def test_every_way_alternates_on_one_connection(wire: Wire) -> None:
    await wire.send(call(1))
    await wire.result(1)
    await wire.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (await wire.answer())[0] == 200
    await wire.send(call(2))
    await wire.result(2)
    await wire.send(call(3, "sdk__progress", {"steps": 3}, meta={"progressToken": "p"}))
    status, headers, body = await wire.answer()
    assert status == 200 and headers["content-type"] == "text/event-stream" and b'"finished"' in body
    await wire.send(call(4))
    await wire.result(4)
    await wire.send(call(5, "no-such-tool"))
    assert (await wire.answer())[0] == 400
    await wire.send(call(6, Origin="http://localhost:6274"))
    await wire.result(6)
    await wire.send(call(7))
    await wire.result(7)
    head, _, body = call(8, Content_Length="", Transfer_Encoding="chunked").partition(b"\r\n\r\n")
    await wire.send(head + b"\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
    await wire.result(8)
    await wire.send(call(9))
    await wire.result(9)


@pytest.mark.parametrize("size", [1_000, 100_000, 300_000, 3_000_000])
async def test_bodies_of_any_size_go_up_and_down(wire: Wire, size: int) -> None:
    text = "x" * size
    for id in (1, 2):
        await wire.send(call(id, "sdk__echo", {"text": text}))
        result = await wire.result(id)
        assert result["content"][0]["text"] == text


async def test_close_is_honoured(fleet: Fleet) -> None:
    wire = await connect(fleet)
    await wire.send(call(1, Connection="close"))
    status, headers, _ = await wire.answer()
    assert status == 200 and headers["connection"] == "close" and await wire.closed()
    wire = await connect(fleet)
    await wire.send(call(2).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
    assert (await wire.answer())[0] == 200 and await wire.closed()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": ""}, 400),
        ({"Origin": "http://evil.example"}, 403),
        ({"Content_Length": "-5"}, 400),
        ({"Content_Length": "5, 5"}, 400),
        ({"Content_Length": "٣"}, 400),
        ({"Content_Length": "99999999999"}, 413),
        ({"Mcp_Name": "other"}, 400),
        ({"Mcp_Method": ""}, 400),
        ({"MCP_Protocol_Version": "1999-01-01"}, 400),
    ],
)
async def test_what_is_wrong_is_refused_as_ever(fleet: Fleet, headers: dict[str, str], status: int) -> None:
    wire = await connect(fleet)
    data = call(1).replace(b"Host: localhost\r\n", b"") if headers.get("Host") == "" else call(1, **headers)
    await wire.send(data)
    assert (await wire.answer())[0] == status
    wire.writer.close()


async def test_a_length_given_twice_is_no_way_to_smuggle_a_request(fleet: Fleet) -> None:
    wire = await connect(fleet)
    body = call(1).partition(b"\r\n\r\n")[2]
    await wire.send(call(1).replace(b"Content-Length: %d" % len(body), b"Content-Length: 0\r\nContent-Length: 9", 1))
    assert (await wire.answer())[0] == 400
    wire.writer.close()


async def test_a_client_that_leaves_cancels_its_call(fleet: Fleet, upstreams: RawUpstreams) -> None:
    endpoint = upstreams.endpoints["up"]
    endpoint.behaviour = "hang"
    try:
        wire = await connect(fleet)
        before = len(endpoint.calls)
        await wire.send(call("gone"))
        await eventually(lambda: len(endpoint.calls) > before, 5.0, "the call arrived")
        await eventually(lambda: in_flight(fleet, 1), 5.0, "it is under way")
        wire.writer.close()
        await eventually(lambda: in_flight(fleet, 0), 5.0, "the call is over")
    finally:
        endpoint.behaviour = "ok"
        endpoint.release.set()


async def in_flight(fleet: Fleet, count: int) -> bool:
    return sum(int(facts["load"]) for facts in (await fleet.worker_facts()).values()) == count


async def test_a_client_that_does_not_read_is_not_read_either(fleet: Fleet) -> None:
    """Answers wait for it up to a bound; then its further requests wait, in its own buffers."""
    wire, other = await connect(fleet, receive_bytes=64 * 1024), await connect(fleet)
    text = "y" * 50_000
    request = call(0, "sdk__echo", {"text": text})
    wire.writer.transport.set_write_buffer_limits(high=1 << 30)
    for _ in range(1000):  # 50 MB of requests, more than all buffers of the kernel
        wire.writer.write(request)
    stopped: list[int] = []

    def unread() -> bool:
        """The gateway takes no more: what it has not read stays the same for a while."""
        stopped.append(wire.writer.transport.get_write_buffer_size())
        return len(stopped) > 10 and stopped[-10] == stopped[-1] > 0

    await eventually(unread, 20.0, "the gateway stopped reading")
    await other.send(call("beside"))
    await other.result("beside")
    for _ in range(1000):
        assert (await wire.result(0))["content"][0]["text"] == text
    wire.writer.close()
    other.writer.close()


async def test_idle_connections_are_closed_and_streams_are_not(redis_url: str, upstreams: RawUpstreams) -> None:
    def plain(method: str, headers: str = "", body: bytes = b"") -> bytes:
        head = f"{method} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        return head.encode() + body

    async with Fleet(redis_url, keepalive_s=1.0) as fleet:
        await fleet.register("up", upstreams.connection("up"))
        silent, express, ordinary, stream = [await connect(fleet) for _ in range(4)]
        await express.send(call(1))
        await express.result(1)
        await ordinary.send(plain("GET /healthz"))
        assert (await ordinary.answer())[0] == 200
        params = {"protocolVersion": "2025-06-18", "capabilities": {}}
        message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        await stream.send(plain("POST /mcp", "Content-Type: application/json\r\n", json.dumps(message).encode()))
        sid = (await stream.answer())[1]["mcp-session-id"]
        await stream.send(plain("GET /mcp", f"Accept: text/event-stream\r\nMcp-Session-Id: {sid}\r\n"))
        await asyncio.wait_for(stream.reader.readuntil(b"\r\n\r\n"), scaled(5.0))
        for wire in (silent, express, ordinary):
            assert await wire.closed()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stream.reader.read(1), 2.5)  # longer than idle connections are kept
        stream.writer.close()


async def test_a_call_whose_tool_goes_meanwhile_is_answered_and_leaves_nothing_behind(redis_url: str) -> None:
    """Begun here, then silent: its request takes the ordinary lane with the call that it has, whoever knows the tool by
    then."""
    settings = {"keepalive_comment_s": 1.0, "drain_timeout_s": 20.0}
    async with RawUpstreams() as upstreams, Fleet(redis_url, **settings) as fleet:
        endpoint = upstreams.add("up")
        await fleet.register("up", upstreams.connection("up"))
        endpoint.behaviour = "hang"
        wire = await connect(fleet)
        await wire.send(call("left", "who"))
        await eventually(lambda: endpoint.tool_calls, 5.0, "the call arrived")
        await fleet.store.unregister("up")
        head = await asyncio.wait_for(wire.reader.readuntil(b"\r\n\r\n"), 20.0)
        assert b"text/event-stream" in head, "a sign of life came before the answer"
        endpoint.release.set()
        stream = await asyncio.wait_for(wire.reader.readuntil(b"0\r\n\r\n"), 20.0)
        (event,) = [line for line in stream.splitlines() if line.startswith(b"data: {")]
        message = json.loads(event.removeprefix(b"data: "))
        assert message["id"] == "left" and "result" in message, message

        async def forgotten() -> bool:
            alive = await Members(fleet.store, "frontend", 5.0).alive()
            return all(facts["in_flight"] == "0" for facts in alive.values())

        await eventually(forgotten, 5.0, "the front end has no call in flight")
        wire.writer.close()
