"""Tokens with a signature (RFC 7519, RFC 9068, OpenID Connect Core section 2), by PyJWT.

The cheap checks come first, so that made-up tokens cost little: size, form, issuer, algorithm, times, audience. Then
the signature. Which key and which algorithm may be used follows from the rules and the issuer's key set, never from the
token alone (RFC 8725).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import jwt

from gateway.access.key_sets import KeySet
from gateway.access.principal import Identity
from gateway.access.tokens import MAX_TOKEN, InvalidToken, check_audience, identity
from shared.access.rules import JwtMethod

_TYPES = ("jwt", "at+jwt", "application/at+jwt")
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

    def __init__(self, method: JwtMethod) -> None:
        self.method = method
        self.keys = KeySet(method)

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

    async def verify(self, token: UnverifiedToken) -> Identity:
        """Return whom a token that passed ``precheck`` is about. Raises ``InvalidToken``."""
        algorithm, key_id = token.header["alg"], token.header.get("kid")
        if not self.keys.loaded or not self.keys.find(key_id, algorithm):
            await self.keys.fetch()
        keys = self.keys.find(key_id, algorithm)
        if not keys:
            raise InvalidToken("the token's key is not known")
        for key in keys[:4]:
            try:
                claims = jwt.decode(token.text, key.key, algorithms=[algorithm], options=_options)
            except (jwt.PyJWTError, ValueError, TypeError):
                continue
            found = identity(claims, self.method.issuer, self.method.roles, self.method.required_scopes)
            return found
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
    return float(value)
