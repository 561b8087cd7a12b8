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
