"""The public keys of an issuer (RFC 7517): fetched when they are needed, kept, and used on while the issuer is away.

They are fetched within the rules of egress. An address that the issuer's metadata names may not be nearer than the
issuer (``shared.oauth.http``).
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt

from shared.access.methods import JwtMethod
from shared.egress import Egress
from shared.oauth.http import OAuthError, OAuthHttp, Redirected
from shared.tasks import spawn

_log = logging.getLogger(__name__)
_FRESH_S = 600.0
"""Keys are fetched again when they are older, before one of them is used."""
_AGAIN_S = 10.0
"""The least time between two attempts: tokens with made-up key ids must not make the gateway flood an issuer."""
_TIMEOUT_S = 5.0
_MAX_BYTES = 512 * 1024
_MAX_KEYS = 100
_MAX_WAITING = 100
_MIN_RSA_BITS = 2048
"""Shorter keys are not used (RFC 7518 section 3.3)."""
_MAX_RSA_BITS, _MAX_EXPONENT = 8192, 2**32
"""Nor are those with which one signature takes milliseconds to verify: callers bring keys of their own (``dpop``)."""
_ASYMMETRIC = ("RSA", "EC", "OKP")


class KeySet:
    """The keys of one issuer by their ids; keys without an id have the empty one."""

    def __init__(
        self, method: JwtMethod, egress: Egress | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._method = method
        self._clock = clock
        self._http = OAuthHttp(egress or Egress(), timeout_s=_TIMEOUT_S, max_bytes=_MAX_BYTES)
        self._keys: dict[str, list[jwt.PyJWK]] = {}
        self._fetched_at = float("-inf")
        self._tried_at = float("-inf")
        self._fetching: asyncio.Task[None] | None = None
        self._waiting = 0
        self.trouble = ""
        """Why the keys could not be fetched when that was tried last, or nothing."""

    def find(self, key_id: str | None, algorithm: str) -> list[jwt.PyJWK]:
        """Return the keys that may have made a signature. Without a key id, all that fit the algorithm."""
        if key_id is not None:
            candidates = self._keys.get(key_id) or self._keys.get("", [])
        else:
            candidates = [key for keys in self._keys.values() for key in keys]
        return [key for key in candidates if fits(key, algorithm)]

    @property
    def loaded(self) -> bool:
        """Whether keys were fetched not too long ago."""
        return self._clock() - self._fetched_at < _FRESH_S

    @property
    def may_fetch(self) -> bool:
        """Whether another attempt may be made now."""
        return self._clock() - self._tried_at >= _AGAIN_S

    def lacks(self, key_id: str | None, algorithm: str) -> bool:
        """Whether there is no key for a signature, and asking the issuer again is not allowed yet."""
        fetching = self._fetching is not None and not self._fetching.done()
        return bool(self._keys) and not (fetching or self.may_fetch or self.find(key_id, algorithm))

    def refresh(self) -> None:
        """Begin to fetch the keys, unless that was tried just now. Old keys stay if it fails."""
        if (self._fetching is None or self._fetching.done()) and self.may_fetch:
            self._tried_at = self._clock()
            self._fetching = spawn(self._fetch(), "fetch-key-set")

    async def fetch(self) -> None:
        """Fetch the keys, once for all who wait. Where there are keys already, few may wait: made-up key ids must not
        fill the places of those who wait to be verified."""
        self.refresh()
        if self._fetching is None or self._fetching.done() or (self._keys and self._waiting >= _MAX_WAITING):
            return
        self._waiting += 1
        try:
            await asyncio.shield(self._fetching)
        finally:
            self._waiting -= 1

    async def _fetch(self) -> None:
        try:
            document = await self._document()
            keys = _keys(document)
        except (OSError, ValueError, RecursionError, OAuthError) as error:
            self.trouble = str(error) or type(error).__name__
            _log.warning("cannot get the keys of %s: %s", self._method.issuer, self.trouble)
            return
        self._keys, self.trouble = keys, ""
        self._fetched_at = self._clock()

    async def _document(self) -> Any:
        if self._method.jwks_file:
            return json.loads(await asyncio.to_thread(Path(self._method.jwks_file).read_bytes))
        if self._method.jwks_url:
            return await _get(self._http, self._method.jwks_url)
        return await _get(self._http.within(self._method.issuer), await self._discover())

    async def _discover(self) -> str:
        """Return ``jwks_uri`` of the issuer's metadata (RFC 8414 section 3, OpenID Connect Discovery)."""
        issuer = self._method.issuer
        parts = urlsplit(issuer)
        path = parts.path.rstrip("/")
        origin = f"{parts.scheme}://{parts.netloc}"
        places = (
            f"{origin}/.well-known/oauth-authorization-server{path}",
            f"{origin}/.well-known/openid-configuration{path}",
            f"{issuer.rstrip('/')}/.well-known/openid-configuration",
        )
        for place in dict.fromkeys(places):
            try:
                found = await _get(self._http, place)
            except (ValueError, Redirected):
                continue  # there may be something at the next place
            if not isinstance(found, Mapping) or found.get("issuer") != issuer:
                raise ValueError(f"{place} is the metadata of another issuer")
            url = found.get("jwks_uri")
            if not isinstance(url, str) or urlsplit(url).scheme not in ("https", parts.scheme):
                raise ValueError(f"{place} has no jwks_uri that can be used")
            return url
        raise ValueError("it has no metadata; give jwksUrl")


