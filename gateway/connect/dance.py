"""The authorization code flow with PKCE (RFC 6749 section 4.1, RFC 7636), between a caller's browser, the gateway and
the authorization server of an upstream.

What is to be remembered from the beginning to the end travels sealed in ``state``, so any front end can finish what
another began. A cookie ties both ends to one browser. The code goes to the server at which the flow began, and only if
the answer says that it is from there (RFC 9207). Raises ``ConnectError`` and ``OAuthError``.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from urllib.parse import urlencode

from msgspec import Struct

from gateway.connect.clients import CALLBACK_PATH, client_for
from gateway.fleet.registry_view import RegistryView
from shared.connections import HttpConnection
from shared.egress import Egress
from shared.oauth.consent import STATE, TICKET, Consent, Ticket, new_ticket, place_of_user
from shared.oauth.http import OAuthError, OAuthHttp
from shared.oauth.metadata import Resource, Server, check_trusted, resource_of, server_of
from shared.oauth.tokens import Client, request_token
from shared.registry.credentials import CredentialStore
from shared.settings import Settings
from shared.upstream_auth import UserAuth

_FLOW_S = 900.0
"""How long a person may take to sign in."""
_AT_ONCE = 4
"""How many flows of one upstream begin at once. Each asks several servers, which may take ten seconds to answer, and a
link may be used again and again."""


class ConnectError(Exception):
    """A caller cannot connect; the text is for the person before the browser. ``status`` is the HTTP status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def unknown() -> ConnectError:
    """Return the error for an upstream to which nobody connects, or that the caller may not know of."""
    return ConnectError(404, "There is no server of this name to which accounts are connected.")


class _Flow(Struct, frozen=True, array_like=True):
    """One caller on the way through a browser."""

    upstream: str
    principal: str
    place: str
    verifier: str
    browser: str
    expires: float
    issuer: str
    token_url: str
    client: Client
    redirect: str
    resource: str
    methods: tuple[str, ...]
    names_issuer: bool


class Began(Struct, frozen=True):
    """Where the browser goes now, and the cookie with which it has to come back."""

    url: str
    browser: str


