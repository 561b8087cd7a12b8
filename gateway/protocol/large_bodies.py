"""Reading large bodies so that others are served meanwhile.

A body is read by a few passes of a decoder, each of which keeps the event loop for as long as it takes: some 2 ms for a
MiB of many small values. So a body may have a bounded number of them (``maxBodyValues``), one large body is read at a
time, and after each step the loop belongs to others for as long as the step took.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from shared.errors import Refused
from shared.mcp import jsonrpc, values
from shared.mcp.jsonrpc import Message, Params

_A = TypeVar("_A")
_B = TypeVar("_B")
LARGE = 512 * 1024
"""Bytes of a body from which on reading it keeps others waiting."""
_LONGEST_PAUSE_S = 0.05


class LargeBodies:
    """Reads the bodies of one front end. Methods raise ``Refused`` like their namesakes in ``jsonrpc``, and where a
    body has too many values (413)."""

    def __init__(self, max_values: int) -> None:
        self._most = max_values
        self._turn = asyncio.Lock()

    async def decode(self, body: bytes) -> Message:
        """Return the message in a body."""
        if len(body) < LARGE:
            return jsonrpc.decode(body)
        return await self._read(body, jsonrpc.decode, body)

    async def decode_batch(self, body: bytes) -> list[Message]:
        """Return the messages of a batch."""
        if len(body) < LARGE:
            return jsonrpc.decode_batch(body)
        return await self._read(body, jsonrpc.decode_batch, body)

    async def decode_params(self, message: Message) -> Params:
        """Return the routing members of a message that ``decode`` returned."""
        if len(message.params) < LARGE:
            return jsonrpc.decode_params(message)
        return await self._read(b"", jsonrpc.decode_params, message)

    async def _read(self, body: bytes, decode: Callable[[_A], _B], given: _A) -> _B:
        async with self._turn:
            if values.may_have_more(body, self._most):
                for found in values.count(body):
                    if found > self._most:
                        text = f"the body has more than {self._most} members and elements (maxBodyValues)"
                        raise Refused("too_large", text)
                    await asyncio.sleep(0)
            began = time.monotonic()
            try:
                return decode(given)
            finally:
                await asyncio.sleep(min(time.monotonic() - began, _LONGEST_PAUSE_S))
