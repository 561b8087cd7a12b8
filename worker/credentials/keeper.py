"""Makes the credentials of an upstream from its entry."""

from __future__ import annotations

import hashlib

import msgspec

from shared.connections import HttpConnection, origin_of
from shared.egress import Egress
from shared.oauth.http import OAuthHttp
from shared.oauth.tokens import Token
from shared.registry.credentials import CredentialStore
from shared.settings import UpstreamSettings
from worker.credentials.grants import AuthorizationServer, ClientCredentialsGrant
from worker.credentials.renewal import Renewal
from worker.credentials.source import Credentials


def make(
    upstream: str, connection: HttpConnection, settings: UpstreamSettings, store: CredentialStore | None
) -> Credentials:
    """Return the credentials by which the gateway itself calls an upstream. Its entry has an ``auth``."""
    assert connection.auth is not None
    egress = Egress(settings.egress_allow, settings.egress_deny)
    http = OAuthHttp(egress, connection.tls.ca_file if connection.tls is not None else "")
    server = AuthorizationServer(connection.url, connection.auth, http)
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
