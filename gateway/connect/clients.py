"""How the gateway introduces itself to an authorization server: as the client that the entry names, by a metadata
document, or by registration (specification 2026-07-28, authorization, "Client Registration Approaches")."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from shared.oauth.http import OAuthError, OAuthHttp
from shared.oauth.metadata import Server
from shared.oauth.tokens import Client
from shared.registry.credentials import CredentialStore
from shared.upstream_auth import UserAuth

DOCUMENT_PATH = "/connect/client.json"
CALLBACK_PATH = "/connect/callback"
_ID_LIMIT = 2048
_REGISTERED = "client."
_MOST_REGISTERED = 20
"""How many registrations are kept for one upstream: there is one for each URL at which a browser has seen the gateway,
and where no ``publicUrl`` is set, a client may write any address into ``Host``."""


class _Registered(Struct, frozen=True):
    """A client that was registered. ``redirect`` is the callback that it was registered with."""

    client: Client
    redirect: str


def document(base: str, name: str) -> dict[str, Any]:
    """Return what the gateway says about itself as a client (RFC 7591 section 2)."""
    return {
        "client_name": name,
        "redirect_uris": [base + CALLBACK_PATH],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
    }


async def client_for(
    upstream: str, auth: UserAuth, server: Server, http: OAuthHttp, store: CredentialStore, base: str, name: str
) -> Client:
    """Return the client as which the gateway sends a caller to an authorization server. Raises ``OAuthError``."""
    if auth.client_id:
        return Client(auth.client_id, auth.client_secret)
    if server.takes_metadata_documents and urlsplit(base).scheme == "https":
        return Client(base + DOCUMENT_PATH)
    if not server.registration_url:
        raise OAuthError(
            f"{server.issuer} registers no clients: register the gateway there with the redirect URI "
            f"{base + CALLBACK_PATH}, and write clientId (and clientSecret) into auth"
        )
    place = _REGISTERED + hashlib.sha256(f"{server.issuer} {base}".encode()).hexdigest()[:32]
    known = await store.read(upstream, place, _Registered)
    if known is not None and known.redirect == base + CALLBACK_PATH:
        return known.client
    client = await _register(server, http, document(base, name))
    registered = [one for one in await store.places(upstream) if one.startswith(_REGISTERED)]
    for old in registered[
        : max(0, len(registered) - _MOST_REGISTERED + 1)
    ]:  # what was given to them is renewed as before
        await store.remove(upstream, old)
    await store.write(upstream, place, _Registered(client, base + CALLBACK_PATH))
    return client


async def _register(server: Server, http: OAuthHttp, said: dict[str, Any]) -> Client:
    status, found = await http.post_json(server.registration_url, said)
    id = found.get("client_id") if isinstance(found, dict) else None
    if status not in (200, 201) or not isinstance(id, str) or not id or len(id) > _ID_LIMIT:
        raise OAuthError(
            f"{server.issuer} does not register the gateway (HTTP {status}): register it there with the redirect URI "
            f"{said['redirect_uris'][0]}, and write clientId into auth"
        )
    secret = found.get("client_secret")
    return Client(id, secret if isinstance(secret, str) else "")
