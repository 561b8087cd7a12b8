"""The frame codec: ``u32 head size | u32 body size | head | body``, big-endian. Pure and linear.

``FrameReader`` owns one receive buffer (for ``asyncio.BufferedProtocol``). The body of a frame is copied out of the
buffer once. Bodies over ``CHUNK`` never arrive in one frame, so the buffer never has to grow.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

CHUNK = 128 * 1024
"""The largest body in one frame, in bytes. Larger bodies are chunked, so that a slow stream delays only itself."""
WINDOW = 8
"""The chunks that a sender may have under way before the receiver grants more."""
GRANT = 4
"""The chunks after which the receiver grants as many: half the window, so that the sender need not wait."""
SOCKET_BUFFER = CHUNK * WINDOW
"""The send buffer of a Unix socket, in bytes, as far as the system allows. A whole window is written in one go."""
COPIED = 16 * 1024
"""The largest body, in bytes, that is copied into one buffer together with its frame. For larger ones a vector of
buffers costs less."""
MAX_FRAME_HEAD = 64 * 1024
MAX_NAME_BYTES = 16 * 1024
"""The longest name or URI in a head, in bytes."""
BUFFER = 512 * 1024
_SIZES = struct.Struct(">II")
_PREFIX = _SIZES.size

pack_sizes = _SIZES.pack
_unpack = _SIZES.unpack_from


def too_long(name: str) -> bool:
    """Whether a name or URI is longer than ``MAX_NAME_BYTES``."""
    return (len(name) if name.isascii() else len(name.encode("utf-8", "replace"))) > MAX_NAME_BYTES


class FrameError(Exception):
    """The peer sent bytes that are not frames of this protocol. The link must end."""


class FrameReader:
    """An incremental reader over one reused buffer. Receive into ``buffer()``, then call ``received(n)``."""

    def __init__(self) -> None:
        self._data = bytearray(BUFFER)
        self._view = memoryview(self._data)
        self._start = 0
        self._end = 0
        self.max_head = MAX_FRAME_HEAD
        self.max_body = CHUNK
        """What a frame may have, in bytes. Both may be lowered."""

    def buffer(self) -> memoryview:
        """Return the free part of the buffer, which is never empty."""
        if self._end == BUFFER or (self._start and BUFFER - self._end < CHUNK):
            rest = self._end - self._start
            self._data[:rest] = self._data[self._start : self._end]
            self._start, self._end = 0, rest
        return self._view[self._end :]

    def received(self, count: int, take: Callable[[bytes, bytes], None]) -> None:
        """Give ``take`` the head and the body of each frame that is complete now. Raises ``FrameError`` for impossible
        sizes."""
        self._end += count
        while self._end - self._start >= _PREFIX:
            head_size, body_size = _unpack(self._data, self._start)
            if not 0 < head_size <= self.max_head or body_size > self.max_body:
                raise FrameError(f"a frame of {head_size}+{body_size} bytes; the peer is not one of our processes")
            head_at = self._start + _PREFIX
            body_at = head_at + head_size
            stop = body_at + body_size
            if stop > self._end:
                return
            self._start = stop
            take(bytes(self._view[head_at:body_at]), bytes(self._view[body_at:stop]) if body_size else b"")
        if self._start == self._end:
            self._start = self._end = 0
