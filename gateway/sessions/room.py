"""How many client sessions one front end opens, for each peer address and in all. Pure, but for the time it is told.

Who opens sessions and leaves them would fill Redis for as long as a session lives without use. So where there is no
room, the session gives way that was not used since it was looked at last; one with a call or a stream is in use. An
honest client that loses a session like that sends ``initialize`` again. A *peer* is counted as ``http.bodies.peer_of``
says.
"""

from __future__ import annotations

from msgspec import Struct

from gateway.sessions.session import ClientSession

_LOOKS = 2
_UNIT_BYTES = 4096
"""A session with more facts than that counts as several."""


class _Guest(Struct, gc=False):
    session: ClientSession
    peer: str
    units: int
    looked_at: float


class SessionRoom:
    """The sessions that were opened here and have not ended, the one that was looked at longest ago first."""

    def __init__(self, most: int, most_of_peer: int) -> None:
        self._most, self._most_of_peer = most, most_of_peer
        self._units = 0
        self._units_of: dict[str, int] = {}
        self._all: dict[str, _Guest] = {}
        self._of: dict[str, dict[str, _Guest]] = {}

    def __len__(self) -> int:
        return len(self._all)

    @property
    def peers(self) -> int:
        """How many peers have a session."""
        return len(self._of)

    def enter(self, session: ClientSession, peer: str, size: int, now: float) -> list[str]:
        """Count a session with ``size`` bytes of facts. Return the ids of those that have to end for it."""
        guest = _Guest(session, peer, 1 + size // _UNIT_BYTES, now)
        ended: list[str] = []
        for _ in range(_LOOKS):  # before there is no room: almost every session is used once, right after it was opened
            _look(self._of.get(peer), now)
        while self._units_of.get(peer, 0) + guest.units > self._most_of_peer and self._of.get(peer):
            ended.append(self._give_way(self._of[peer], now))
        while self._units + guest.units > self._most and self._all:
            ended.append(self._give_way(self._all, now))
        self._all[session.sid] = guest
        self._of.setdefault(peer, {})[session.sid] = guest
        self._units += guest.units
        self._units_of[peer] = self._units_of.get(peer, 0) + guest.units
        _mark(guest, now)
        return ended

    def leave(self, sid: str) -> None:
        """Count a session no more."""
        guest = self._all.pop(sid, None)
        if guest is None:
            return
        self._units -= guest.units
        of_peer = self._of[guest.peer]
        del of_peer[sid]
        self._units_of[guest.peer] -= guest.units
        if not of_peer:
            del self._of[guest.peer], self._units_of[guest.peer]

    def _give_way(self, among: dict[str, _Guest], now: float) -> str:
        """Take the first session that was not used since it was looked at, or the first of all if there is none."""
        for _ in range(len(among)):
            if not _look(among, now):
                break
        sid = next(iter(among))
        self.leave(sid)
        return sid


def _look(among: dict[str, _Guest] | None, now: float) -> bool:
    """Whether the first session was used since it was looked at. Then it becomes the last one."""
    if not among:
        return False
    sid, guest = next(iter(among.items()))
    session = guest.session
    if not (session.under_way or session.holder or session.touched_at > guest.looked_at):
        return False
    _mark(guest, now)
    among[sid] = among.pop(sid)
    return True


def _mark(guest: _Guest, now: float) -> None:
    """Note that a session was looked at. Its next use is noted in ``touched_at``, because its round is over."""
    guest.looked_at = now
    guest.session.round = -1
