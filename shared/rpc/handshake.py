"""The handshake of a link: front end and worker prove to each other that they know the fleet's key. Pure.

::

    worker                                             front end
      Challenge(worker's nonce, worker)          ──▶     is it the worker that was dialled?
      is the proof right?   ◀──   Hello(front end, proof, front end's nonce)
      Welcome(proof)                             ──▶     is the proof right? Then calls may be sent.

A proof is an HMAC over everything that both ends must agree about: the protocol, who makes the proof (``Role``), both
nonces, the worker's id and address, the front end's id, and what is unique for the TLS below, if there is TLS. The
front end takes id and address from the registry, as it dialled them, and the worker its own. So a proof is worth
nothing in any other link: not with another nonce, not in the other direction, and not to another worker, nor to the
same one at another address or through another's TLS. Whoever stands between a front end and the worker that it meant to
reach cannot use what he hears to be either of them.

The front end proves first. A stranger that connects to a worker gets no proof of it, on which he could try out secrets.

``FrontEndSide`` and ``WorkerSide`` take frames and return frames; ``shared.rpc.joining`` does the I/O.
"""

from __future__ import annotations

import hashlib
import os
from enum import Enum
from typing import Protocol, TypeVar

from msgspec import Struct

from shared.rpc.messages import PROTOCOL, Challenge, Head, Hello, Welcome
from shared.secrets import FleetKey

T = TypeVar("T", Challenge, Hello, Welcome)
NONCE_BYTES = 32
MAX_HANDSHAKE_HEAD = 4096
"""The largest head before both ends have proved themselves, in bytes. Bodies are not taken at all."""
_SHOWN = 64
_CHECK = "is GATEWAY_SECRET the same there and here?"


class HandshakeError(ConnectionError):
    """The other end has not proved itself. ``str(error)`` goes on where "the peer …" begins: "its proof is wrong"."""


class Role(Enum):
    """Who makes a proof."""

    FRONT_END = b"front end"
    WORKER = b"worker"


class Transcript(Struct, frozen=True):
    """What both ends of a link must agree about. ``address`` is the worker's as the registry has it."""

    worker: str
    address: str
    frontend: str
    worker_nonce: bytes
    frontend_nonce: bytes
    channel: bytes = b""
    """What is unique for the TLS below (``shared.rpc.link_tls``), or empty without TLS."""

    def statement(self, role: Role) -> bytes:
        """Return what ``role`` proves: each part with its length before it, so that no two transcripts are alike."""
        parts = (
            b"mcp-gateway link %d" % PROTOCOL,
            role.value,
            self.worker_nonce,
            self.frontend_nonce,
            self.worker.encode(),
            self.address.encode(),
            self.frontend.encode(),
            *((self.channel,) if self.channel else ()),  # without TLS a statement is that of earlier releases
        )
        return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def channel_of(certificate: bytes) -> bytes:
    """Return what is unique for TLS with a worker that shows this certificate (DER)."""
    return hashlib.sha256(certificate).digest()


class Side(Protocol):
    """One end's part in the handshake."""

    proven: bool
    """Whether the other end has proved that it knows the fleet's key."""

    def secured(self, certificate: bytes | None) -> None:
        """Note that the link speaks TLS, and which certificate (DER) the other end has shown. Raises
        ``HandshakeError``."""

    def opening(self) -> Head | None:
        """Return the frame with which this end begins, if it is the one that begins."""

    def received(self, head: Head) -> Head | None:
        """Return the answer to a frame, if it needs one. Raises ``HandshakeError``; the link must end then."""

    def ended(self) -> HandshakeError | None:
        """Return what it means that the other end left before it was proven, or ``None`` if that means nothing."""


