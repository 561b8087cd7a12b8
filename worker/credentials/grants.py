"""How a token for an upstream is requested. Implements ``renewal.Grant``."""

from __future__ import annotations

import time

from shared.oauth.challenges import Challenge
from shared.oauth.http import OAuthError, OAuthHttp
from shared.oauth.metadata import Resource, Server, check_trusted, resource_of, server_of
from shared.oauth.tokens import Client, Token, request_token
from shared.upstream_auth import ServiceAuth

_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
_FRESH_S = 600.0
"""How long metadata is used before it is read again."""


class AuthorizationServer:
    """The authorization server of one upstream: the one that its entry names, or that it names itself."""

    def __init__(self, url: str, auth: ServiceAuth, http: OAuthHttp) -> None:
        self.auth = auth
        self.http = http if auth.token_url else http.within(auth.issuer or url)
        self._of_upstream = http
        self._url = url
        self._found: tuple[Resource, Server] | None = None
        self._found_at = 0.0

    async def find(self, challenge: Challenge | None) -> tuple[Resource, Server]:
        """Return what upstream and server say of themselves. Raises ``OAuthError``."""
        auth = self.auth
        if auth.token_url:
            return Resource("", ()), Server(auth.issuer, auth.token_url)
        if self._found is None or time.monotonic() - self._found_at > _FRESH_S:
            resource = await resource_of(self._of_upstream, self._url, challenge.resource_metadata if challenge else "")
            issuer = _choose(resource.issuers, auth.issuer)
            check_trusted(issuer, self._url, auth.issuer)
            self._found = resource, await server_of(self.http, issuer)
            self._found_at = time.monotonic()
        return self._found

    def forget(self) -> None:
        """Read the metadata again next time."""
        self._found = None

    def fields(self, resource: Resource, challenge: Challenge | None) -> dict[str, str]:
        """Return the members ``scope`` and ``resource`` of a request. The entry's scopes are a limit; without any, the
        upstream says what it needs (specification 2026-07-28, authorization, "Scope Selection Strategy")."""
        scope = " ".join(self.auth.scopes) or (challenge.scope if challenge else "") or " ".join(resource.scopes)
        found = {"scope": scope, "resource": self.auth.resource or resource.resource}
        return {name: value for name, value in found.items() if value}

    @property
    def client(self) -> Client:
        """The gateway as this server knows it."""
        return Client(self.auth.client_id, self.auth.client_secret, self.auth.private_key_file, self.auth.key_id)


class ClientCredentialsGrant:
    """RFC 6749 section 4.4."""

    def __init__(self, server: AuthorizationServer) -> None:
        self._server = server

    async def request(self, challenge: Challenge | None) -> Token:
        resource, server = await self._server.find(challenge)
        fields = {"grant_type": "client_credentials", **self._server.fields(resource, challenge)}
        http, client = self._server.http, self._server.client
        try:
            return await request_token(
                http, server.token_url, fields, client, server.client_authentication, server.issuer
            )
        except BaseException:
            self._server.forget()
            raise


class TokenExchangeGrant:
    """RFC 8693: a token of the caller becomes one for the upstream. ``subject_token`` is the caller's latest."""

    def __init__(self, server: AuthorizationServer, audience: str, subject_token: str) -> None:
        self._server = server
        self._audience = audience
        self.subject_token = subject_token

    async def request(self, challenge: Challenge | None) -> Token:
        resource, server = await self._server.find(challenge)
        fields = {
            "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
            "subject_token": self.subject_token,
            "subject_token_type": _ACCESS_TOKEN,
            "requested_token_type": _ACCESS_TOKEN,
            **self._server.fields(resource, challenge),
        }
        if self._audience:
            fields["audience"] = self._audience
        http, client = self._server.http, self._server.client
        return await request_token(http, server.token_url, fields, client, server.client_authentication, server.issuer)


def _choose(issuers: tuple[str, ...], named: str) -> str:
    """Return the authorization server to use of those that the upstream has: the one that its entry names."""
    if not named:
        return issuers[0]
    found = [one for one in issuers if one.rstrip("/") == named.rstrip("/")]
    if not found:
        raise OAuthError(f"the upstream does not name the authorization server {named}, but {', '.join(issuers)}")
    return found[0]
