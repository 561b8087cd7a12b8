"""Server-sent events: an incremental reader for untrusted bytes, and a writer.

WHATWG HTML section 9.2. Lines end with CR, LF or CRLF. The reader is bounded: an event larger than its limit raises
``ValueError``, and what is kept of an event takes about as much memory as it has bytes, however many lines it has.
"""

from __future__ import annotations

from msgspec import Struct

from shared.mcp.rope import Rope, Whole

_DATA = b"data: "
_MAX_WORD = 8 * 1024
"""The longest id or name of an event in bytes. An id goes back in a header, and no server takes a longer one."""


class Event(Struct, gc=False):
    """One dispatched event. ``id`` and ``retry_ms`` are ``None`` if the event did not set them."""

    name: str
    data: Whole
    id: str | None = None
    retry_ms: int | None = None


class Reader:
    """Takes bytes as they arrive and returns events as they complete. The cost is linear in the number of bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._open = Rope()  # a line that has begun
        self._is_data = False  # the open line is a "data" field; ``_open`` holds its value only
        self._skip_lf = False
        self._name = b""
        self._data: Whole | None = None  # the only value so far
        self._joined: Rope | None = None  # all values, if there are several: one object a line would be many times them
        self._size = 0
        self._id: str | None = None
        self._retry: int | None = None
        self._first = True
        self.fed = False  # whether any bytes have come

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that ``chunk`` completes. Raises ``ValueError`` if an event exceeds the limit."""
        if not chunk:
            return []
        self.fed = True
        if self._skip_lf and chunk.startswith(b"\n"):
            chunk = chunk[1:]
        self._skip_lf = False
        if not chunk:
            return []
        self._skip_lf = chunk.endswith(b"\r")
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *lines, rest = chunk.split(b"\n")
        events: list[Event] = []
        for line in lines:
            event = self._end_line(line) if self._open.size or self._is_data else self._line(line)
            if event is not None:
                events.append(event)
        if rest:
            self._keep(rest)
        return events

    def end(self) -> Whole | None:
        """Return the data of an event that has begun when the stream ends, ``None`` if there is none. A reader should
        drop it (WHATWG HTML section 9.2.6), but some servers write no empty line behind the last event."""
        if self._open.size or self._is_data:
            self._end_line(b"")
        event = self._dispatch()
        return event.data or None if event is not None else None

    def _keep(self, part: bytes) -> None:
        """Add a part of a line whose end is still to come."""
        if not self._open.size and not self._is_data and part.startswith(_DATA):
            self._is_data, self._first, part = True, False, part[len(_DATA) :]
        self._open.add(part)
        if self._open.size + self._size > self._limit:
            raise ValueError(f"an event larger than {self._limit} bytes")

    def _end_line(self, part: bytes) -> Event | None:
        """Add the last part of a line that has begun, and handle the line."""
        self._open.add(part)
        line = self._open.take()
        if not self._is_data:
            return self._line(bytes(line))
        self._is_data = False
        self._value(line)
        return None

    def _value(self, value: Whole) -> None:
        self._size += len(value) + 1
        if self._size > self._limit:
            raise ValueError(f"an event larger than {self._limit} bytes")
        if self._data is None and self._joined is None:
            self._data = value
            return
        if self._joined is None:
            self._joined = Rope()
            self._joined.add(bytes(self._data or b""))
            self._data = None
        self._joined.add(b"\n")
        self._joined.add(bytes(value))

    def _line(self, line: bytes) -> Event | None:
        if self._first:
            line = line.removeprefix(b"\xef\xbb\xbf")
            self._first = False
        if not line:
            return self._dispatch()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._value(value)
        elif field == b"event":
            self._name = value
            if len(value) > _MAX_WORD:
                raise ValueError(f"the name of an event is longer than {_MAX_WORD} bytes")
        elif field == b"id" and b"\0" not in value:
            if len(value) > _MAX_WORD:
                raise ValueError(f"the id of an event is longer than {_MAX_WORD} bytes")
            self._id = value.decode("utf-8", "replace")
        elif field == b"retry" and value.isdigit() and len(value) < 10:
            self._retry = int(value)
        return None

    def _dispatch(self) -> Event | None:
        if self._data is None and self._joined is None and self._id is None and self._retry is None:
            self._name = b""
            return None
        data: Whole = (self._data or b"") if self._joined is None else self._joined.take()
        event = Event(self._name.decode("utf-8", "replace") or "message", data, self._id, self._retry)
        self._name, self._data, self._joined, self._size, self._id, self._retry = b"", None, None, 0, None, None
        return event


def write(message: bytes, id: str | None = None, name: str = "message") -> bytes:
    """Return the bytes of one event. ``message`` is one JSON document; line breaks between its members become
    spaces."""
    if b"\n" in message or b"\r" in message:
        message = message.replace(b"\r", b" ").replace(b"\n", b" ")
    if id is None:
        return b"event: %b\r\ndata: %b\r\n\r\n" % (name.encode(), message)
    return b"id: %b\r\nevent: %b\r\ndata: %b\r\n\r\n" % (id.encode(), name.encode(), message)


COMMENT = b":\r\n\r\n"
"""A comment, which keeps a silent stream alive and is ignored by every reader."""
