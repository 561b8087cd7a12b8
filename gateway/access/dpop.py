"""Proofs of possession (RFC 9449, DPoP): a token that is bound to a key works only with a proof that the caller has it.

Each request has a proof of its own, a small JWT that names the request and the token. A proof counts once at each front
end; what counted is remembered as long as it could count again.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import math
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import jwt
from msgspec import Struct

from gateway.access.key_sets import fits, public_key
from gateway.access.tokens import InvalidToken

ALGORITHMS = ("ES256", "ES384", "EdDSA", "RS256", "PS256")
_MAX_PROOF = 8 * 1024
_MAX_JTI = 256
_OLD_S, _NEW_S = 60.0, 10.0
"""How old a proof may be, and how much later than our clock says, in seconds (section 11.1)."""
_REMEMBERED = 100_000
"""How many proofs are remembered. Beyond, the oldest are forgotten, and could count again while they are new enough."""
_MEMBERS = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n"), "OKP": ("crv", "kty", "x")}
_PORTS = {"http": 80, "https": 443}
_options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False, "verify_aud": False}


class Proof(Struct, frozen=True):
    """The proofs that a request has, and what they must be about: its method, and its URL without query."""

    texts: tuple[str, ...]
    method: str = ""
    url: str = ""

    def __repr__(self) -> str:
        return f"Proof({self.method} {self.url})"


class InvalidProof(InvalidToken):
    """The proof is missing or wrong; the token may be good."""


class Proofs:
    """Checks proofs."""

    def __init__(self, now_s: Callable[[], float] = time.time) -> None:
        self._now_s = now_s
        self._seen: dict[bytes, float] = {}
        self._swept_at = 0.0

    @property
    def remembered(self) -> int:
        """How many proofs are remembered, so that none counts twice."""
        return len(self._seen)

    def check(self, proof: Proof | None, token: str, thumbprint: str) -> None:
        """Raise ``InvalidProof`` unless the request proves that its sender has the key that the token is bound to."""
        if proof is None or not proof.texts:
            raise InvalidProof("the token is bound to a key: send it as 'Authorization: DPoP' with a proof in 'DPoP'")
        if len(proof.texts) > 1 or len(proof.texts[0]) > _MAX_PROOF:
            raise InvalidProof("one proof of at most 8 KiB is needed")
        claims = _verified(proof.texts[0], thumbprint)
        if claims.get("htm") != proof.method or not _same(claims.get("htu"), proof.url):
            raise InvalidProof("the proof is of another request")
        if not _equal(claims.get("ath"), encoded_digest(token)):
            raise InvalidProof("the proof is of another token")
        made_at, now_s = claims.get("iat"), self._now_s()
        if isinstance(made_at, bool) or not isinstance(made_at, int | float) or not math.isfinite(_float(made_at)):
            raise InvalidProof("the proof does not say when it was made")
        if not now_s - _OLD_S <= made_at <= now_s + _NEW_S:
            raise InvalidProof("the proof is too old, or of the future")
        jti = claims.get("jti")
        if not isinstance(jti, str) or not 0 < len(jti) <= _MAX_JTI:
            raise InvalidProof("the proof has no id")
        self._once(hashlib.sha256(f"{thumbprint}\0{jti}".encode("utf-8", "surrogateescape")).digest(), now_s)

    def _once(self, digest: bytes, now_s: float) -> None:
        if self._seen.get(digest, 0.0) > now_s:
            raise InvalidProof("the proof was used before")
        if len(self._seen) >= _REMEMBERED or now_s - self._swept_at > _OLD_S:
            self._swept_at = now_s
            self._seen = {one: until for one, until in self._seen.items() if until > now_s}
            for old in list(itertools.islice(self._seen, max(0, len(self._seen) - _REMEMBERED * 7 // 8))):
                del self._seen[old]
        self._seen[digest] = now_s + _OLD_S + _NEW_S


def _verified(text: str, thumbprint: str) -> Mapping[str, Any]:
    """Return the claims of a proof that is signed with the key of this thumbprint. Raises ``InvalidProof``."""
    try:
        header = jwt.get_unverified_header(text)
        key, algorithm = header.get("jwk"), header.get("alg")
        if header.get("typ") != "dpop+jwt" or algorithm not in ALGORITHMS or "crit" in header:
            raise InvalidProof("the proof is no DPoP proof of an algorithm that is accepted")
        if not isinstance(key, dict) or "d" in key or not _equal(thumbprint_of(key), thumbprint):
            raise InvalidProof("the proof is of another key than that of the token")
        found = public_key(key)
        if found is None or not fits(found, algorithm):
            raise InvalidProof("the proof's key cannot be used")
        claims: Mapping[str, Any] = jwt.decode(text, found.key, algorithms=[algorithm], options=_options)
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise InvalidProof("the proof's form or signature is wrong") from error
    return claims


def thumbprint_of(key: Mapping[str, Any]) -> str:
    """Return the thumbprint of a JWK (RFC 7638). Raises ``ValueError``."""
    names = _MEMBERS.get(str(key.get("kty")))
    if names is None or not all(isinstance(key.get(name), str) for name in names):
        raise ValueError("no public key")
    return encoded_digest(json.dumps({name: key[name] for name in names}, separators=(",", ":")))


def encoded_digest(text: str) -> str:
    """Return the SHA-256 digest of a text, as JOSE writes it."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _equal(found: Any, wanted: str) -> bool:
    return isinstance(found, str) and hmac.compare_digest(found.encode("utf-8", "surrogateescape"), wanted.encode())


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _same(found: Any, url: str) -> bool:
    """Whether two URLs mean the same (RFC 3986 sections 6.2.2 and 6.2.3), without query and fragment (section 4.3)."""
    try:
        return isinstance(found, str) and _normal(found) == _normal(url)
    except ValueError:
        return False


def _normal(url: str) -> tuple[Any, ...]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme), unquote(parts.path) or "/"
