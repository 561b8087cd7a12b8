"""What one caller was given for an upstream, and the links by which a caller connects. Pure values.

Counterparts: ``gateway.connect`` makes these with the caller's browser, ``worker.credentials.consent`` uses them.
"""

from __future__ import annotations

import hashlib
import time
from urllib.parse import quote

import msgspec
from msgspec import Struct, structs

from shared.connections import HttpConnection, origin_of
from shared.oauth.tokens import Client, Token
from shared.settings import ServiceSettings

TICKET = b"connect: ticket"
STATE = b"connect: state"
TICKET_S = 900.0
"""How long a link to connect by can be used. The client may have to find its user first."""


class Ticket(Struct, frozen=True, array_like=True):
    """Who may connect to which upstream with a link. ``expires`` is Unix seconds."""

    upstream: str
    principal: str
    expires: float


class Consent(Struct, frozen=True):
    """What an authorization server gave, and where it is renewed: by the server that gave it, whatever the upstream
    says later."""

    token: Token
    issuer: str
    token_url: str
    client: Client
    resource: str = ""
    methods: tuple[str, ...] = ()

    def renewed(self, token: Token) -> Consent:
        """Return the consent with a newer token. A server that sends no new refresh token means the old one."""
        if not token.refresh:
            token = structs.replace(token, refresh=self.token.refresh)
        return structs.replace(self, token=token)


def place_of_user(connection: HttpConnection, principal: str) -> str:
    """Return where the consent of a caller is kept: an entry that leads elsewhere does not find the one of before."""
    said = [*map(str, origin_of(connection.url)), msgspec.json.encode(connection.auth).decode(), principal]
    return "user." + hashlib.sha256(msgspec.json.encode(said)).hexdigest()[:32]


def base_url(service: ServiceSettings) -> str:
    """Return where browsers see the gateway, as far as the settings say."""
    if service.public_url:
        return service.public_url.rstrip("/")
    host = "127.0.0.1" if service.host in ("", "0.0.0.0", "::") else service.host
    return f"http://{f'[{host}]' if ':' in host else host}:{service.port}"


def new_ticket(upstream: str, principal: str) -> Ticket:
    """Return a ticket that is good from now on for a while."""
    return Ticket(upstream, principal, time.time() + TICKET_S)


def connect_url(base: str, upstream: str, ticket: str = "") -> str:
    """Return the link by which a caller connects."""
    return f"{base}/connect/{quote(upstream, safe='')}" + (f"?ticket={ticket}" if ticket else "")
