"""Makes the credentials of an upstream from its entry."""

from __future__ import annotations

import hashlib

import msgspec

from shared.connections import HttpConnection, origin_of
from shared.egress import Egress
from shared.oauth.consent import base_url
from shared.oauth.http import OAuthHttp
from shared.oauth.tokens import Token
from shared.registry.credentials import CredentialStore
from shared.settings import Settings, UpstreamSettings
from shared.upstream_auth import TokenExchange, UserAuth
from worker.credentials.consent import ConsentedCredentials
from worker.credentials.grants import (
    Assertions,
    AuthorizationServer,
    ClientCredentialsGrant,
    IdentityAssertionGrant,
    TokenExchangeGrant,
)
from worker.credentials.personal import ExchangedCredentials, PersonalCredentials
from worker.credentials.renewal import Renewal
from worker.credentials.source import Credentials


def of_gateway(
    upstream: str, connection: HttpConnection, settings: UpstreamSettings, store: CredentialStore | None
) -> Credentials:
    """Return the credentials of the gateway itself. The upstream's entry has an ``auth``. Without a store each process
    has tokens of its own."""
    return _own(upstream, connection, _server(connection, settings), store)


def of_callers(
    upstream: str, connection: HttpConnection, settings: Settings, store: CredentialStore | None
) -> PersonalCredentials:
    """Return the credentials of an upstream that is called in the name of each caller."""
    auth = connection.auth
    if isinstance(auth, UserAuth):
        assert store is not None
        http = _http(connection, settings.upstreams).within(auth.issuer or connection.url)
        return ConsentedCredentials(upstream, connection, http, store, base_url(settings.service))
    server = _server(connection, settings.upstreams)
    assert isinstance(auth, TokenExchange)
    audience, provider = auth.audience, auth.identity_provider
    own = _own(upstream, connection, server, store)
    if provider is None:
        return ExchangedCredentials(upstream, own, lambda token: TokenExchangeGrant(server, audience, token))
    assertions = Assertions(provider, _http(connection, settings.upstreams))
    return ExchangedCredentials(
        upstream, own, lambda token: IdentityAssertionGrant(assertions, server, audience, token)
    )


def _server(connection: HttpConnection, settings: UpstreamSettings) -> AuthorizationServer:
    assert connection.auth is not None and not isinstance(connection.auth, UserAuth)
    return AuthorizationServer(connection.url, connection.auth, _http(connection, settings))


def _http(connection: HttpConnection, settings: UpstreamSettings) -> OAuthHttp:
    egress = Egress(settings.egress_allow, settings.egress_deny)
    return OAuthHttp(egress, connection.tls.ca_file if connection.tls is not None else "")


def _own(
    upstream: str, connection: HttpConnection, server: AuthorizationServer, store: CredentialStore | None
) -> Renewal:
    shared = _Shared(store, upstream, place_of(connection)) if store is not None else None
    return Renewal(upstream, ClientCredentialsGrant(server), shared)


def place_of(connection: HttpConnection, principal: str = "") -> str:
    """Return where the token for an entry is kept: an entry that is changed does not find the one of before."""
    said = [*map(str, origin_of(connection.url)), msgspec.json.encode(connection.auth).decode(), principal]
    return hashlib.sha256(msgspec.json.encode(said)).hexdigest()[:32]


class _Shared:
    """Implements ``renewal.SharedToken``."""

    def __init__(self, store: CredentialStore, upstream: str, place: str) -> None:
        self._store = store
        self._upstream = upstream
        self._place = place

    async def read(self) -> Token | None:
        return await self._store.read(self._upstream, self._place, Token)

    async def write(self, token: Token) -> None:
        await self._store.write(self._upstream, self._place, token)

    async def lock(self, holder: str, limit_s: float) -> bool:
        return await self._store.lock(self._upstream, self._place, holder, limit_s)

    async def unlock(self, holder: str) -> None:
        await self._store.unlock(self._upstream, self._place, holder)
