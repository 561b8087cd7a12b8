"""``gateway.listener.connection``: no call outlives its client, whenever the client leaves."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import pytest

from gateway.admission.dns_rebinding import RebindingGuard
from gateway.http.bodies import Bodies
from gateway.listener.connection import ClientConnection
from gateway.listener.heads import Heads
from gateway.listener.room import Room
from gateway.listener.wary import Wariness
from gateway.protocol.serving import BegunRequest
from shared.rpc import messages as rpc
from shared.rpc.connection import BodyStream, Link
from shared.settings import build
from tests.unit.builders import record, tool
from tests.unit.gateway.protocol.bench import Bench
from tests.unit.gateway.protocol.test_serving import Served

CALL = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "echo"}}


class Client(asyncio.Transport):
    """The transport of a client: remembers what was written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closing = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Take no notice."""

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def writelines(self, list_of_data: Any) -> None:
        self.written += b"".join(map(bytes, list_of_data))

    def is_closing(self) -> bool:
        return self.closing

    def can_write_eof(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True


class ExpressOnly:
    """``connection.SharedLane`` without an ordinary lane."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.serving = Served(bench).serving
        self.heads = Heads(RebindingGuard(build()), 1024 * 1024)
        self.loop = asyncio.get_running_loop()
        self.limits = build().clients
        self.bodies = Bodies(self.limits, 1024 * 1024)
        self.room = Room(self.limits)
        self.begun: dict[Any, BegunRequest] = {}
        self.wariness: Wariness | None = None

    def ordinary(self) -> Any:
        raise AssertionError("the request left the express lane")

    def connect(self) -> tuple[ClientConnection, Client]:
        """Return a new connection, and the client at its other end."""
        connection, client = ClientConnection(self), Client()
        connection.connection_made(client)
        return connection, client

    @property
    def cancelled(self) -> list[int]:
        """The numbers of the calls that the workers were asked to drop."""
        workers = self.bench.front.workers.values()
        return [head.call for worker in workers for head, _ in worker.fake.frames if isinstance(head, rpc.Cancel)]


def _post(message: dict[str, Any]) -> bytes:
    body = json.dumps(message).encode()
    head = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return b"%bContent-Length: %d\r\n\r\n%b" % (head, len(body), body)


def _begin_large_answer(lane: ExpressOnly) -> BodyStream:
    (worker,) = lane.bench.front.workers.values()
    link = cast(Link, worker.fake)
    stream = BodyStream(link, 1, 1, 1_000_000)
    worker.link.stream_body(link, rpc.Answer(1, size=1_000_000, stream=1), stream)
    return stream


@pytest.mark.parametrize("ticks", [0, 1, 5])
async def test_a_large_answer_to_a_client_that_leaves_is_refused_and_the_call_is_over(ticks: int) -> None:
    lane = ExpressOnly(Bench())
    connection, _ = lane.connect()
    connection.data_received(_post(CALL))
    assert len(lane.bench.front.dispatcher.under_way) == 1
    _begin_large_answer(lane)
    for _ in range(ticks):
        await asyncio.sleep(0)
    connection.connection_lost(None)
    await asyncio.sleep(0)
    assert not lane.bench.front.dispatcher.under_way
    assert lane.cancelled == [1]


async def test_an_answer_to_a_client_that_is_leaving_ends_the_call() -> None:
    lane = ExpressOnly(Bench())
    connection, client = lane.connect()
    connection.data_received(_post(CALL))
    client.closing = True
    (worker,) = lane.bench.front.workers.values()
    worker.link.on_frame(cast(Link, worker.fake), rpc.Answer(1), b"{}")
    assert not lane.bench.front.dispatcher.under_way and not client.written


async def test_a_refusal_for_want_of_room_is_answered_on_the_express_lane() -> None:
    """``ExpressOnly`` fails if the ordinary lane is asked for."""
    lane = ExpressOnly(Bench())
    connection, client = lane.connect()
    connection.data_received(_post(CALL))
    (worker,) = lane.bench.front.workers.values()
    refusal = rpc.Failed(1, "overloaded", "2 calls wait", False, {"upstream": "a", "retryAfter": "4"})
    worker.link.on_frame(cast(Link, worker.fake), refusal, b"")
    answer = client.written
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"\r\nRetry-After: 4" in head and json.loads(body)["error"]["data"]["code"] == "overloaded"
    assert not lane.bench.front.dispatcher.under_way
    connection.data_received(_post(CALL))
    assert len(worker.fake.calls) == 2, "the connection serves on"


