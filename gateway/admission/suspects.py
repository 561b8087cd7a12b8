"""Peers whose credentials were wrong lately, and whether more unknown ones of theirs are looked at. Pure.

Whoever makes tokens up can have them refused as quickly as a line carries them, and each costs a front end about as
much as a call. So a peer may be wrong so many times a second; beyond that its unknown credentials are answered with 429
before they are read. Credentials that are known already are served as ever, from the same peer too. A *peer* is what
it is for connections: an IPv4 address, or a /64 of IPv6.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from shared.errors import Refused

_log = logging.getLogger(__name__)
_BURST_S = 4.0
"""After a pause, a peer may be wrong as often as in so many seconds: many clients' tokens may end at the same time."""
_PEERS = 10
"""All peers together may be wrong as often as so many; beyond, who was wrong lately has to wait."""
_MAX_PEERS = 10_000
_BETWEEN_LOGS_S = 60.0


class _Bucket:
    __slots__ = ("at", "granted", "left")

    def __init__(self, left: float, at: float) -> None:
        self.left, self.at = left, at
        self.granted = 0

    def refill(self, per_second: float, now: float) -> float:
        """Return how many more credentials may be looked at."""
        self.left = min(per_second * _BURST_S, self.left + (now - self.at) * per_second)
        self.at = now
        return self.left


class Suspects:
    """The peers that were wrong lately. ``per_second``: how often each may be; 0 for any number.

    What a suspect sends is counted when it is looked at, as it takes a while to know that it is wrong, and counted no
    more if it is right (``right``).
    """

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = float(per_second)
        self._clock = clock
        self._of: dict[str, _Bucket] = {}
        self._all = _Bucket(per_second * _PEERS * _BURST_S, clock())
        self._unread = 0
        self._logged_at = float("-inf")

    def __contains__(self, peer: str) -> bool:
        """Whether a peer was wrong lately."""
        return peer in self._of

    @property
    def peers(self) -> int:
        """How many peers are remembered."""
        return len(self._of)

    @property
    def error(self) -> Refused:
        """What a peer is told whose credentials are not looked at."""
        text = "too many wrong credentials came from this address; try again"
        return Refused("too_many_wrong", f"{text} (maxWrongCredentialsPerPeer)")

    def wrong(self, peer: str, granted: bool = False) -> None:
        """Note that a peer's credentials were wrong; ``granted``: they were looked at by a grant of ``may``."""
        if not self._per_second:
            return
        bucket = self._of.get(peer)
        if bucket is not None:
            if granted:
                bucket.granted = max(bucket.granted - 1, 0)
            return
        now = self._clock()
        if len(self._of) >= _MAX_PEERS:
            self._make_room(now)
        self._of[peer] = _Bucket(self._per_second * _BURST_S - 1.0, now)
        self._all.refill(self._per_second * _PEERS, now)
        self._all.left -= 1.0

    def may(self, peer: str, grant: bool = False) -> bool:
        """Return whether unknown credentials of this peer are looked at, and count them if it is a suspect.

        ``grant``: they will be asked about once more (in the ordinary lane), and have a yes then.
        """
        bucket = self._of.get(peer)
        if bucket is None:
            return True
        if bucket.granted and not grant:
            bucket.granted -= 1
            return True
        now = self._clock()
        left = bucket.refill(self._per_second, now)
        if left >= self._per_second * _BURST_S:
            del self._of[peer]
            return True
        if left < 1.0 or self._all.refill(self._per_second * _PEERS, now) < 1.0:
            return False
        for one in (bucket, self._all):
            one.left -= 1.0
        bucket.granted += grant
        return True

    def right(self, peer: str) -> None:
        """Note that credentials which were looked at are good."""
        for one in (self._of.get(peer), self._all):
            if one is not None:
                one.left += 1.0

    def unread(self, peer: str) -> None:
        """Note that credentials of this peer were not looked at."""
        self._unread += 1
        now = self._clock()
        if now - self._logged_at >= _BETWEEN_LOGS_S:
            self._logged_at = now
            _log.warning(
                "%s sends wrong credentials faster than maxWrongCredentialsPerPeer (%d a second): unknown ones of "
                "this address are answered with 429 until that ends",
                peer or "a Unix socket",
                self._per_second,
            )

    def taken(self) -> int:
        """Return how many credentials were not looked at since this was asked last."""
        unread, self._unread = self._unread, 0
        return unread

    def _make_room(self, now: float) -> None:
        for peer in [peer for peer, one in self._of.items() if one.refill(self._per_second, now) >= self._per_second]:
            del self._of[peer]
        for peer in list(self._of)[: len(self._of) - _MAX_PEERS * 7 // 8]:
            del self._of[peer]
