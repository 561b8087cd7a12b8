"""A request that has begun to arrive on a connection and is not whole: how much of it is held, how slowly it comes.

Pure: ``connection`` says what came and asks now and then. Small requests come whole and never meet this module.
"""

from __future__ import annotations

from gateway.http.bodies import Arrival, Bodies
from shared.errors import Refused
from shared.settings import ClientSettings


class Unfinished:
    """One request. ``end`` is called whatever comes of it."""

    __slots__ = ("_arrival", "_began", "_head_bytes", "_limits")

    def __init__(self, limits: ClientSettings, bodies: Bodies, peer: str, now: float) -> None:
        self._limits = limits
        self._began = now
        self._head_bytes = 0
        self._arrival = Arrival(bodies, peer, now)

    def head(self, size: int) -> None:
        """Count ``size`` more bytes of a head. Raises ``Refused`` (431) if the head gets too large."""
        self.note_head(self._head_bytes + size)

    def note_head(self, size: int) -> None:
        """Note that a head has ``size`` bytes so far. Raises ``Refused`` (431) if that is too much."""
        self._head_bytes = size
        most = self._limits.max_head_bytes
        if self._head_bytes > most:
            raise Refused("head_too_large", f"the head is larger than {most} bytes (maxHeadBytes)")

    def body(self, held: int, now: float) -> None:
        """Note that ``held`` bytes of the request are held now. Raises ``Refused`` (429, 503) if that is too much."""
        if self._head_bytes:  # the head came in several reads, the body has its own time
            self._head_bytes = 0
            self._arrival.restart(now)
        self._arrival.add(held - self._arrival.held)

    def check(self, now: float) -> None:
        """Raise ``Refused`` (408) if the request comes too slowly."""
        if not self._head_bytes:
            self._arrival.check(now)
        elif now - self._began > self._limits.head_timeout_s:
            text = f"the head did not come in {self._limits.head_timeout_s:g} s (headTimeout)"
            raise Refused("too_slow", text)

    def end(self) -> None:
        """Count the bytes of this request no more."""
        self._arrival.end()