async def test_signs_of_life_may_end_calls() -> None:
    lane = ExpressOnly(Bench())
    for _ in range(3):
        connection, client = lane.connect()
        connection.data_received(_post(CALL))
        client.closing = True
    dispatcher = lane.bench.front.dispatcher
    assert len(dispatcher.under_way) == 3
    dispatcher.show_life(-1.0)  # every call was silent for longer than that
    assert not dispatcher.under_way


async def test_arguments_with_too_many_annotated_names_are_refused_and_nothing_is_counted_as_under_way() -> None:
    names = {f"p{n}": {"type": "string", "x-mcp-header": f"{'h' * 80}{n}"} for n in range(900)}
    wide = tool("wide", inputSchema={"type": "object", "properties": names})
    lane = ExpressOnly(Bench(record("a", tools=[wide])))
    connection, client = lane.connect()
    connection.data_received(_post({**CALL, "params": {"name": "wide", "arguments": dict.fromkeys(names, "v")}}))
    assert b'"code":-32602' in client.written and b"too long" in client.written
    replica = lane.bench.front.registry.catalog.replica("a")
    assert replica is not None and replica.in_flight == 0
    assert not lane.bench.front.dispatcher.under_way


# ---- requests that are not whole


def _partial(sent: int, size: int = 100_000) -> bytes:
    return (
        b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % size
        + b"{"
        + b" " * (sent - 1)
    )


async def test_what_is_held_of_an_unfinished_body_is_counted_until_it_is_whole() -> None:
    lane = ExpressOnly(Bench())
    connection, client = lane.connect()
    message = json.dumps({**CALL, "method": "ping"}).encode()
    connection.data_received(_partial(90_000))
    assert 90_000 < lane.bodies.held < 91_000
    connection.data_received(b" " * (10_000 - len(message)))
    assert lane.bodies.held > 99_000
    connection.data_received(message[1:] + b" ")
    assert client.written and lane.bodies.held == 0


async def test_a_client_that_leaves_in_the_middle_of_a_body_holds_nothing() -> None:
    lane = ExpressOnly(Bench())
    connection, _ = lane.connect()
    connection.data_received(_partial(90_000))
    connection.connection_lost(None)
    assert lane.bodies.held == 0 and len(lane.room) == 0


async def test_what_comes_behind_a_call_is_counted_and_has_its_time_from_when_its_turn_comes() -> None:
    lane = ExpressOnly(Bench())
    connection, client = lane.connect()
    connection.data_received(_post(CALL) + _partial(90_000))
    assert lane.bodies.held > 90_000
    connection.check(lane.loop.time() + 1000.0)
    assert not client.written  # the client waits for us
    (worker,) = lane.bench.front.workers.values()
    worker.link.on_frame(cast(Link, worker.fake), rpc.Answer(1), b"{}")
    assert client.written.startswith(b"HTTP/1.1 200 ") and lane.bodies.held > 90_000
    connection.check(lane.loop.time() + 1000.0)
    assert b"HTTP/1.1 408 " not in client.written  # enough came in the first window
    connection.check(lane.loop.time() + 2000.0)
    assert b"HTTP/1.1 408 " in client.written and lane.bodies.held == 0


@pytest.mark.parametrize("begun", [b"P", b"POST /mcp HTTP/1.1\r\nHost: localhost\r\n", _partial(10)])
async def test_a_request_that_does_not_go_on_is_answered_and_the_connection_ends_a_little_later(begun: bytes) -> None:
    lane = ExpressOnly(Bench())
    connection, client = lane.connect()
    now = lane.loop.time()
    connection.data_received(begun)
    connection.check(now + 5.0)
    assert not client.written
    connection.check(now + 1000.0)
    assert client.written.startswith(b"HTTP/1.1 408 ") and b"Connection: close\r\n" in client.written
    connection.data_received(b"more of it")
    assert not client.closing
    connection.check(now + 1000.0)
    assert client.closing


async def test_an_idle_connection_has_no_deadline_for_its_next_head() -> None:
    lane = ExpressOnly(Bench())
    connection, client = lane.connect()
    connection.data_received(_post({**CALL, "method": "ping"})[:-5])
    connection.data_received(_post({**CALL, "method": "ping"})[-5:])
    written = client.written
    assert written
    connection.check(lane.loop.time() + 1000.0)
    assert client.written == written and not client.closing
