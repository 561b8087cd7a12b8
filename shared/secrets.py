"""The fleet's key: sealing (AES-GCM) client session ids and records, signing records and proving membership on links
(HMAC).

The fleet has one 32-byte key, which is derived from the ``secret`` setting, or made once and kept in Redis. A sealed
session id contains the facts of the session, so a front end that has never seen the session can serve it without a look
into Redis.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
from typing import TypeVar

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from msgspec import Struct

T = TypeVar("T")
_NONCE = 12
MAX_SESSION_ID = 512
"""The longest client session id that is accepted, in characters."""


class SessionClaims(Struct, array_like=True, frozen=True):
    """The content of a sealed client session id. ``created`` is Unix seconds; digests are short hashes."""

    created: int
    version: str
    principal: str
    capabilities_digest: bytes
    scope: str
    salt: bytes


class FleetKey:
    """Makes seals and proofs under the fleet's key. Seals and proofs made under ``older`` keys are still accepted.

    To rotate without losing sessions: first give every process the new key as an older one, then as the first one. The
    ``repr`` shows no key.
    """

    def __init__(self, key: bytes, *older: bytes) -> None:
        self._seals = [AESGCM(hashlib.sha256(b"seal" + one).digest()) for one in (key, *older)]
        # Not the label of earlier builds, which signed any nonce that they were sent: also such as are statements here.
        self._mac_keys = [hashlib.sha256(b"link, both ends" + one).digest() for one in (key, *older)]
        self._record_keys = [hashlib.sha256(b"records" + one).digest() for one in (key, *older)]
        self.has_older = bool(older)

    def __repr__(self) -> str:
        return "FleetKey(…)"

    @classmethod
    def from_secret(cls, secret: str) -> FleetKey:
        """Return the keys in the ``secret`` setting. Several are separated by commas; the first one makes new seals."""
        parts = [part.strip() for part in secret.split(",") if part.strip()] or [secret]
        return cls(*(hashlib.sha256(part.encode()).digest() for part in parts))

    def seal(self, claims: Struct, purpose: bytes) -> str:
        """Return ``claims`` as visible ASCII that only this fleet can read or make, for this ``purpose``."""
        nonce = os.urandom(_NONCE)
        sealed = self._seals[0].encrypt(nonce, msgspec.msgpack.encode(claims), purpose)
        return base64.urlsafe_b64encode(nonce + sealed).rstrip(b"=").decode()

    def unseal(self, text: str, kind: type[T], purpose: bytes, newest: bool = False) -> T | None:
        """Return the claims in ``text``, or ``None`` if this fleet did not seal ``text`` for this ``purpose``.

        ``newest``: seals under older keys do not count.
        """
        try:
            blob = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        for seal in self._seals[:1] if newest else self._seals:
            try:
                return msgspec.msgpack.decode(seal.decrypt(blob[:_NONCE], blob[_NONCE:], purpose), type=kind)
            except (ValueError, InvalidTag, msgspec.DecodeError):
                continue
        return None

    def sign(self, statement: bytes) -> str:
        """Return the signature of a record, in hexadecimal."""
        return hmac.digest(self._record_keys[0], statement, "sha256").hex()

    def signed(self, statement: bytes, signature: str) -> bool:
        """Return whether ``signature`` is one of this fleet, under any of its keys."""
        given = signature.encode("utf-8", "replace")
        made = [hmac.digest(key, statement, "sha256").hex().encode() for key in self._record_keys]
        equal = [hmac.compare_digest(one, given) for one in made]  # all of them: time does not tell which one it was
        return any(equal)

    def seal_session(self, claims: SessionClaims) -> str:
        """Return a session id: visible ASCII, as MCP requires."""
        return self.seal(claims, b"session")

    def open_session(self, sid: str) -> SessionClaims | None:
        """Return the claims in a session id, or ``None`` if this fleet did not make the id."""
        if not 40 <= len(sid) <= MAX_SESSION_ID:
            return None
        return self.unseal(sid, SessionClaims, b"session")

    def proof(self, statement: bytes, which: int = 0) -> bytes:
        """Return the proof (32 bytes) that whoever says ``statement`` knows the key; ``which`` counts the older ones.

        What is stated is up to ``shared.rpc.handshake``: never bytes that somebody else has chosen.
        """
        return hmac.digest(self._mac_keys[which], statement, "sha256")

    def proves(self, statement: bytes, proof: bytes) -> int | None:
        """Return under which key (0 is the first one) ``proof`` proves ``statement``, or ``None`` if under none."""
        found = None
        for which in range(len(self._mac_keys)):  # all of them, so that time does not depend on which one it was
            if hmac.compare_digest(self.proof(statement, which), proof) and found is None:
                found = which
        return found


def digest(data: bytes) -> bytes:
    """Return a short digest (8 bytes), for comparing values and not for secrecy."""
    return hashlib.blake2b(data, digest_size=8).digest()