class FrontEndSide:
    """The front end's part: ``worker`` is the one that it dialled, at ``address``."""

    def __init__(self, key: FleetKey, frontend: str, worker: str, address: str, nonce: bytes = b"") -> None:
        self._key = key
        self._frontend = frontend
        self._worker = worker
        self._address = address
        self._nonce = nonce or os.urandom(NONCE_BYTES)
        self._transcript: Transcript | None = None
        self._channel = b""
        self.proven = False

    def secured(self, certificate: bytes | None) -> None:
        """The worker's certificate is the channel."""
        if certificate is None:
            raise HandshakeError("it speaks TLS without a certificate")
        self._channel = channel_of(certificate)

    def opening(self) -> Head | None:
        """The worker begins."""
        return None

    def received(self, head: Head) -> Head | None:
        """Answer the challenge; check the proof in the welcome."""
        if self._transcript is None:
            return self._prove(_expected(head, Challenge))
        welcome = _expected(head, Welcome)
        if self._key.proves(self._transcript.statement(Role.WORKER), welcome.proof) is None:
            raise HandshakeError(f"its proof is wrong; {_CHECK}")
        self.proven = True
        return None

    def _prove(self, challenge: Challenge) -> Hello:
        _check_terms(challenge.protocol, challenge.nonce)
        if challenge.worker != self._worker:
            named = _shown(challenge.worker)
            raise HandshakeError(f"it says that it is worker {named}; is its record in Redis as the worker wrote it?")
        self._transcript = Transcript(
            self._worker, self._address, self._frontend, challenge.nonce, self._nonce, self._channel
        )
        proof = self._key.proof(self._transcript.statement(Role.FRONT_END))
        return Hello(self._frontend, proof, PROTOCOL, self._nonce)

    def ended(self) -> HandshakeError | None:
        """A worker ends a link without a word if it refuses the front end; earlier it only goes away."""
        if self._transcript is None:
            return None
        return HandshakeError(f"it refused this front end and proved nothing itself; {_CHECK}")


class WorkerSide:
    """The worker's part: ``address`` is what its record in the registry says of where this link came in, ``channel``
    what its own certificate makes of TLS below, if there is TLS."""

    def __init__(self, key: FleetKey, worker: str, address: str, nonce: bytes = b"", channel: bytes = b"") -> None:
        self._channel = channel
        self._key = key
        self._worker = worker
        self._address = address
        self._nonce = nonce or os.urandom(NONCE_BYTES)
        self.frontend = ""
        """The front end's id, once it is proven."""
        self.proven = False

    def secured(self, certificate: bytes | None) -> None:
        """The channel is this end's own certificate, which it has."""

    def opening(self) -> Head | None:
        """Challenge the front end."""
        return Challenge(self._nonce, self._worker)

    def received(self, head: Head) -> Head | None:
        """Check the front end's proof, and prove in return that this worker knows the key under which it was made.

        A front end that does not know the newest of this worker's keys could not check a proof made with that.
        """
        hello = _expected(head, Hello)
        _check_terms(hello.protocol, hello.nonce)
        transcript = Transcript(self._worker, self._address, hello.frontend, self._nonce, hello.nonce, self._channel)
        which = self._key.proves(transcript.statement(Role.FRONT_END), hello.proof)
        if which is None:
            raise HandshakeError(
                f"it says that it is front end {_shown(hello.frontend)}, and its proof is wrong; {_CHECK}"
            )
        self.frontend, self.proven = hello.frontend, True
        return Welcome(self._key.proof(transcript.statement(Role.WORKER), which))

    def ended(self) -> HandshakeError | None:
        """Whoever only looks whether the port is open leaves without a word."""
        return None


def _expected(head: Head, kind: type[T]) -> T:
    if not isinstance(head, kind):
        raise HandshakeError(f"it sent {type(head).__name__} where {kind.__name__} was due")
    return head


def _check_terms(protocol: int, nonce: bytes) -> None:
    if protocol != PROTOCOL:
        raise HandshakeError(
            f"it speaks version {protocol} of the handshake and this process version {PROTOCOL}; "
            f"run the same release of the gateway on both"
        )
    if len(nonce) != NONCE_BYTES:
        raise HandshakeError(f"its nonce has {len(nonce)} bytes instead of {NONCE_BYTES}")


def _shown(name: str) -> str:
    """Return a name that anybody may have chosen, so that it can stand in a log."""
    return repr(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…")
