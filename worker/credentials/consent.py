"""``user``: the upstream is called with what each caller was given when the caller connected in a browser.

Tokens are kept in Redis, sealed; refresh tokens may be good only once, so whoever renews one has the fleet's right to.
Counterpart: ``gateway.connect``.
"""

from __future__ import annotations

import hashlib
import logging

from shared.connections import HttpConnection
from shared.errors import CallError, NotDelivered, RegistryUnavailable
from shared.oauth.challenges import Challenge
from shared.oauth.consent import TICKET, Consent, connect_url, new_ticket, place_of_user
from shared.oauth.http import OAuthError, OAuthHttp
from shared.oauth.tokens import Token, request_token
from shared.registry.credentials import CredentialStore
from worker.credentials.personal import REFUSED
from worker.credentials.renewal import Renewal
from worker.credentials.source import Credentials

_log = logging.getLogger(__name__)


class _Kept:
    """The consent at one place in Redis. Implements ``renewal.Grant`` and ``renewal.SharedToken``."""

    def __init__(self, upstream: str, place: str, http: OAuthHttp, store: CredentialStore) -> None:
        self._upstream = upstream
        self._place = place
        self._http = http
        self._store = store

    async def consent(self) -> Consent | None:
        """Return what is kept. Raises ``RegistryUnavailable``."""
        return await self._store.read(self._upstream, self._place, Consent)

    async def request(self, challenge: Challenge | None) -> Token:
        try:
            consent = await self.consent()
        except RegistryUnavailable as error:
            raise OAuthError("Redis does not answer, where its tokens are") from error
        if consent is None:
            raise OAuthError("the caller has not connected to it")
        if challenge is not None and challenge.status == 403 and challenge.scope:
            raise OAuthError(f"it needs the scope {challenge.scope!r}: add it to auth.scopes, and connect again")
        if not consent.token.refresh:
            await self._forget()
            raise OAuthError("the token has ended and cannot be renewed; connect again")
        fields = {"grant_type": "refresh_token", "refresh_token": consent.token.refresh}
        if consent.resource:
            fields["resource"] = consent.resource
        try:
            token = await request_token(
                self._http, consent.token_url, fields, consent.client, consent.methods, consent.issuer
            )
        except OAuthError as error:
            if error.code == "invalid_grant":
                await self._forget()
                raise OAuthError(f"{error}: it was revoked or has ended; connect again") from error
            raise
        return consent.renewed(token).token

    async def _forget(self) -> None:
        try:
            await self._store.remove(self._upstream, self._place)
        except RegistryUnavailable:
            _log.debug("%s: an ended consent stays until Redis is back", self._upstream)

    async def read(self) -> Token | None:
        consent = await self.consent()
        return consent.token if consent is not None else None

    async def write(self, token: Token) -> None:
        consent = await self.consent()
        if consent is not None:
            await self._store.write(self._upstream, self._place, consent.renewed(token))

    async def lock(self, holder: str, limit_s: float) -> bool:
        return await self._store.lock(self._upstream, self._place, holder, limit_s)

    async def unlock(self, holder: str) -> None:
        await self._store.unlock(self._upstream, self._place, holder)


class Consented(Renewal):
    """The credentials of one caller."""

    def __init__(self, upstream: str, kept: _Kept, link: str) -> None:
        super().__init__(upstream, kept, kept, REFUSED)
        self._kept = kept
        self.link = link

    def learn(self, subject_token: str) -> None:
        """Ignore it: the caller's token at the gateway is of no use here."""

    async def missing(self) -> bool:
        """Whether the caller has to connect first. While Redis is away that is not known, and the call finds out."""
        try:
            return await self._kept.consent() is None
        except RegistryUnavailable:
            return False


class ConsentedCredentials:
    """``user``. Implements ``personal.PersonalCredentials``."""

    def __init__(
        self, upstream: str, connection: HttpConnection, http: OAuthHttp, store: CredentialStore, base: str
    ) -> None:
        self._upstream = upstream
        self._connection = connection
        self._http = http
        self._store = store
        self._base = base
        self.of_gateway: Credentials = _AnyCaller(upstream, http, store, connect_url(base, upstream))

    def realm(self, principal: str, subject_token: str) -> str:
        return hashlib.sha256(principal.encode("utf-8", "surrogatepass")).hexdigest()

    def of(self, principal: str, subject_token: str) -> Consented:
        kept = _Kept(self._upstream, place_of_user(self._connection, principal), self._http, self._store)
        return Consented(self._upstream, kept, connect_url(self._base, self._upstream))

    def link(self, principal: str) -> str:
        """Return the link by which a caller connects."""
        ticket = self._store.seal(new_ticket(self._upstream, principal), TICKET)
        return connect_url(self._base, self._upstream, ticket)


class _AnyCaller:
    """Lists and probes the upstream with what some caller was given, whoever has connected. Implements
    ``source.Credentials``."""

    def __init__(self, upstream: str, http: OAuthHttp, store: CredentialStore, link: str) -> None:
        self._upstream = upstream
        self._http = http
        self._store = store
        self._link = link
        self.refused_code = "upstream_unavailable"
        self._place = ""
        self._found: Renewal | None = None

    def current(self) -> str | None:
        return self._found.current() if self._found is not None else None

    async def renewed(self, refused: str, challenge: Challenge | None) -> str | None:
        try:
            places = [one for one in await self._store.places(self._upstream) if one.startswith("user.")]
        except RegistryUnavailable as error:
            raise NotDelivered(self.refused_code, "Redis does not answer, where its tokens are") from error
        failure: CallError = NotDelivered(
            self.refused_code,
            f"nobody has connected to it yet: 'gateway connect {self._upstream}', or open {self._link}",
        )
        for place in sorted(places, key=lambda one: one != self._place):
            kept = _Kept(self._upstream, place, self._http, self._store)
            found = self._found if place == self._place and self._found is not None else None
            found = found or Renewal(self._upstream, kept, kept, self.refused_code)
            try:
                authorization = await found.renewed(refused if place == self._place else "", challenge)
            except CallError as error:
                failure = error
                continue
            if authorization is not None:
                self._place, self._found = place, found
                return authorization
        raise failure
