"""Opaque tokens: an authorization server is asked whether they are valid, and about whom (RFC 7662)."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from typing import Any

from msgspec import structs

from gateway.access.principal import Identity
from gateway.access.tokens import MAX_TOKEN, InvalidToken, check_audience, identity
from shared.access.methods import IntrospectionMethod
from shared.egress import Egress
from shared.oauth.http import OAuthError, OAuthHttp
from shared.oauth.tokens import basic_authorization

_log = logging.getLogger(__name__)
_TIMEOUT_S = 5.0
_MAX_BYTES = 256 * 1024
_AT_ONCE = 16
"""How many questions are asked at once: made-up tokens must not make the gateway flood the server."""
_REFUSED_S, _MAX_REFUSED = 10.0, 10_000
"""For how long, and for how many tokens, "not active" is remembered."""
_LEAST_S = 1.0
"""An answer is believed for at least so long: for the request that it was asked for."""


class Introspection:
    """Asks one authorization server."""

    def __init__(self, method: IntrospectionMethod, egress: Egress | None = None) -> None:
        self.method = method
        self._http = OAuthHttp(egress or Egress(), timeout_s=_TIMEOUT_S, max_bytes=_MAX_BYTES)
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._refused: dict[bytes, float] = {}
        self.trouble = ""
        """Why the server could not be asked when that was tried last, or nothing."""

    async def verify(self, token: str, audiences: frozenset[str]) -> Identity:
        """Return whom a token is about. Raises ``InvalidToken``, also if the server does not answer."""
        if len(token) > MAX_TOKEN:
            raise InvalidToken("the token is too long")
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        if self._refused.get(digest, 0.0) > time.monotonic():
            raise InvalidToken("the token is not active")
        try:
            async with self._turns:
                claims = await self._ask(token)
        except (OAuthError, ValueError) as error:
            self.trouble = str(error) or type(error).__name__
            _log.warning("introspection at %s failed: %s", self.method.url, self.trouble)
            raise InvalidToken("the authorization server cannot be asked about the token; try again") from error
        self.trouble = ""
        if not isinstance(claims, dict) or claims.get("active") is not True:
            if len(self._refused) >= _MAX_REFUSED:
                self._refused.clear()
            self._refused[digest] = time.monotonic() + _REFUSED_S
            raise InvalidToken("the token is not active")
        if self.method.issuer and claims.get("iss", self.method.issuer) != self.method.issuer:
            raise InvalidToken("the token is of another issuer")
        if self.method.audiences or "aud" in claims:
            check_audience(claims, self.method.audiences or audiences)
        issuer = self.method.issuer or self.method.url
        found = identity(claims, issuer, self.method.roles, self.method.required_scopes)
        now_s = time.time()
        if found.expires_at <= now_s:
            raise InvalidToken("the token has expired")
        # The server may revoke a token at any time, so its answer is believed for a while only (section 4).
        believed_s = max(self.method.cache / 1000.0, _LEAST_S)
        return structs.replace(found, expires_at=min(found.expires_at, now_s + believed_s))

    async def _ask(self, token: str) -> Any:
        method = self.method
        auth = basic_authorization(method.client_id, method.client_secret)
        fields = {"token": token, "token_type_hint": "access_token"}
        status, found = await self._http.post(method.url, fields, {"Authorization": auth})
        if status != 200:
            raise OAuthError(f"HTTP {status}")
        return found
