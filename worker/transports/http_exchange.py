"""One request to an upstream and the handling of its response: the interface, and the simplest of them."""

from __future__ import annotations

import asyncio
from typing import Protocol

from shared.errors import CallError


class Exchange(Protocol):
    """One request and the handling of its response. Called on the loop; exactly one of the last two methods ends it.

    A large ``request`` consists of parts, which are not copied together.
    """

    request: bytes | tuple[bytes, ...]

    def on_headers(self, status: int, headers: dict[bytes, bytes]) -> None:
        """Handle the status and those headers that matter here (in lower case; repeated ones joined by a comma)."""

    def on_body(self, data: bytes) -> None:
        """Handle a part of the body."""

    def on_complete(self) -> None:
        """Handle that the response is complete."""

    def on_failed(self, error: CallError) -> None:
        """Handle that the response will never be complete."""


class Notice:
    """A request whose answer only has to arrive. ``done`` is set when it arrives, or when it never will. ``session`` is
    the session that it names, if it names one."""

    def __init__(self, request: bytes) -> None:
        self.request: bytes | tuple[bytes, ...] = request
        self.status = 0
        self.session = b""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_headers(self, status: int, headers: dict[bytes, bytes]) -> None:
        """Note the status. An event stream is an answer, too, and it may have no end."""
        self.status, self.session = status, headers.get(b"mcp-session-id", b"")
        if headers.get(b"content-type", b"").lower().startswith(b"text/event-stream"):
            self.on_complete()

    def on_body(self, data: bytes) -> None:
        """Ignore the body."""

    def on_complete(self) -> None:
        """Set ``done``."""
        if not self.done.done():
            self.done.set_result(None)

    def on_failed(self, error: CallError) -> None:
        """Set ``done``. The next request on the session will show what is wrong."""
        self.on_complete()
