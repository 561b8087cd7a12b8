"""The path of a call through a front end and through a worker, in one process, with transports that only remember.

``FrontEndPath`` gets the bytes of an HTTP request and of the worker's frame; ``WorkerPath`` those of a frame and of the
upstream's HTTP answer. Both run the real code from the socket's bytes in to the socket's bytes out.
"""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from aiohttp import web

from gateway.admission.admit import Admission
from gateway.admission.dns_rebinding import RebindingGuard
from gateway.admission.principals import Everybody
from gateway.fleet.dispatch import Dispatcher
from gateway.fleet.pool import WorkerPool
from gateway.fleet.worker_link import WorkerLink
from gateway.http.bodies import Bodies
from gateway.listener.lane import Lane
from gateway.protocol.carrying import Carrier
from gateway.protocol.methods import Methods
from gateway.protocol.offers import Offers
from gateway.protocol.serving import Serving
from gateway.routing.catalog import Catalog
from gateway.routing.views import Views
from gateway.sessions.session import ClientSession
from gateway.telemetry.counters import Counters
from shared.mcp.versions import LATEST_LEGACY, LATEST_MODERN, Era
from shared.models import make_spec
from shared.rpc import messages as rpc
from shared.rpc.connection import Link
from shared.rpc.framing import pack_sizes
from shared.secrets import FleetKey
from shared.settings import build
from shared.tasks import Deadlines
from tests.unit.builders import record
from worker.calls.observer import Counters as WorkerCounters
from worker.calls.own_call import OwnCall
from worker.front_ends import FrontEnds
from worker.input.broker import InputBroker
from worker.ownership.upstream import Upstream
from worker.rpc_server import FrontEndPeer, RpcServer
from worker.transports.http_connection import Connection
from worker.transports.transport import UpstreamFacts

_META = b'{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}'
PARAMS = b'{"name":"echo","arguments":{"text":"%b"},"_meta":%b}' % (b"a" * 64, _META)
LEGACY_RESULT = b'{"content":[{"type":"text","text":"%b"}]}' % (b"x" * 64)
RESULT = b'{"resultType":"complete",' + LEGACY_RESULT[1:]
_BODY = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":%b}' % PARAMS
REQUEST = (
    b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:4000\r\nContent-Type: application/json\r\n"
    b"Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2026-07-28\r\n"
    b"Mcp-Method: tools/call\r\nMcp-Name: echo\r\nContent-Length: %d\r\n\r\n%b" % (len(_BODY), _BODY)
)
_LEGACY_BODY = b'{"method":"tools/call","params":{"name":"echo","arguments":{"text":"%b"}},"jsonrpc":"2.0","id":1}' % (
    b"a" * 64
)
LEGACY_REQUEST = (
    b"POST /mcp HTTP/1.1\r\nHost: 127.0.0.1:4000\r\nContent-Type: application/json\r\n"
    b"Accept: application/json, text/event-stream\r\nMCP-Protocol-Version: 2025-11-25\r\n"
    b"Mcp-Session-Id: session\r\nContent-Length: %d\r\n\r\n%b" % (len(_LEGACY_BODY), _LEGACY_BODY)
)