async def _get(http: OAuthHttp, url: str) -> Any:
    """Return the JSON at ``url``. Raises ``ValueError`` for any other answer, ``OAuthError`` if there is none."""
    status, found = await http.get(url)
    if status != 200 or found is None:
        raise ValueError(f"{url} answers HTTP {status}{'' if status != 200 else ' with what is no JSON'}")
    return found


def _keys(document: Any) -> dict[str, list[jwt.PyJWK]]:
    """Return the keys of a set that can verify signatures. What cannot be used is left out (RFC 7517 section 5)."""
    listed = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(listed, list):
        raise ValueError("the key set has no 'keys'")
    found: dict[str, list[jwt.PyJWK]] = {}
    for raw in listed[:_MAX_KEYS]:
        if not isinstance(raw, Mapping) or raw.get("use", "sig") != "sig":
            continue
        operations = raw.get("key_ops", ["verify"])
        if not isinstance(operations, list) or "verify" not in operations:
            continue
        key = public_key(raw)
        if key is not None:
            found.setdefault(str(raw.get("kid") or ""), []).append(key)
    return found


def public_key(raw: Mapping[str, Any]) -> jwt.PyJWK | None:
    """Return the public key that a JWK describes, or ``None`` if it cannot be used."""
    public = {name: value for name, value in raw.items() if name not in ("d", "p", "q", "dp", "dq", "qi", "oth")}
    if public.get("kty") not in _ASYMMETRIC:
        return None
    try:
        key = jwt.PyJWK(public)
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, ArithmeticError):
        return None  # what is in the members may be anything
    return None if raw["kty"] == "RSA" and not _is_usual(key.key) else key


def _is_usual(key: Any) -> bool:
    """Whether an RSA key is long enough, and quick enough to verify with."""
    return bool(_MIN_RSA_BITS <= key.key_size <= _MAX_RSA_BITS and key.public_numbers().e <= _MAX_EXPONENT)


_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


def fits(key: jwt.PyJWK, algorithm: str) -> bool:
    """Whether a key may be used with an algorithm: its type and curve fit, and it is not meant for another."""
    raw: Mapping[str, Any] = key._jwk_data
    if raw.get("alg", algorithm) != algorithm:
        return False
    match algorithm[:2]:
        case "RS" | "PS":
            return raw.get("kty") == "RSA"
        case "ES":
            return raw.get("kty") == "EC" and raw.get("crv") == _CURVES[algorithm]
        case _:
            return raw.get("kty") == "OKP"
