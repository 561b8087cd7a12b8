"""Which authorization server an upstream has, and what that one offers (RFC 9728, RFC 8414, OpenID Connect Discovery).

An upstream may name any authorization server, so what it names is checked: the metadata must be about that upstream
and that issuer, addresses must be as safe as the upstream's own, and no secret of the operator goes to a server that
the operator did not name (``check_trusted``). Raises ``OAuthError``.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, urlsplit

from msgspec import Struct

from shared.connections import origin_of
from shared.loopback import is_loopback_host
from shared.oauth.http import OAuthError, OAuthHttp, shown_url

_WEB = ("http", "https")
_MOST = 100
"""How many elements of a list in metadata are read."""


class Resource(Struct, frozen=True):
    """What an upstream says about itself (RFC 9728 section 2). Without metadata it is its own authorization server."""

    resource: str
    issuers: tuple[str, ...]
    scopes: tuple[str, ...] = ()


class Server(Struct, frozen=True):
    """What an authorization server says about itself (RFC 8414 section 2)."""

    issuer: str
    token_url: str
    authorization_url: str = ""
    registration_url: str = ""
    client_authentication: tuple[str, ...] = ()
    names_issuer: bool = False
    """Whether it sends ``iss`` with its answers (RFC 9207)."""
    takes_metadata_documents: bool = False
    """Whether a client id may be the URL of a document about the client."""
    challenge_methods: tuple[str, ...] = ()


async def resource_of(http: OAuthHttp, url: str, named: str = "") -> Resource:
    """Return what the upstream at ``url`` says about itself. ``named`` is ``resource_metadata`` of its challenge, which
    is read only on the upstream's own origin. Where nothing is at the usual places, the upstream is asked for it."""
    parts = urlsplit(url)
    origin = _origin(parts)
    path = parts.path.rstrip("/")
    usual = [f"{origin}/.well-known/oauth-protected-resource{path}", f"{origin}/.well-known/oauth-protected-resource"]
    for place in [named] if named else dict.fromkeys(usual):
        found = await _resource_at(http, place, url)
        if found is not None:
            return found
    if not named:
        named = (await http.challenge(url)).resource_metadata
        found = await _resource_at(http, named, url) if named else None
        if found is not None:
            return found
    return Resource("", (origin,))  # before 2025-06-18 the upstream was its own authorization server


async def _resource_at(http: OAuthHttp, place: str, url: str) -> Resource | None:
    if not _same_origin(place, url):
        raise OAuthError(f"the upstream names metadata at another origin, {shown_url(place)}, which is not read")
    status, document = await http.get(place)
    if status != 200 or not isinstance(document, dict):
        return None
    resource = document.get("resource")
    if not isinstance(resource, str) or not _is_of(resource, url):
        raise OAuthError(f"{place} is about another resource, {str(resource)[:200]!r}")
    servers = _texts(document.get("authorization_servers"))
    for one in servers:
        _check_as_safe(one, url)
    return Resource(resource, servers or (_origin(urlsplit(url)),), _texts(document.get("scopes_supported")))


async def server_of(http: OAuthHttp, issuer: str) -> Server:
    """Return what the authorization server ``issuer`` says about itself."""
    parts = urlsplit(issuer)
    origin, path = _origin(parts), parts.path.rstrip("/")
    places = (
        f"{origin}/.well-known/oauth-authorization-server{path}",
        f"{origin}/.well-known/openid-configuration{path}",
        f"{origin}{path}/.well-known/openid-configuration",
    )
    for place in dict.fromkeys(places):
        status, found = await http.get(place)
        if status != 200 or not isinstance(found, dict):
            continue
        if found.get("issuer") != issuer and str(found.get("issuer")).rstrip("/") != issuer.rstrip("/"):
            raise OAuthError(f"{place} is the metadata of another issuer, {str(found.get('issuer'))[:200]!r}")
        return _server(found, issuer)
    raise OAuthError(f"{shown_url(issuer)} has no metadata (RFC 8414); give 'tokenUrl' in auth")


def check_trusted(issuer: str, url: str, trusted: str) -> None:
    """Raise ``OAuthError`` unless an authorization server that the upstream at ``url`` named may get what the operator
    entrusted to the gateway: it is on the upstream's own origin, or the operator named it."""
    if trusted and trusted.rstrip("/") == issuer.rstrip("/"):
        return
    if trusted:
        raise OAuthError(f"the upstream names the authorization server {issuer}, and its entry {trusted}")
    if not _same_origin(issuer, url):
        raise OAuthError(
            f"the upstream names the authorization server {issuer}, which is another origin: write "
            f'"issuer": "{issuer}" into auth if that one may have the client\'s credentials'
        )


def _server(found: dict[str, Any], issuer: str) -> Server:
    addresses = {}
    for name in ("token_endpoint", "authorization_endpoint", "registration_endpoint"):
        value = found.get(name)
        if value is None:
            continue
        if not isinstance(value, str):
            raise OAuthError(f"{issuer} has a {name} that is no URL")
        _check_as_safe(value, issuer)
        addresses[name] = value
    if "token_endpoint" not in addresses:
        raise OAuthError(f"{issuer} has no token_endpoint")
    return Server(
        str(found["issuer"]),
        addresses["token_endpoint"],
        addresses.get("authorization_endpoint", ""),
        addresses.get("registration_endpoint", ""),
        _texts(found.get("token_endpoint_auth_methods_supported")),
        found.get("authorization_response_iss_parameter_supported") is True,
        found.get("client_id_metadata_document_supported") is True,
        _texts(found.get("code_challenge_methods_supported")),
    )


def _check_as_safe(url: str, named_by: str) -> None:
    """Raise ``OAuthError`` unless ``url`` is as safe as the address that named it: encrypted if that is, and on this
    machine only if that is."""
    try:
        parts, by = urlsplit(url), urlsplit(named_by)
        fits = parts.scheme in _WEB and bool(parts.hostname) and parts.port != 0
        fits = fits and url.isascii() and url.isprintable() and " " not in url  # it may go into a header
    except ValueError:
        fits = False
    if not fits or parts.username is not None:
        raise OAuthError(f"{shown_url(named_by)} names {url[:200]!r}, which is no web address")
    if parts.scheme != "https" and by.scheme == "https":
        raise OAuthError(f"{shown_url(named_by)} names {shown_url(url)}, which is not encrypted")
    if is_loopback_host(parts.hostname or "") and not is_loopback_host(by.hostname or ""):
        raise OAuthError(f"{shown_url(named_by)} names an address of this machine, {shown_url(url)}")


def _is_of(resource: str, url: str) -> bool:
    """Whether a resource identifier is that of the upstream at ``url``, or of a part of its origin around it."""
    try:
        if origin_of(resource) != origin_of(url):
            return False
    except ValueError:
        return False
    inner, outer = urlsplit(url).path.rstrip("/") + "/", urlsplit(resource).path.rstrip("/") + "/"
    return inner.startswith(outer)


def _same_origin(one: str, other: str) -> bool:
    try:
        return origin_of(one) == origin_of(other)
    except ValueError:
        return False


def _origin(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _texts(found: Any) -> tuple[str, ...]:
    return tuple(one for one in found[:_MOST] if isinstance(one, str)) if isinstance(found, list) else ()
