"""The front ends that are linked to this worker, and which of them receives messages for a client's standing stream.

Counterpart: ``gateway.fleet.worker_link``.
"""

from __future__ import annotations

from typing import Protocol

from shared.mcp.methods import LISTEN
from shared.rpc import messages as rpc
from shared.rpc.connection import Link
from worker.calls.client_facts import ClientFacts
from worker.calls.link_call import LinkCall

_MAX_CHOSEN = 100_000
"""The number of client sessions for which the chosen front end is remembered. A full table is cleared."""


class LinkedFrontEnd(Protocol):
    """One front end at the other end of a link (``worker.rpc_server.FrontEndPeer``)."""

    name: str
    last_call: int
    link: Link | None
    sessions: dict[str, ClientFacts]
    calls: dict[int, LinkCall]


class FrontEnds:
    """The linked front ends, their calls, and the choice of a front end for each client session's standing stream."""

    def __init__(self) -> None:
        self.peers: set[LinkedFrontEnd] = set()
        self.orphans: set[LinkCall] = set()
        """Calls of client sessions whose front end is gone. Such calls continue, and their streams can be resumed."""
        self._chosen: dict[str, LinkedFrontEnd] = {}

    # ---- links

    def add(self, peer: LinkedFrontEnd) -> None:
        """Note a new link. An earlier one of the same front end has ended, though the news of that was lost on the way:
        messages for clients would be lost there too."""
        for earlier in [one for one in self.peers if one.name == peer.name]:
            self.peers.discard(earlier)
            if earlier.link is not None:
                earlier.link.abort()
        self.peers.add(peer)

    def discard(self, peer: LinkedFrontEnd) -> None:
        """Forget a link that has ended."""
        self.peers.discard(peer)
        self.orphans = {call for call in self.orphans if not call.done}

    @property
    def in_flight(self) -> int:
        """The number of calls of front ends under way. Listen streams do not count."""
        return sum(call.method != LISTEN for peer in self.peers for call in peer.calls.values())

    def drop(self) -> None:
        """End every link at once. Front ends connect again."""
        for peer in list(self.peers):
            if peer.link is not None:
                peer.link.abort()

    def close(self) -> None:
        """End every link after its queued bytes are written."""
        for peer in list(self.peers):
            if peer.link is not None:
                peer.link.close()

    # ---- sessions

    def calls_of(self, sid: str) -> list[LinkCall]:
        """Return the calls of a client session, whichever front end sent them."""
        self.orphans = {call for call in self.orphans if not call.done}
        everyone = [call for peer in self.peers for call in peer.calls.values()]
        return [call for call in [*everyone, *self.orphans] if call.session == sid]

    def send_to_client(self, sid: str, message: bytes, dropped: int, must: bool) -> bool:
        """Send a message for a client's standing stream. Return false if no front end took it.

        A front end that knows the session is preferred. The choice is kept while that front end is linked, so that
        messages arrive in order. ``dropped`` is the number of messages that were dropped before this one. With ``must``
        the message is sent even if the link is congested.
        """
        peer = self._chosen.get(sid)
        if peer is None or peer not in self.peers:
            peers = [peer for peer in self.peers if peer.link is not None and not peer.link.closed]
            peer = min(peers, key=lambda peer: (sid not in peer.sessions, peer.name), default=None)
            if peer is None:
                return False
            if len(self._chosen) >= _MAX_CHOSEN:
                self._chosen.clear()
            self._chosen[sid] = peer
        if peer.link is None or peer.link.closed or (peer.link.congested and not must):
            return False
        peer.link.send(rpc.Unsolicited(sid, dropped=dropped), message)
        return True

    def inquire(self, sid: str) -> None:
        """Ask all front ends whether a client session has its stream open there."""
        for peer in self.peers:
            if peer.link is not None and not peer.link.congested:
                peer.link.send(rpc.Alive(sid))

    def own_list_changed(self, upstream: str, kind: str, sid: str) -> None:
        """Notify all front ends that an upstream may list something else for this client session."""
        for peer in self.peers:
            if peer.link is not None and not peer.link.closed:
                peer.link.send(rpc.Updated(upstream, "", sid, kind))

    def forget_session(self, sid: str) -> None:
        """Forget which front end was chosen for a session that is over."""
        self._chosen.pop(sid, None)
