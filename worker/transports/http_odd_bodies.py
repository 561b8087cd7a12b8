"""Messages in responses whose labels are wrong, or that have more in them than one message. Pure.

Servers send an event stream without saying so, several messages on lines of their own, and warnings of their language
before a message or comments of a cache behind it (PHP). All of this is looked at only when a response is no message.
"""

from __future__ import annotations

from collections.abc import Callable

from shared.mcp import sse
from shared.mcp.rope import Whole
from worker.transports.lines import LineReader
from worker.transports.odd_output import OddOutput

_EVENTS_BEGIN = (b"e", b"d", b":", b"i", b"r")
"""The bytes with which an event stream begins: ``event:``, ``data:``, a comment, ``id:``, ``retry:``."""
_MOST_LINES = 2000
"""The lines of a body that is looked through in one go."""
_MARK = b'"jsonrpc"'


def take_messages(body: Whole, limit_bytes: int, receive: Callable[[Whole], bool]) -> None:
    """Give ``receive`` each message in ``body``. It returns false for what is none."""
    text = bytes(body)
    if _MARK not in text or text.count(b"\n") > _MOST_LINES:
        return
    if text[:1] in _EVENTS_BEGIN:
        reader = sse.Reader(limit_bytes)
        try:
            found = [event.data for event in reader.feed(text)]
        except ValueError:
            return
        for data in (*found, reader.end()):
            if data:
                receive(data)
        return
    lines = LineReader(limit_bytes)
    OddOutput(lines, limit_bytes, receive, lambda _: False, lambda _: None).feed(text + b"\n")
