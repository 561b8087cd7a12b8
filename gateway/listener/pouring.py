"""What arrives for aiohttp in one read is given to it in pieces, with turns of the loop for others between.

A read has up to 256 KiB. In chunks of one byte these are 40,000 calls inside of aiohttp's parser, which take 30 ms.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

PIECE = 16 * 1024
"""The bytes that are given in one go."""


class Pouring:
    """The bytes of one connection. ``inner`` is aiohttp's handler, ``poured`` is told the size of each piece.

    No more is held than came in one read, or in two where aiohttp has resumed reading meanwhile.
    """

    __slots__ = ("_held", "_inner", "_loop", "_poured", "_transport", "_waits")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        inner: Any,
        transport: asyncio.Transport | None,
        poured: Callable[[int], None],
    ) -> None:
        self._loop = loop
        self._inner = inner
        self._transport = transport
        self._poured = poured
        self._held = b""
        self._waits = False

    def take(self, data: bytes) -> None:
        """Give bytes, now or soon, after those that are held."""
        if not self._held and len(data) <= PIECE:
            if data:
                self._give(data)
            return
        self._held += data
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()
        if not self._waits:
            self._next()

    def _give(self, piece: bytes) -> None:
        self._inner.data_received(piece)
        self._poured(len(piece))

    def _next(self) -> None:
        self._waits = False
        piece, self._held = self._held[:PIECE], self._held[PIECE:]
        if piece:
            self._give(piece)
        if self._held:
            self._waits = True
            self._loop.call_soon(self._next)
        elif not self._inner._reading_paused:
            self._read_on()

    def end(self) -> None:
        """Give at once what is held: nothing more comes."""
        held, self._held = self._held, b""
        if held:
            self._give(held)

    def drop(self) -> None:
        """Forget what is held, and the connection, which may be read on."""
        self._held = b""
        self._read_on()
        self._transport = None

    def _read_on(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