class Dance:
    """Connects callers."""

    def __init__(self, settings: Settings, registry: RegistryView, store: CredentialStore) -> None:
        self._settings = settings
        self._registry = registry
        self._store = store
        self._turns: dict[str, asyncio.Semaphore] = {}

    def shown(self, upstream: str) -> str:
        """Return the host of an upstream to which callers connect. Raises ``ConnectError``."""
        connection, _ = self._entry(upstream)
        return connection.url.partition("://")[2].partition("/")[0].rpartition("@")[2]

    def _entry(self, upstream: str) -> tuple[HttpConnection, UserAuth]:
        record = self._registry.records.get(upstream)
        connection = record.spec.connection if record is not None else None
        if not isinstance(connection, HttpConnection) or not isinstance(connection.auth, UserAuth):
            raise unknown()
        return connection, connection.auth

    def group(self, upstream: str) -> str:
        """Return the group of an upstream to which callers connect. Raises ``ConnectError``."""
        self._entry(upstream)
        return self._registry.records[upstream].spec.name

    # ---- links

    def ticket(self, upstream: str, principal: str) -> str:
        """Return the sealed right to connect as a principal. Raises ``ConnectError``."""
        self._entry(upstream)
        return self._store.seal(new_ticket(upstream, principal), TICKET)

    def read_ticket(self, upstream: str, text: str) -> Ticket:
        """Return what a link says. Raises ``ConnectError``."""
        ticket = self._store.unseal(text, Ticket, TICKET)
        if ticket is None or ticket.upstream != upstream or ticket.expires < time.time():
            raise ConnectError(403, "This link has expired, or was never one. Try again what you wanted to do.")
        return ticket

    async def connected(self, upstream: str, principal: str) -> bool:
        """Whether a principal has connected. Raises ``ConnectError``, ``RegistryUnavailable``."""
        connection, _ = self._entry(upstream)
        return await self._store.read(upstream, place_of_user(connection, principal), Consent) is not None

    async def disconnect(self, upstream: str, principal: str) -> None:
        """Forget what a principal was given. Raises ``ConnectError``, ``RegistryUnavailable``."""
        connection, _ = self._entry(upstream)
        await self._store.remove(upstream, place_of_user(connection, principal))

    # ---- the flow

    async def begin(self, ticket: Ticket, base: str) -> Began:
        """Return where to send the browser. ``base`` is the gateway's own URL as the browser knows it."""
        self._entry(ticket.upstream)
        async with self._turns.setdefault(ticket.upstream, asyncio.Semaphore(_AT_ONCE)):
            return await self._begin(ticket, base)

    async def _begin(self, ticket: Ticket, base: str) -> Began:
        connection, auth = self._entry(ticket.upstream)
        http = self._http(connection)
        resource = await resource_of(http, connection.url)
        http = http.within(auth.issuer or connection.url)
        server = await server_of(http, self._issuer(resource, auth, connection.url))
        if not server.authorization_url or "S256" not in server.challenge_methods:
            raise OAuthError(f"{server.issuer} offers no authorization code with PKCE (S256)")
        name = self._settings.service.name
        client = await client_for(ticket.upstream, auth, server, http, self._store, base, name)
        verifier, browser = secrets.token_urlsafe(48), secrets.token_urlsafe(24)
        flow = _Flow(
            ticket.upstream,
            ticket.principal,
            place_of_user(connection, ticket.principal),
            verifier,
            browser,
            time.time() + _FLOW_S,
            server.issuer,
            server.token_url,
            client,
            base + CALLBACK_PATH,
            auth.resource or resource.resource,
            server.client_authentication,
            server.names_issuer,
        )
        return Began(self._request(flow, server, " ".join(auth.scopes or resource.scopes)), browser)

    def _request(self, flow: _Flow, server: Server, scope: str) -> str:
        digest = hashlib.sha256(flow.verifier.encode()).digest()
        fields = {
            "response_type": "code",
            "client_id": flow.client.id,
            "redirect_uri": flow.redirect,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            "state": self._store.seal(flow, STATE),
            "scope": scope,
            "resource": flow.resource,
        }
        query = urlencode({key: value for key, value in fields.items() if value})
        return f"{server.authorization_url}{'&' if '?' in server.authorization_url else '?'}{query}"

    def _issuer(self, resource: Resource, auth: UserAuth, url: str) -> str:
        if auth.issuer or auth.client_secret:  # the operator's secret goes where the operator meant it to go
            named = [one for one in resource.issuers if one.rstrip("/") == auth.issuer.rstrip("/")]
            issuer = named[0] if named else resource.issuers[0]
            check_trusted(issuer, url, auth.issuer)
            return issuer
        return resource.issuers[0]

    async def finish(self, answer: Mapping[str, str], browser: str) -> str:
        """Return the upstream to which a caller is connected now. ``answer`` is the query of the callback, ``browser``
        the cookie."""
        flow = self._store.unseal(answer.get("state", ""), _Flow, STATE)
        if flow is None or flow.expires < time.time():
            raise ConnectError(403, "This answer belongs to no sign-in that began here, or it took too long.")
        if not hmac.compare_digest(flow.browser.encode(), browser.encode("utf-8", "surrogatepass")):
            raise ConnectError(403, "This sign-in began in another browser. Begin again in this one.")
        issuer = answer.get("iss")
        if (issuer is None and flow.names_issuer) or (issuer is not None and issuer != flow.issuer):
            raise ConnectError(403, "The answer is from another server than the one where the sign-in began.")
        code = answer.get("code", "")
        if not code:
            said = answer.get("error", "")[:64]
            raise ConnectError(
                400, f"The server did not allow it{f' ({said})' if said.isprintable() and said else ''}."
            )
        connection, auth = self._entry(flow.upstream)
        if place_of_user(connection, flow.principal) != flow.place:
            raise ConnectError(409, "The server's entry was changed meanwhile. Begin again.")
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": flow.redirect,
            "code_verifier": flow.verifier,
            "resource": flow.resource,
        }
        fields = {key: value for key, value in fields.items() if value}
        http = self._http(connection).within(auth.issuer or connection.url)
        token = await request_token(http, flow.token_url, fields, flow.client, flow.methods, flow.issuer)
        consent = Consent(token, flow.issuer, flow.token_url, flow.client, flow.resource, flow.methods)
        await self._store.write(flow.upstream, flow.place, consent)
        await self._store.announce(flow.upstream)
        return flow.upstream

    def _http(self, connection: HttpConnection) -> OAuthHttp:
        rules = self._settings.upstreams
        egress = Egress(rules.egress_allow, rules.egress_deny)
        return OAuthHttp(egress, connection.tls.ca_file if connection.tls is not None else "")
