"""How many client connections a front end has room for, in all and for each peer address, and which go when it is full.

A process that runs out of file descriptors can accept nobody and reach no worker. So it keeps descriptors back for
itself, and where all others are taken a newcomer gets the place of whoever was idle for longest. Pure but for the limit
of the process that it reads once.
"""

from __future__ import annotations

import heapq
import logging
import resource
from collections.abc import Iterator
from typing import Protocol

from shared.errors import Refused
from shared.settings import ClientSettings

_log = logging.getLogger(__name__)
_RESERVE = 64
"""Descriptors kept back at least: the listener, logs, libuv's own, connections to Redis, links to workers, refusals."""
_MOST_RESERVE = 1024
_UNLIMITED = 100_000
_MOST_REFUSED = 32
"""So many connections for which there is no room may stay for a moment, on descriptors that are kept back."""
_AT_ONCE = 32
"""One in so many connections is ended when room is made, so that not every newcomer has to look through all of them."""
_BRIEF_S = 1.0
"""The request of a connection that is idle for so short a time may be on its way, and would be lost with it. At the
bound of an address that costs nobody else a place."""
_REALLY_IDLE_S = 5.0
"""Clients reuse their connections sooner than that while they work."""
_BETWEEN_LOGS_S = 60.0


class Guest(Protocol):
    """A connection. ``listener.connection`` implements it."""

    peer: str

    def idle_since(self) -> float | None:
        """Return when anything happened last, or ``None`` while a request or a stream is under way."""

    def make_way(self) -> None:
        """Close the connection at once."""


def connections_for(open_files: int) -> int:
    """Return how many client connections a process that may open so many files (``RLIMIT_NOFILE``) has room for."""
    if open_files < 0:  # RLIM_INFINITY
        return _UNLIMITED
    reserve = min(max(_RESERVE, open_files // 8), _MOST_RESERVE)
    return max(open_files - reserve, 8)


class Room:
    """The connections of a front end."""

    def __init__(self, settings: ClientSettings) -> None:
        self.most = settings.max_client_connections or connections_for(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self.most_of_peer = settings.max_client_connections_per_peer or max(self.most // 2, 4)
        self._guests: set[Guest] = set()
        self._refused: dict[Guest, None] = {}
        self._of: dict[str, set[Guest]] = {}
        self._logged_at = float("-inf")

    def __len__(self) -> int:
        return len(self._guests)

    def __iter__(self) -> Iterator[Guest]:
        return iter([*self._guests, *self._refused])

    def enter(self, guest: Guest, now: float) -> None:
        """Count a new connection. Raises ``Refused`` (429 or 503) where there is no room and nobody is idle."""
        of_peer = self._of.get(guest.peer, set())
        if len(of_peer) >= self.most_of_peer and not self._make_room(of_peer, now - _BRIEF_S):
            self._log(f"{len(of_peer)} connections of {guest.peer or 'a Unix socket'}", now)
            text = f"there are {len(of_peer)} connections from this address, all in use"
            raise Refused("too_much_of_peer", f"{text} (maxClientConnectionsPerPeer)")
        if len(self._guests) >= self.most and not self._give_place(of_peer, now):
            self._log(f"{len(self._guests)} connections", now)
            text = f"there are {len(self._guests)} connections, all in use"
            raise Refused("too_much", f"{text} (maxClientConnections)")
        self._guests.add(guest)
        self._of.setdefault(guest.peer, of_peer).add(guest)

    def see_off(self, guest: Guest) -> None:
        """Let a connection for which there is no room end by itself, unless too many do: who closes it while its
        request is unread takes the answer away with it (a reset, RFC 9112 section 9.6)."""
        self._refused[guest] = None
        if len(self._refused) > _MOST_REFUSED:
            oldest = next(iter(self._refused))
            del self._refused[oldest]
            oldest.make_way()

    def leave(self, guest: Guest) -> None:
        """Count a connection no more. Does nothing the second time."""
        self._refused.pop(guest, None)
        if guest in self._guests:
            self._guests.discard(guest)
            of_peer = self._of[guest.peer]
            of_peer.discard(guest)
            if not of_peer:
                del self._of[guest.peer]

    def relieve(self, now: float) -> None:
        """End connections that are really idle: the process has no descriptor left, whatever it has them for."""
        self._make_room(self._guests, now - _REALLY_IDLE_S)

    def _give_place(self, of_peer: set[Guest], now: float) -> bool:
        """Make room for a connection of a peer that has these already. One that has more than an equal share takes a
        place of its own, or one that is really idle: others would find their connections gone between two calls."""
        if len(of_peer) * len(self._of) <= len(self._guests):
            return self._make_room(self._guests, now)
        return self._make_room(of_peer, now) or self._make_room(self._guests, now - _REALLY_IDLE_S)

    def _make_room(self, among: set[Guest], before: float) -> bool:
        """End those that were idle for longest, but not after ``before``; return whether there was one."""
        idle = [(since, id(one), one) for one in among if (since := one.idle_since()) is not None and since <= before]
        for _, _, one in heapq.nsmallest(max(len(among) // _AT_ONCE, 1), idle):
            self.leave(one)
            one.make_way()
        return bool(idle)

    def _log(self, what: str, now: float) -> None:
        if now - self._logged_at > _BETWEEN_LOGS_S:
            self._logged_at = now
            _log.warning("a connection is refused: %s are all in use", what)
