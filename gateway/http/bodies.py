"""Request bodies while they arrive: how many bytes of them a front end holds, and how slowly they may come.

Only a body that is not whole in the first read is an ``Arrival``; small calls never meet this module. Both lanes count
here: the express lane (``listener.connection``) what it keeps itself, ``BodyReader`` what aiohttp reads.
"""

from __future__ import annotations

import asyncio

from aiohttp import StreamReader, web
from aiohttp.web_protocol import RequestPayloadError

from shared.errors import Refused
from shared.settings import ClientSettings

_CODINGS = ("", "identity", "gzip", "deflate", "br", "zstd")
"""What aiohttp decodes, bounded by ``maxBodyBytes`` as it comes (zstd only where Python has it)."""


class Bodies:
    """The bytes of unfinished bodies that this process holds, in all and for each peer address.

    A single body that ``maxBodyBytes`` allows fits in any case, so both bounds are at least that.
    """

    def __init__(self, settings: ClientSettings, max_body_bytes: int) -> None:
        self.window_s = settings.body_grace_s
        self.window_bytes = settings.min_body_rate * settings.body_grace_s
        self._most = max(settings.max_bodies_bytes, max_body_bytes + 1)
        self._most_of_peer = max(settings.max_bodies_bytes_per_peer, max_body_bytes + 1)
        self.held = 0
        self._held_of: dict[str, int] = {}

    @property
    def peers(self) -> int:
        """How many peers have a body under way."""
        return len(self._held_of)

    def hold(self, peer: str, size: int) -> None:
        """Count ``size`` more bytes. Raises ``Refused`` (429 or 503), and counts nothing, where that is too much."""
        of_peer = self._held_of.get(peer, 0) + size
        if of_peer > self._most_of_peer:
            text = f"unfinished bodies from this address would take more than {self._most_of_peer} bytes"
            raise Refused("too_much_of_peer", f"{text} (maxBodiesBytesPerPeer)")
        if self.held + size > self._most:
            text = f"unfinished bodies would take more than {self._most} bytes (maxBodiesBytes)"
            raise Refused("too_much", text)
        self.held += size
        self._held_of[peer] = of_peer

    def release(self, peer: str, size: int) -> None:
        """Count ``size`` bytes less."""
        self.held -= size
        left = self._held_of.get(peer, 0) - size
        if left > 0:
            self._held_of[peer] = left
        else:
            self._held_of.pop(peer, None)


class Arrival:
    """One body that arrives in several reads. ``end`` is called whatever comes of it."""

    __slots__ = ("_bodies", "_in_window", "_peer", "_window_ends", "held")

    def __init__(self, bodies: Bodies, peer: str, now: float) -> None:
        self._bodies = bodies
        self._peer = peer
        self.held = 0
        self.restart(now)

    def add(self, size: int) -> None:
        """Count ``size`` bytes that came. Raises ``Refused`` where too many are held already."""
        self._bodies.hold(self._peer, size)
        self.held += size
        self._in_window += size

    def restart(self, now: float) -> None:
        """Begin a new window."""
        self._window_ends = now + self._bodies.window_s
        self._in_window = 0

    def check(self, now: float) -> float:
        """Return when to look again. Raises ``Refused`` (408) if too little came since the last window began."""
        if now >= self._window_ends:
            bodies = self._bodies
            if self._in_window < bodies.window_bytes:
                text = f"{self._in_window} bytes of the body came in {bodies.window_s:g} s"
                raise Refused("too_slow", f"{text}; {bodies.window_bytes:g} must (minBodyRate, bodyGrace)")
            self.restart(now)
        return self._window_ends

    def end(self) -> None:
        """Count the bytes of this body no more."""
        held, self.held = self.held, 0
        self._bodies.release(self._peer, held)


_MOST_PARTS = 1000
"""Parts of a body that are kept apart: a part of one byte takes forty."""


class BodyReader:
    """Reads the bodies of aiohttp's requests."""

    def __init__(self, bodies: Bodies, max_body_bytes: int) -> None:
        self._bodies = bodies
        self._limit = max_body_bytes

    async def read(self, request: web.BaseRequest) -> bytes:
        """Return the whole body, decoded. Raises ``Refused``: 413 if it is larger than ``maxBodyBytes``, 408 if it
        comes too slowly, 429 or 503 if too many unfinished ones are held, 415 for a coding that is not known, 400 for
        a body that is not coded as it says."""
        coding = request.headers.get("Content-Encoding", "").strip().lower()
        if coding not in _CODINGS:
            text = f"Content-Encoding {coding[:64]!r} is not understood: send gzip, deflate, br or no coding"
            raise Refused("content_type", text)
        try:
            return await self._whole(request)
        except RequestPayloadError as error:
            raise Refused("parse_error", f"the body cannot be decoded: Content-Encoding says {coding!r}") from error

    async def _whole(self, request: web.BaseRequest) -> bytes:
        length = request.content_length
        if length is not None and length > self._limit:
            raise self._too_large()
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if request.content.is_eof():
            try:
                return await request.read()
            except web.HTTPRequestEntityTooLarge as error:
                raise self._too_large() from error
        loop = asyncio.get_running_loop()
        arrival = Arrival(self._bodies, peer_of(request.transport), loop.time())
        try:
            return await self._read(request, arrival, loop)
        finally:
            arrival.end()

    async def _read(self, request: web.BaseRequest, arrival: Arrival, loop: asyncio.AbstractEventLoop) -> bytes:
        parts: list[bytes] = []  # joined once: a large body takes ten milliseconds to be copied
        content = request.content
        coded = "Content-Encoding" in request.headers
        if not coded:
            content.set_read_chunk_size(self._limit)
        while True:
            try:
                async with asyncio.timeout_at(arrival.check(loop.time())):
                    chunk = await (_decoded(content) if coded else content.readany())
            except TimeoutError:
                continue  # ``check`` says whether enough came
            if not chunk:
                return parts[0] if len(parts) == 1 else b"".join(parts)
            if arrival.held + len(chunk) > self._limit:
                raise self._too_large()
            arrival.add(len(chunk))
            parts.append(chunk)
            if len(parts) > _MOST_PARTS:
                parts = [b"".join(parts)]

    def _too_large(self) -> Refused:
        return Refused("too_large", f"the body is larger than {self._limit} bytes (maxBodyBytes)")


async def _decoded(content: StreamReader) -> bytes:
    """Return the next piece of a body that is decoded as it is read: what is there would be decoded all at once, and a
    kilobyte may be a megabyte then. Empty at the end."""
    await asyncio.sleep(0)
    while True:
        piece, is_end_of_chunk = await content.readchunk()
        if piece or not is_end_of_chunk:
            return piece


def peer_of(transport: asyncio.BaseTransport | None) -> str:
    """Return whom a connection is counted to: an IPv4 address, or the first 64 bits of an IPv6 one, because whoever has
    one address of these has them all. Empty for a Unix socket."""
    name = transport.get_extra_info("peername") if transport is not None else None
    if not isinstance(name, tuple):
        return ""
    address = str(name[0]).removeprefix("::ffff:")
    return address if ":" not in address else _network(address.partition("%")[0])


def _network(address: str) -> str:
    """Return the first four groups of an IPv6 address as it is written."""
    before, gap, after = address.partition("::")
    groups = before.split(":") if before else []
    if gap:
        rest = after.split(":") if after else []
        groups += ["0"] * (8 - len(groups) - len(rest)) + rest
    return ":".join(groups[:4]) + "::/64"
