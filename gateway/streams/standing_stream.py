"""One standing stream: a bounded queue of messages, and the writer that empties the queue at its client's pace.

A client that does not read loses the oldest notifications and learns how many. It delays no other client.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection

import msgspec
from msgspec import Raw

from gateway.access.principal import Principal
from gateway.http.event_stream import EventStream
from gateway.routing.view import ViewKey
from shared.errors import Refused
from shared.mcp import jsonrpc
from shared.mcp.methods import RESOURCE_UPDATED, SUBSCRIPTION_META

_log = logging.getLogger(__name__)
_encode = msgspec.json.encode
MAX_WAITING_BYTES = 32 * 1024 * 1024
"""The bytes that may wait on one stream. The newest message is kept whatever its size."""
NOTIFICATION = b'{"jsonrpc":"2.0","method":'
"""The first bytes of every notification that the gateway sends."""


class Waiting:
    """A bounded queue of messages. When it is full, the oldest notifications are dropped and counted in ``dropped``.

    Questions and answers are never dropped, nor are notifications in ``kept``, nor the newest message, whatever its
    size.
    """

    __slots__ = ("_bytes", "_entries", "_limit", "_limit_bytes", "dropped", "kept")

    def __init__(self, limit: int, limit_bytes: int, kept: Collection[bytes] = ()) -> None:
        self.dropped = 0
        self.kept = kept
        self._limit = limit
        self._limit_bytes = limit_bytes
        self._entries: deque[tuple[bytes, str]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, message: bytes) -> bool:
        return any(message == one for one, _ in self._entries)

    def push(self, message: bytes, place: str = "") -> bool:
        """Add a message, with its place if it comes from an outbox.

        Return False if the queue holds more than its limits and nothing in it may be dropped.
        """
        self._entries.append((message, place))
        self._bytes += len(message)
        if len(self._entries) > 1 and self._full(len(self._entries)):
            self._make_room()
        return len(self._entries) < 2 or not self._full(len(self._entries))

    def _make_room(self) -> None:
        left: deque[tuple[bytes, str]] = deque()
        for number, entry in enumerate(self._entries, 1):
            one = entry[0]
            full = self._full(len(self._entries) - number + 1 + len(left)) and number < len(self._entries)
            if full and one.startswith(NOTIFICATION) and one not in self.kept:
                self._bytes -= len(one)
                self.dropped += 1
            else:
                left.append(entry)
        self._entries = left

    def _full(self, count: int) -> bool:
        return count > self._limit or self._bytes > self._limit_bytes

    def take(self) -> tuple[bytes, str]:
        """Remove the oldest message, and return it with its place, or an empty place."""
        entry = self._entries.popleft()
        self._bytes -= len(entry[0])
        return entry

    def clear(self) -> None:
        """Remove all messages."""
        self._entries.clear()
        self._bytes = 0


class StandingStream:
    """One open stream.

    ``changes`` has the ``list_changed`` notifications that the client wants, by method, as they are sent. ``view`` is
    the key of the view whose lists they are about. ``tag`` is the JSON of the listen's id that messages carry in the
    modern era, or empty. ``wants_warnings`` returns whether the client wants log messages of level warning.
    """

    __slots__ = (
        "_queue",
        "_waiter",
        "again",
        "changes",
        "closing",
        "collecting",
        "cut",
        "gone",
        "position",
        "principal",
        "resumable",
        "sid",
        "tag",
        "view",
        "wants_warnings",
        "written",
    )

    def __init__(
        self,
        sid: str,
        limit: int,
        changes: dict[str, bytes],
        tag: bytes = b"",
        view: ViewKey = ("", ""),
        wants_warnings: Callable[[], bool] = lambda: False,
    ) -> None:
        self.sid = sid
        self.view = view
        self.wants_warnings = wants_warnings
        self.tag = tag
        self.changes = changes
        self.closing = False
        self.cut = False  # the stream ends because the upstream's stream behind it failed
        self.gone = False
        self.principal: Principal | None = None  # whose stream it is
        self.position = "0-0-0"  # the place in the session's outbox up to which messages were taken
        self.written = ""  # the place up to which messages were written to the client
        self.collecting = self.again = False  # messages are being taken from the outbox; there may be more
        self.resumable = False  # the client may resume the stream
        self._queue = Waiting(limit, MAX_WAITING_BYTES, changes.values())
        self._waiter: asyncio.Future[None] | None = None

    def push(self, message: bytes, place: str = "") -> None:
        """Queue a message, with its place if it comes from the outbox.

        When the queue is full, the oldest notifications are dropped, except those that lists changed. If it is full of
        questions and answers, which must not be lost, the stream is closed.
        """
        if not self._queue.push(message, place):
            _log.warning("a client does not read what it waits for (streamBuffer); its stream is closed")
            self._queue.clear()
            self.closing = True
        self._wake()

    def missed(self, count: int) -> None:
        """Note that ``count`` notifications for this stream were dropped elsewhere."""
        self._queue.dropped += count

    def announce(self, methods: set[str]) -> None:
        """Queue the ``list_changed`` notifications that the client wants among ``methods``.

        Each is queued once, however often it is announced before the client reads.
        """
        for method, message in self.changes.items():
            if method in methods and message not in self._queue:
                self.push(message)

    def resource_updated(self, uri: str, own: str, params: bytes) -> None:
        """Queue that a resource changed: ``uri`` to the client, ``own`` at its upstream.

        It is queued once, however often the resource changes before the client reads.
        """
        parts = jsonrpc.members(params)
        if bytes(parts.get("uri", b"")) == _encode(own):
            parts["uri"] = Raw(_encode(uri))
        message = jsonrpc.notification(RESOURCE_UPDATED, _tagged(parts, self.tag))
        if message not in self._queue:
            self.push(message)

    def close(self, cut: bool = False) -> None:
        """End the stream after what is queued; with ``cut`` a listen ends without its result, as a broken stream."""
        self.closing = True
        self.cut = self.cut or cut
        self._wake()

    def nudge(self) -> None:
        """Wake the writer, which shows a sign of life if nothing is queued."""
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def write_to(self, stream: EventStream, id: Callable[[], str | None] = lambda: None) -> None:
        """Write queued messages to the client until ``close`` is called; ``id`` returns each event's id."""
        loop = asyncio.get_running_loop()
        while True:
            while self._queue:
                if self._queue.dropped:
                    dropped, self._queue.dropped = self._queue.dropped, 0
                    await stream.report_dropped(dropped, self.wants_warnings())
                message, place = self._queue.take()
                self.written = place or self.written
                await stream.send(message, id())
            if self.closing:
                return
            self._waiter = loop.create_future()
            await self._waiter
            if not self._queue and not self.closing:
                await stream.comment()


def tagged(params: Raw, tag: bytes) -> bytes:
    """Return a notification's ``params`` with the id of the listen stream on which it is shown.

    ``tag`` is the JSON of that id, or empty for any other stream. Raises ``Refused`` unless ``params`` are an object.
    """
    return _tagged(jsonrpc.members(params), tag)


def _tagged(parts: dict[str, Raw], tag: bytes) -> bytes:
    try:
        meta = jsonrpc.members(parts.pop("_meta", jsonrpc.ABSENT))
    except Refused:
        meta = {}  # the upstream breaks the protocol
    meta.pop(SUBSCRIPTION_META, None)
    if tag:
        meta[SUBSCRIPTION_META] = Raw(tag)
    return jsonrpc.assemble({"_meta": Raw(jsonrpc.assemble(meta)), **parts} if meta else parts)
