"""How a token for an upstream is requested. Implements ``renewal.Grant``."""

from __future__ import annotations

import time

from shared.oauth.challenges import Challenge
from shared.oauth.http import OAuthError, OAuthHttp
from shared.oauth.metadata import Resource, Server, check_trusted, resource_of, server_of
from shared.oauth.tokens import Client, Token, request_token
from shared.upstream_auth import IdentityProvider, ServiceAuth

_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
_JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_TYPES = "urn:ietf:params:oauth:token-type:"
_ACCESS_TOKEN, _ID_JAG = f"{_TYPES}access_token", f"{_TYPES}id-jag"
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
            "grant_type": _EXCHANGE,
            "subject_token": self.subject_token,
            "subject_token_type": _ACCESS_TOKEN,
            "requested_token_type": _ACCESS_TOKEN,
            **self._server.fields(resource, challenge),
        }
        if self._audience:
            fields["audience"] = self._audience
        http, client = self._server.http, self._server.client
        return await request_token(http, server.token_url, fields, client, server.client_authentication, server.issuer)


class Assertions:
    """The server at which callers sign in, as the gateway asks it for assertions of who a caller is."""

    def __init__(self, provider: IdentityProvider, http: OAuthHttp) -> None:
        self._provider = provider
        self._http = http if provider.token_url else http.within(provider.issuer)
        self._found: Server | None = None
        self._found_at = 0.0

    async def request(self, subject_token: str, audience: str, fields: dict[str, str]) -> str:
        """Return an assertion of whose token this is, for the server ``audience``. Raises ``OAuthError``."""
        provider = self._provider
        server = await self._find()
        asked = {
            "grant_type": _EXCHANGE,
            "requested_token_type": _ID_JAG,
            "audience": audience,
            "subject_token": subject_token,
            "subject_token_type": _TYPES + provider.subject_token_type,
            **fields,
        }
        client = Client(provider.client_id, provider.client_secret, provider.private_key_file, provider.key_id)
        given = await request_token(
            self._http, server.token_url, asked, client, server.client_authentication, server.issuer, _ID_JAG
        )
        return given.access

    async def _find(self) -> Server:
        if self._provider.token_url:
            return Server(self._provider.issuer, self._provider.token_url)
        if self._found is None or time.monotonic() - self._found_at > _FRESH_S:
            self._found = await server_of(self._http, self._provider.issuer)
            self._found_at = time.monotonic()
        return self._found


class IdentityAssertionGrant(TokenExchangeGrant):
    """A caller's token becomes an assertion for the upstream's authorization server, and that a token for the upstream
    (draft-ietf-oauth-identity-assertion-authz-grant; the MCP extension "Enterprise-Managed Authorization")."""

    def __init__(self, assertions: Assertions, server: AuthorizationServer, audience: str, subject_token: str) -> None:
        super().__init__(server, audience, subject_token)
        self._assertions = assertions

    async def request(self, challenge: Challenge | None) -> Token:
        resource, server = await self._server.find(challenge)
        fields = self._server.fields(resource, challenge)
        assertion = await self._assertions.request(self.subject_token, self._audience or server.issuer, fields)
        asked = {"grant_type": _JWT_BEARER, "assertion": assertion, **fields}
        http, client = self._server.http, self._server.client
        return await request_token(http, server.token_url, asked, client, server.client_authentication, server.issuer)


def _choose(issuers: tuple[str, ...], named: str) -> str:
    """Return the authorization server to use of those that the upstream has: the one that its entry names."""
    if not named:
        return issuers[0]
    found = [one for one in issuers if one.rstrip("/") == named.rstrip("/")]
    if not found:
        raise OAuthError(f"the upstream does not name the authorization server {named}, but {', '.join(issuers)}")
    return found[0]
