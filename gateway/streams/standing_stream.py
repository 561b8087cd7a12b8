"""One standing stream: a bounded queue of messages, and the writer that empties it at the pace of its client.

A client that does not read loses the oldest notifications, and is told how many; never other clients' time.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection

import msgspec
from msgspec import Raw

from gateway.http.event_stream import EventStream
from gateway.routing.view import ViewKey
from shared.errors import Refused
from shared.mcp import jsonrpc
from shared.mcp.methods import RESOURCE_UPDATED, SUBSCRIPTION_META

_log = logging.getLogger(__name__)
_encode = msgspec.json.encode
MAX_WAITING_BYTES = 32 * 1024 * 1024
"""Of what waits on one stream; the newest message is kept whatever its size."""
NOTIFICATION = b'{"jsonrpc":"2.0","method":'
"""How our notifications begin."""


class Waiting:
    """Messages that wait for somebody: bounded, the oldest notifications make room, and are counted in ``dropped``.

    What is in ``kept`` is not dropped either; nor is the newest message, whatever its size.
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
        """Add a message (from this place in an outbox). False: more waits than may, and none of it can be dropped."""
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
        """The oldest message, and its place."""
        entry = self._entries.popleft()
        self._bytes -= len(entry[0])
        return entry

    def clear(self) -> None:
        """Forget what waits."""
        self._entries.clear()
        self._bytes = 0


class StandingStream:
    """One open stream.

    ``changes`` are the ``list_changed`` notifications that its client wants, and in which words; ``view`` is the view
    whose lists they are about; ``tag`` the JSON of the id that its messages carry (modern); ``hears_warnings`` tells
    whether the client asked for log messages.
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
        "hears_warnings",
        "position",
        "resumable",
        "sid",
        "tag",
        "view",
        "written",
    )

    def __init__(
        self,
        sid: str,
        limit: int,
        changes: dict[str, bytes],
        tag: bytes = b"",
        view: ViewKey = ("", ""),
        hears_warnings: Callable[[], bool] = lambda: False,
    ) -> None:
        self.sid = sid
        self.view = view
        self.hears_warnings = hears_warnings
        self.tag = tag
        self.changes = changes
        self.closing = False
        self.cut = False  # it ends because something behind it broke
        self.gone = False
        self.position = "0-0-0"  # in the session's outbox: what was taken from there
        self.written = ""  # … and what was written to the client
        self.collecting = self.again = False  # something is being taken from there; it may not be all
        self.resumable = False  # its client may come back for what it missed
        self._queue = Waiting(limit, MAX_WAITING_BYTES, changes.values())
        self._waiter: asyncio.Future[None] | None = None

    def push(self, message: bytes, place: str = "") -> None:
        """Queue a message (from this place in the outbox). The oldest notifications make room, but for those that lists
        changed; a client that reads neither answers nor questions, which nobody can do without, loses the stream."""
        if not self._queue.push(message, place):
            _log.warning("a client does not read what it waits for (streamBuffer); its stream is closed")
            self._queue.clear()
            self.closing = True
        self._wake()

    def missed(self, count: int) -> None:
        """So many notifications were dropped before they came here."""
        self._queue.dropped += count

    def announce(self, methods: set[str]) -> None:
        """Queue each ``list_changed`` once, however often it is announced before the client reads."""
        for method, message in self.changes.items():
            if method in methods and message not in self._queue:
                self.push(message)

    def resource_updated(self, uri: str, own: str, params: bytes) -> None:
        """A resource that the client listens for changed; said once, however often before the client reads."""
        parts = jsonrpc.members(params)
        if bytes(parts.get("uri", b"")) == _encode(own):
            parts["uri"] = Raw(_encode(uri))
        message = jsonrpc.notification(RESOURCE_UPDATED, _tagged(parts, self.tag))
        if message not in self._queue:
            self.push(message)

    def close(self, cut: bool = False) -> None:
        """End the stream after what is queued; ``cut``: without the result that says that all is well."""
        self.closing = True
        self.cut = self.cut or cut
        self._wake()

    def nudge(self) -> None:
        """Let the writer show a sign of life."""
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def write_to(self, stream: EventStream, id: Callable[[], str | None] = lambda: None) -> None:
        """Write until the stream is closed from our side; ``id`` gives each event's."""
        loop = asyncio.get_running_loop()
        while True:
            while self._queue:
                if self._queue.dropped:
                    dropped, self._queue.dropped = self._queue.dropped, 0
                    await stream.tell_dropped(dropped, self.hears_warnings())
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
    """A notification's ``params`` with the id of the listen stream that they are shown on (JSON; empty: of none).
    Raises ``Refused`` unless they are an object."""
    return _tagged(jsonrpc.members(params), tag)


def _tagged(parts: dict[str, Raw], tag: bytes) -> bytes:
    try:
        meta = jsonrpc.members(parts.pop("_meta", jsonrpc.ABSENT))
    except Refused:
        meta = {}  # an upstream's nonsense
    meta.pop(SUBSCRIPTION_META, None)
    if tag:
        meta[SUBSCRIPTION_META] = Raw(tag)
    return jsonrpc.assemble({"_meta": Raw(jsonrpc.assemble(meta)), **parts} if meta else parts)
