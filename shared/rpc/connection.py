"""``Link``: one connection between a front end and a worker, frames in and out.

Writes of one loop tick leave in one ``send``. A body over ``CHUNK`` bytes goes in chunks, each paid for by credit that
the receiver grants, so that a large or slow stream delays only itself. The meaning of frames is up to the ``Peer``
(``gateway.fleet.worker_link``, ``worker.rpc_server``; before them ``shared.rpc.joining``).
"""

from __future__ import annotations

import asyncio
import logging
import socket
import typing
from collections.abc import Callable
from typing import Any, Protocol, cast

from shared.mcp.rope import Body, Large
from shared.metrics.links import LinkTraffic
from shared.rpc.framing import (
    CHUNK,
    COPIED,
    GRANT,
    MAX_FRAME_HEAD,
    SOCKET_BUFFER,
    WINDOW,
    FrameError,
    FrameReader,
    pack_sizes,
)
from shared.rpc.messages import UNREADABLE, Chunk, Chunked, Grant, Head, decode, encode

_log = logging.getLogger(__name__)


SLACK = 64 * 1024
"""The bytes by which a body may be larger on a link than the limit that it had to meet before, because the gateway adds
ids and seals of its own."""


_LOST_S, _PROBES = 10, 3


def _notice_a_lost_host(connection: socket.socket) -> None:
    """Have the kernel end a connection to a host that is gone: a worker that only waits would keep it for ever. A
    process that stands still does not count as gone."""
    options = (("TCP_KEEPIDLE", _LOST_S), ("TCP_KEEPINTVL", _LOST_S), ("TCP_KEEPCNT", _PROBES))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (*options, ("TCP_USER_TIMEOUT", _LOST_S * (_PROBES + 1) * 1000)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class BodyStream:
    """A chunked body while it arrives. ``size`` is the whole size in bytes. Taking chunks grants credit for more."""

    def __init__(self, link: Link, stream: int, call: int, size: int) -> None:
        self.size = size
        self.call = call
        self._link = link
        self._stream = stream
        self._chunks: list[bytes] = []
        self._received = 0
        self._taken = 0  # chunks taken since the last grant
        self._waiter: asyncio.Future[None] | None = None
        self.broken = False

    def feed(self, chunk: bytes) -> None:
        """Add a chunk. Called by the link."""
        self._chunks.append(chunk)
        self._received += len(chunk)
        self._wake()

    @property
    def complete(self) -> bool:
        """Whether every byte has arrived."""
        return self._received >= self.size

    @property
    def finished(self) -> bool:
        """Whether every byte has been taken."""
        return self.complete and not self._chunks

    def break_off(self) -> None:
        """Note that the link has ended. Readers get ``ConnectionResetError``."""
        self.broken = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def next(self) -> list[bytes]:
        """Return the chunks that have arrived, at least one, or an empty list at the end.

        Raises ``ConnectionResetError`` if the rest will never arrive.
        """
        while not self._chunks:
            if self.broken:
                raise ConnectionResetError("the worker's link ended in the middle of a body")
            if self.complete:
                return []
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        chunks, self._chunks = self._chunks, []
        self._taken += len(chunks)
        if self._taken >= GRANT and not self.complete:
            self._link.send(Grant(self._stream, self._taken))
            self._taken = 0
        return chunks

    async def whole(self) -> bytes:
        """Return the whole body. Raises ``ConnectionResetError`` if the rest will never arrive."""
        parts: list[bytes] = []
        while chunks := await self.next():
            parts += chunks
        return b"".join(parts)


class _Outgoing:
    __slots__ = ("body", "call", "credit", "offset")

    def __init__(self, call: int, body: memoryview | Large, offset: int) -> None:
        self.call = call
        self.body = body
        self.offset = offset
        self.credit = WINDOW - 1


class _Assembly:
    __slots__ = ("call", "filled", "head", "parts")

    def __init__(self, head: Chunked) -> None:
        self.head = head
        self.call = getattr(head, "call", 0)
        self.parts: list[bytes] = []
        self.filled = 0


_CHUNKED = frozenset(typing.get_args(Chunked))


class Peer(Protocol):
    """The handler of a link's frames."""

    def on_connected(self, link: Link) -> None:
        """Handle that the connection is up."""

    def on_frame(self, link: Link, head: Head, body: bytes) -> None:
        """Handle a whole frame. A chunked body is assembled, unless ``stream_body`` took it."""

    def stream_body(self, link: Link, head: Head, stream: BodyStream) -> bool:
        """Return true to take a chunked body as a stream, false to have it assembled."""

    def on_closed(self, link: Link, error: Exception | None) -> None:
        """Handle that the connection has ended. ``error`` is also what was wrong with what the other end sent."""


class Link(asyncio.BufferedProtocol):
    """One connection. ``stale`` is called before frames are read; if it returns true, the link is dropped instead.
    ``traffic`` counts what all links of this process carry."""

    def __init__(
        self,
        peer: Peer,
        max_body_bytes: int,
        stale: Callable[[], bool] | None = None,
        traffic: LinkTraffic | None = None,
    ) -> None:
        self._traffic = traffic if traffic is not None else LinkTraffic()
        self._peer = peer
        self.max_body = max_body_bytes
        self._stale = stale
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes | memoryview] = []
        self._out_bodies = 0
        self.scheduled = False
        """Whether a write is due at the end of this tick."""
        self._last_stream = 0
        self._outgoing: dict[int, _Outgoing] = {}
        self._assembling: dict[int, _Assembly] = {}
        self._streams: dict[int, BodyStream] = {}
        self.congested = False
        self.closed = False
        self._narrow = False
        self._fault: Exception | None = None

    def narrow(self, max_head_bytes: int) -> None:
        """Take only small heads and no bodies, until the link is handed over."""
        self._narrow, self.max_body = True, 0
        self._reader.max_head, self._reader.max_body = max_head_bytes, 0

    def hand_over(self, peer: Peer, max_body_bytes: int) -> None:
        """Let ``peer`` have all that comes from now on, also what is buffered already, with bodies up to this size."""
        self._narrow, self.max_body = False, max_body_bytes
        self._reader.max_head, self._reader.max_body = MAX_FRAME_HEAD, CHUNK
        self._peer = peer
        peer.on_connected(self)

    def extra(self, name: str) -> Any:
        """Return what the transport knows of the connection: ``socket``, ``peername``."""
        return None if self._transport is None else self._transport.get_extra_info(name)

    @property
    def connected(self) -> bool:
        """Whether the connection is up, or was; over TLS, its handshake is over."""
        return self._transport is not None

    @property
    def receiving(self) -> int:
        """The number of bodies that are arriving as streams."""
        return len(self._streams)

    # ---- writing

    def send(self, head: Any, body: Body = b"") -> None:
        """Queue one frame for this tick's write. Large bodies are chunked. Sending never blocks."""
        if self.closed:
            return
        if len(body) <= CHUNK:
            raw = encode(head)
            if len(raw) > MAX_FRAME_HEAD:
                raise ValueError(f"a {type(head).__name__} head of {len(raw)} bytes; bound what goes into it")
            self._put(raw, bytes(body) if type(body) is Large else body)  # type: ignore[arg-type]
            return
        self._last_stream += 1
        head.size, head.stream = len(body), self._last_stream
        view = body if isinstance(body, Large) else memoryview(body)
        self._put(encode(head), view[:CHUNK])
        self._outgoing[head.stream] = _Outgoing(getattr(head, "call", 0), view, CHUNK)
        self._push(head.stream)

    def _put(self, head: bytes, body: bytes | memoryview) -> None:
        size, traffic = len(body), self._traffic
        sizes = pack_sizes(len(head), size)
        traffic.frames += 1
        traffic.sent_bytes += len(sizes) + len(head) + size
        if size:
            self._out += (sizes, head, body)
            self._out_bodies += size
        else:
            self._out += (sizes, head)
        if not self.scheduled:
            self.scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self.scheduled = False
        out, self._out = self._out, []
        bodies, self._out_bodies = self._out_bodies, 0
        if self._transport is not None and not self.closed:
            self._traffic.writes += 1
            if bodies > COPIED:
                self._transport.writelines(out)
            else:
                self._transport.write(b"".join(out))

    def _push(self, stream: int) -> None:
        outgoing = self._outgoing[stream]
        body = outgoing.body
        while outgoing.credit and outgoing.offset < len(body):
            part = body[outgoing.offset : outgoing.offset + CHUNK]
            self._put(encode(Chunk(stream)), part)
            outgoing.offset += len(part)
            outgoing.credit -= 1
        if outgoing.offset >= len(body):
            del self._outgoing[stream]

    def abandon(self, call: int) -> None:
        """Stop sending and receiving the bodies of ``call``."""
        for transfers in (self._outgoing, self._assembling, self._streams):
            for stream in [stream for stream, one in transfers.items() if one.call == call]:
                del transfers[stream]

    def close(self) -> None:
        """Write what is queued and end the link."""
        if self._transport is not None and not self.closed:
            self._flush()
            self._transport.close()

    def abort(self) -> None:
        """End the link at once. Bytes that are unsent or unread are dropped."""
        if self._transport is not None:
            self._transport.abort()

    # ---- asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=4 * 1024 * 1024)
        if (here := transport.get_extra_info("socket")) is not None:
            if here.family == socket.AF_UNIX:
                here.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER)
            else:
                _notice_a_lost_host(here)
        self._peer.on_connected(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        if self._stale is not None and self._stale():
            self.abort()
            return
        self._traffic.received_bytes += nbytes
        try:
            self._reader.received(nbytes, self._receive)
        except UNREADABLE as error:
            self._fault = error
            if not self._narrow:  # else its peer says so, with more words and not for every stranger
                _log.error("closing a link: %s", error)
            self.abort()
        except Exception:
            _log.exception("closing a link: its handler failed")
            self.abort()

    def _receive(self, raw_head: bytes, body: bytes) -> None:
        head = decode(raw_head)
        kind = type(head)
        if kind is Chunk:
            self._chunk(head.stream, body)
        elif kind is Grant:
            outgoing = self._outgoing.get(head.stream)
            if outgoing is not None:
                outgoing.credit += head.chunks
                self._push(head.stream)
        elif kind in _CHUNKED and head.size:
            self._begin(cast(Chunked, head), body)
        else:
            self._peer.on_frame(self, head, body)

    def _begin(self, head: Chunked, body: bytes) -> None:
        if head.size > self.max_body:
            raise FrameError(f"a body of {head.size} bytes, over the limit of {self.max_body}")
        number = head.stream
        stream = BodyStream(self, number, getattr(head, "call", 0), head.size)
        if not self._peer.stream_body(self, head, stream):
            self._assembling[number] = _Assembly(head)
        elif stream.broken:
            return  # the peer does not want the body, and has notified the sender
        else:
            self._streams[number] = stream
        self._chunk(number, body)

    def _chunk(self, number: int, body: bytes) -> None:
        stream = self._streams.get(number)
        if stream is not None:
            stream.feed(body)
            if stream.complete:
                del self._streams[number]
            return
        assembly = self._assembling.get(number)
        if assembly is None:
            return  # abandoned
        assembly.parts.append(body)
        assembly.filled += len(body)
        size = assembly.head.size
        if assembly.filled > size:
            raise FrameError("more body than announced")
        if assembly.filled == size:
            del self._assembling[number]
            self._peer.on_frame(self, assembly.head, b"".join(assembly.parts))
        else:
            self.send(Grant(number, 1))

    def pause_writing(self) -> None:
        self.congested = True

    def resume_writing(self) -> None:
        self.congested = False

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        self._outgoing.clear()
        self._assembling.clear()
        for stream in self._streams.values():
            stream.break_off()
        self._streams.clear()
        self._peer.on_closed(self, exc or self._fault)
