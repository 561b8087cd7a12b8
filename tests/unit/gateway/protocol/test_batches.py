"""A batch of many messages does not keep others waiting, on either transport."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.admission.request_head import RequestHead
from gateway.admission.routing_headers import RoutingHeaders
from gateway.protocol.batches import Batches
from gateway.protocol.http_sse import SseEndpoint
from gateway.protocol.large_bodies import LargeBodies
from shared.mcp import jsonrpc

REQUEST = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
NOTIFICATION = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
COUNT = 400


class Served:
    """Stands in for serving and for what takes notifications: counts what has begun."""

    def __init__(self) -> None:
        self.begun = 0
        session = SimpleNamespace(version="2025-03-26", initialized=True, wants_warnings=False)
        self.caller = SimpleNamespace(version="2025-03-26", session=session)

    async def admitted(self, *_: Any) -> Any:
        return self.caller

    async def serve_to(self, taker: Any, *_: Any) -> None:
        self.begun += 1

    async def take(self, *_: Any) -> None:
        self.begun += 1


async def most_in_a_turn(served: Served, work: Any) -> int:
    """Return how many messages began in one turn of the loop at most."""
    task = asyncio.ensure_future(work)
    most = before = 0
    while not task.done() or served.begun < COUNT:
        await asyncio.sleep(0)
        most, before = max(most, served.begun - before), served.begun
    await task
    return most


@pytest.mark.parametrize("message", [REQUEST, NOTIFICATION], ids=["requests", "notifications"])
@pytest.mark.parametrize("transport", ["http", "sse"])
async def test_few_messages_of_a_batch_begin_in_one_turn(message: dict[str, Any], transport: str) -> None:
    served: Any = Served()
    body = json.dumps([message] * COUNT).encode()
    head = RequestHead(RoutingHeaders())
    if transport == "http":
        request: Any = SimpleNamespace()
        work = Batches(served, served).post(request, head, jsonrpc.decode_batch(body))
    else:

        async def read(request: Any) -> bytes:
            return body

        streams: Any = SimpleNamespace(reaches=lambda session: True)
        bodies: Any = SimpleNamespace(read=read)
        request = SimpleNamespace(query={"session_id": "x"})
        no: Any = None
        work = SseEndpoint(served, served, no, streams, "f", bodies, LargeBodies(250_000)).post(request, head)
    assert await most_in_a_turn(served, work) <= 40


async def test_a_batch_has_few_requests_under_way_at_once() -> None:
    class Slow(Served):
        def __init__(self) -> None:
            super().__init__()
            self.now = self.most = 0

        async def serve_to(self, taker: Any, *_: Any) -> None:
            self.begun += 1
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.001)
            self.now -= 1

    served: Any = Slow()
    messages = jsonrpc.decode_batch(json.dumps([REQUEST] * COUNT).encode())
    await Batches(served, served).post(SimpleNamespace(), RequestHead(RoutingHeaders()), messages)  # type: ignore[arg-type]
    assert (served.begun, served.most) == (COUNT, 50)
