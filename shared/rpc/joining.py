"""``Joining``: the ``Peer`` of a link until both ends have proved themselves; then the link gets the one it is for.

Used by ``gateway.fleet.pool`` and ``worker.rpc_server``. What is said is decided in ``shared.rpc.handshake``. Until
the link is handed over heads are small, there are no bodies, and there is little time. Afterwards nothing of this is in
the path of a call.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable

from shared.rpc.connection import BodyStream, Link
from shared.rpc.handshake import MAX_HANDSHAKE_HEAD, HandshakeError, Side
from shared.rpc.messages import UNREADABLE, Head
from shared.rpc.peer_credentials import credentials, objection, place


def of_tls(error: ssl.SSLError) -> HandshakeError:
    """Return the failure of TLS on a link in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = f"its certificate is not accepted ({error.verify_message})"
    else:
        why = f"TLS failed ({(error.reason or str(error)).replace('_', ' ').lower()})"
    return HandshakeError(f"{why}; are link.tls and link.caFile the same there and here?")


class Joining:
    """A link that is not trusted yet. Exactly one of ``proven(link)`` and ``failed(error)`` is called, once.

    ``proven`` has to hand the link over. ``error`` is ``None`` if the other end left and nobody need know. ``limit_s``:
    the seconds that the other end has.
    """

    def __init__(
        self,
        side: Side,
        limit_s: float,
        proven: Callable[[Link], None],
        failed: Callable[[HandshakeError | None], None],
    ) -> None:
        self._side = side
        self._limit_s = limit_s
        self._proven = proven
        self._failed = failed
        self._link: Link | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._over = False
        self.transport: asyncio.Transport | None = None
        """The connection on which TLS is not up yet."""
        self.place = "?"
        """Where the other end is, for a log."""

    def abort(self) -> None:
        """End the link, if it is not proven yet. Nobody is told."""
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        if self._link is not None:
            self._link.abort()
        elif self.transport is not None:
            self.transport.abort()

    # ---- shared.rpc.connection.Peer

    def on_connected(self, link: Link) -> None:
        if self._over:
            link.abort()
            return
        self._link = link
        link.narrow(MAX_HANDSHAKE_HEAD)
        here = link.extra("socket")
        self.place = place(here, link.extra("peername"))
        if why := objection(credentials(here)):
            self._fail(HandshakeError(why))
            return
        self._timer = asyncio.get_running_loop().call_later(self._limit_s, self._too_late)
        if (inside := link.extra("ssl_object")) is not None:
            try:
                self._side.secured(inside.getpeercert(binary_form=True))
            except HandshakeError as error:
                self._fail(error)
                return
        opening = self._side.opening()
        if opening is not None:
            link.send(opening)

    def on_frame(self, link: Link, head: Head, body: bytes) -> None:
        if self._over:
            return
        try:
            answer = self._side.received(head)
        except HandshakeError as error:
            self._fail(error)
            return
        if answer is not None:
            link.send(answer)
        if self._side.proven:
            self._end()
            self._proven(link)

    def stream_body(self, link: Link, head: Head, stream: BodyStream) -> bool:
        return False  # does not happen: the link takes no bodies yet

    def on_closed(self, link: Link, error: Exception | None) -> None:
        if not self._over:
            self._end()
            if isinstance(error, UNREADABLE):
                self._failed(HandshakeError(f"it sent what no process of ours sends: {error}"))
            elif isinstance(error, ssl.SSLError):
                self._failed(of_tls(error))
            else:
                self._failed(self._side.ended())

    # ---- the end

    def _too_late(self) -> None:
        self._fail(HandshakeError(f"it proved nothing within {self._limit_s:g} s"))

    def _fail(self, error: HandshakeError) -> None:
        self._end()
        if self._link is not None:
            self._link.abort()
        self._failed(error)

    def _end(self) -> None:
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