class Remembers(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: Any) -> None:
        self.written.append(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There is nothing to limit."""

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        raise AssertionError("the path ended its connection")

    close = abort


def frame(head: Any, body: bytes) -> bytes:
    """One frame as it comes over a link."""
    raw = rpc.encode(head)
    return pack_sizes(len(raw), len(body)) + raw + body


def receive(link: Link, data: bytes) -> None:
    """Let a link read ``data``, and write what it has to say in the same tick."""
    link.get_buffer(-1)[: len(data)] = data
    link.buffer_updated(len(data))


def flush(link: Link) -> None:
    """The end of a loop's tick."""
    link._flush()
    link.scheduled = True  # the loop's own call is not needed: ``flush`` comes


class FrontEndPath:
    """A ``tools/call`` on the express lane, of a modern client or of one with a session."""

    def __init__(self, era: Era = Era.MODERN) -> None:
        settings, key = build(), FleetKey(bytes(32))
        one = record("echoes", tools=["echo"])
        catalog = Catalog(settings.routing)
        catalog.rebuild({"echoes": one}, 0.0)
        session = ClientSession("session", LATEST_LEGACY, "", "")
        anything: Any = SimpleNamespace(
            catalog=catalog,
            records={"echoes": one},
            cached=lambda sid, principal: session,
            again=lambda session: True,
        )
        self.pool = pool = WorkerPool(anything, "frontend", key, settings)
        link = WorkerLink(one.owners[0][1], "frontend", 1.0, anything, lambda gone: None)
        self.link = Link(link, 1 << 24)
        self.link.connection_made(Remembers())
        pool.links[link.worker] = link
        dispatcher = Dispatcher(anything, pool, anything, Counters(), 10_000)
        principals = Everybody()
        admission = Admission(principals, Views(catalog), anything)
        methods = Methods(Offers("gateway", "1"), dispatcher, anything, anything, key, anything, anything)
        serving = Serving(admission, principals, methods, Carrier(dispatcher), anything, anything, anything)

        async def nobody(request: web.BaseRequest) -> web.StreamResponse:
            raise AssertionError("the call left the express lane")

        server = web.Server(nobody)  # type: ignore[arg-type]
        lane = Lane(
            server, RebindingGuard(settings), serving, Bodies(settings.clients, settings.calls.max_body_bytes), settings
        )
        self.connection, self.client = lane(), Remembers()
        self.connection.connection_made(self.client)
        self._calls = 0
        self._request = REQUEST if era is Era.MODERN else LEGACY_REQUEST

    @property
    def calls_of_the_link(self) -> list[int]:
        """The numbers of the calls that a worker has."""
        (link,) = self.pool.links.values()
        return list(link.calls)

    def call(self) -> None:
        """One call there and back."""
        self._calls += 1
        self.connection.data_received(self._request)
        flush(self.link)
        receive(self.link, frame(rpc.Answer(self._calls), RESULT))


class WorkerPath:
    """The same call on its way to an HTTP upstream, of either era."""

    def __init__(self, era: Era = Era.MODERN) -> None:
        settings, loop = build(), asyncio.get_running_loop()
        url = "http://127.0.0.1:1/mcp"
        ears: Any = SimpleNamespace()
        spec = make_spec("echoes", {"type": "http", "url": url})
        upstream = Upstream(spec, settings, "worker", ears, ears, lambda line: None, WorkerCounters())
        modern = era is Era.MODERN
        upstream.adopt(UpstreamFacts((era.word,), "http", url, not modern, LATEST_MODERN if modern else LATEST_LEGACY))
        pool = upstream._pool
        assert pool is not None
        self.upstream = Remembers()
        self._connection = Connection(pool)
        self._connection.connection_made(self.upstream)
        pool._open.add(self._connection)
        pool.put_back(self._connection)
        if not modern:  # a client without a session borrows one of those that were opened for its like
            session = upstream._leases.lend(OwnCall("tools/call", PARAMS), era)
            session.protocol_version, session.ready = LATEST_LEGACY, True
        limits = settings.calls
        inventory: Any = SimpleNamespace(submit=lambda id, call: upstream.submit(call), limits=lambda id: limits)
        key, deadlines, front_ends = FleetKey(bytes(32)), Deadlines(loop.time), FrontEnds()
        broker = InputBroker("worker", key, settings, deadlines)
        self._server = RpcServer("worker", key, settings, front_ends, broker, ears, inventory, deadlines)
        peer = FrontEndPeer(self._server, "frontend")
        self.link = Link(peer, 1 << 24, self._server.stalled)
        self.frontend = Remembers()
        self.link.connection_made(self.frontend)
        self._calls = 0
        self._result = RESULT if modern else LEGACY_RESULT

    def call(self) -> None:
        """One call there and back."""
        self._calls += 1
        self._server.alive()
        receive(self.link, frame(rpc.Call(self._calls, "echoes", "tools/call", 1, name="echo"), PARAMS))
        sent = self.upstream.written.pop()
        start = sent.index(b'"id":') + 5
        id = sent[start : sent.index(b",", start)]
        body = b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (id, self._result)
        self._connection.data_received(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: %d\r\n"
            b"Date: Sun, 22 Nov 2026 12:00:00 GMT\r\nServer: Python/3.11 aiohttp/3.14\r\n\r\n%b" % (len(body), body)
        )
        flush(self.link)
