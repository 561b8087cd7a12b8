"""Tokens with a signature (RFC 7519, RFC 9068, OpenID Connect Core section 2), by PyJWT.

The cheap checks come first, so that made-up tokens cost little: size, form, issuer, algorithm, times, audience. Then
the signature. Which key and which algorithm may be used follows from the rules and the issuer's key set, never from the
token alone (RFC 8725).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import jwt
from msgspec import structs

from gateway.access.key_sets import KeySet
from gateway.access.principal import Identity
from gateway.access.tokens import MAX_TOKEN, InvalidToken, check_audience, identity
from shared.access.methods import JwtMethod
from shared.egress import Egress

_TYPES = ("jwt", "at+jwt", "application/at+jwt")
_MAX_TRIED = 4
"""How many keys are tried on a token that does not say which one signed it."""
_options: Any = {
    "verify_signature": True,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
}


class JwtIssuer:
    """Verifies the tokens of one issuer."""

    def __init__(
        self, method: JwtMethod, egress: Egress | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.method = method
        self.keys = KeySet(method, egress, clock)

    def precheck(self, token: UnverifiedToken, audiences: frozenset[str]) -> None:
        """Raise ``InvalidToken`` for what no key could make valid."""
        header, claims = token.header, token.claims
        algorithm = header.get("alg")
        if algorithm not in self.method.algorithms:
            raise InvalidToken("the token's signature algorithm is not accepted")
        if "crit" in header:
            raise InvalidToken("the token's header has critical parameters that are not known")
        kind = header.get("typ")
        if kind is not None and (not isinstance(kind, str) or kind.lower() not in _TYPES):
            raise InvalidToken("this kind of token is no access token")
        if not isinstance(header.get("kid", ""), str):
            raise InvalidToken("the token's key id is no text")
        now_s, leeway_s = time.time(), self.method.leeway / 1000.0
        expires = _time(claims, "exp")
        if expires is None:
            raise InvalidToken("the token does not say when it expires")
        if expires + leeway_s <= now_s:
            raise InvalidToken("the token has expired")
        if (_time(claims, "nbf") or 0.0) - leeway_s > now_s:
            raise InvalidToken("the token is not valid yet")
        if (_time(claims, "iat") or 0.0) - leeway_s > now_s:
            raise InvalidToken("the token was issued in the future")
        check_audience(claims, self.method.audiences or audiences)
        if self.keys.lacks(header.get("kid"), algorithm):
            raise InvalidToken("the token's key is not known")

    async def keys_of(self, token: UnverifiedToken) -> list[jwt.PyJWK]:
        """Return the keys that may have signed a token that passed ``precheck``. Raises ``InvalidToken`` without one.

        Old keys are used while new ones are fetched. Only a token whose key is not known waits for the issuer.
        """
        algorithm, key_id = token.header["alg"], token.header.get("kid")
        found = self.keys.find(key_id, algorithm)
        if found:
            if not self.keys.loaded:
                self.keys.refresh()
            return found
        await self.keys.fetch()
        found = self.keys.find(key_id, algorithm)
        if not found:
            raise InvalidToken("the token's key is not known")
        return found

    def verify(self, token: UnverifiedToken, keys: list[jwt.PyJWK]) -> Identity:
        """Return whom a token that passed ``precheck`` is about. Raises ``InvalidToken``."""
        for key in keys[:_MAX_TRIED]:
            try:
                claims = jwt.decode(token.text, key.key, algorithms=[token.header["alg"]], options=_options)
            except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
                continue
            found = identity(claims, self.method.issuer, self.method.roles, self.method.required_scopes)
            # The leeway is for clocks that differ: as long as a token is accepted, so long it lasts.
            return structs.replace(found, expires_at=found.expires_at + self.method.leeway / 1000.0)
        raise InvalidToken("the token's signature is wrong")


class UnverifiedToken:
    """A token as it was sent. Nothing in it is true before its signature is verified."""

    __slots__ = ("claims", "header", "text")

    def __init__(self, text: str, header: Mapping[str, Any], claims: Mapping[str, Any]) -> None:
        self.text = text
        self.header = header
        self.claims = claims

    @classmethod
    def read(cls, text: str) -> UnverifiedToken | None:
        """Return the parts of a token, or ``None`` if the text is no JWT (it may be an opaque token)."""
        if text.count(".") != 2 or len(text) > MAX_TOKEN:
            return None
        try:
            parts = jwt.decode_complete(text, options={"verify_signature": False})
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            return None
        return cls(text, parts["header"], parts["payload"])


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidToken(f"the token's {name!r} is no time")
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not math.isfinite(seconds):
        raise InvalidToken(f"the token's {name!r} is no time")
    return seconds
