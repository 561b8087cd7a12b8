"""In whose name an HTTP upstream is called: the member ``auth`` of an entry. Pure.

``type`` chooses: ``clientCredentials`` (RFC 6749 section 4.4) is a service of its own, ``tokenExchange`` (RFC 8693) the
caller of each call, and so is ``user``, after each caller has consented once (authorization code). No secret appears in
a ``repr`` or in ``public()``. Counterparts: ``worker.credentials``, which gets the tokens, and ``gateway.connect``.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

_PRINTABLE = re.compile(r"[\x20-\x7e]+")
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_WEB = ("http", "https")
SECRETS = ("clientSecret",)
"""The members that are masked wherever an entry is shown."""


class _ServiceClient(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, tag_field="type"):
    """How the gateway proves to an authorization server who it is, and what it asks for."""

    client_id: str
    client_secret: str = ""
    private_key_file: str = ""
    key_id: str = ""
    token_url: str = ""
    issuer: str = ""
    scopes: tuple[str, ...] = ()
    resource: str = ""


class ClientCredentials(_ServiceClient, frozen=True, tag="clientCredentials"):
    """The gateway itself is the client of an authorization server, and calls the upstream in its own name.

    It proves itself by ``client_secret``, or by the key in ``private_key_file`` (PEM, on the worker's host; RFC 7523),
    whose id is ``key_id``. ``token_url`` is found through the upstream (RFC 9728, RFC 8414) if it is empty. ``issuer``
    names the authorization server that may be found so; without it only one on the upstream's own origin is used.
    ``scopes`` are asked for and never more than these; without any, those for which the upstream asks. ``resource`` is
    sent with requests for tokens (RFC 8707); by default the identifier that the upstream has published.
    """

    def __repr__(self) -> str:
        return f"ClientCredentials({self.client_id!r})"


class TokenExchange(_ServiceClient, frozen=True, tag="tokenExchange"):
    """The upstream is called in the name of whoever calls the gateway: the caller's access token is exchanged for one
    that is meant for the upstream (RFC 8693). Members are those of ``ClientCredentials``; with the same client the
    gateway lists and probes the upstream in its own name. ``audience`` is sent with the exchange if it is set.
    """

    audience: str = ""

    def __repr__(self) -> str:
        return f"TokenExchange({self.client_id!r})"


class UserAuth(Struct, frozen=True, rename="camel", forbid_unknown_fields=True, tag_field="type", tag="user"):
    """Each caller connects once, in a browser (authorization code with PKCE), and the upstream is called with what that
    caller was given. Without ``client_id`` the gateway introduces itself to the authorization server, by a metadata
    document or by registration (RFC 7591). The other members are those of ``ClientCredentials``.
    """

    client_id: str = ""
    client_secret: str = ""
    issuer: str = ""
    scopes: tuple[str, ...] = ()
    resource: str = ""

    def __repr__(self) -> str:
        return f"UserAuth({self.client_id!r})"


ServiceAuth = ClientCredentials | TokenExchange
Auth = ClientCredentials | TokenExchange | UserAuth
TYPES = ("clientCredentials", "tokenExchange", "user")


def is_personal(auth: Auth | None) -> bool:
    """Whether an upstream is called with credentials of each caller."""
    return isinstance(auth, TokenExchange | UserAuth)


def parse_auth(raw: Any) -> Auth:
    """Return the checked ``auth`` of an entry. Raises ``ValueError`` that says what is wrong and how to correct it."""
    if not isinstance(raw, dict) or raw.get("type") not in TYPES:
        given = raw.get("type") if isinstance(raw, dict) else None
        said = f"there is no type {given!r}" if given is not None else "it must be an object with a type"
        raise ValueError(f"auth: {said}; types: {', '.join(TYPES)}")
    try:
        auth: Auth = msgspec.convert(raw, Auth)
    except msgspec.ValidationError as error:
        raise ValueError(f"auth: {_words(str(error))}") from None
    problem = _problem(auth)
    if problem:
        raise ValueError(f"auth.{problem}")
    return auth


def check_alone(raw: Any, url: str, headers: Any) -> None:
    """Raise ``ValueError`` if an entry says in two ways what ``Authorization`` is sent."""
    if raw and urlsplit(url).username is not None:
        raise ValueError("auth: the URL has a user name, which would be sent too; keep one of the two")
    if raw and isinstance(headers, dict) and any(str(name).lower() == "authorization" for name in headers):
        raise ValueError("auth: the header Authorization is set as well; keep one of the two")


def public_auth(auth: Auth, mask: str) -> dict[str, Any]:
    """Return what may be shown of ``auth``: its members that are set, with ``mask`` for secrets."""
    shown = {name: value for name, value in msgspec.to_builtins(auth).items() if value}
    return {name: mask if name in SECRETS else value for name, value in shown.items()}


def notes_of(auth: Auth) -> tuple[str, ...]:
    """Return what of ``auth`` is weaker than it seems."""
    if isinstance(auth, UserAuth):
        return ()
    if auth.token_url and urlsplit(auth.token_url).scheme != "https":
        return ("auth.tokenUrl is not https: whoever can read that connection has the client's secret and its tokens",)
    return ()


def _words(text: str) -> str:
    """Return a message of msgspec in the words of the other problems."""
    return text.replace("Object ", "it ").replace(" - at `$.", ", at `")


def _problem(auth: Auth) -> str:
    needs_client = not isinstance(auth, UserAuth)
    if (needs_client or auth.client_id) and not _PRINTABLE.fullmatch(auth.client_id):
        return "clientId must be printable ASCII, and not empty"
    if isinstance(auth, UserAuth):
        if auth.client_secret and not auth.client_id:
            return "clientSecret is that of the client in clientId, which is not given"
    elif bool(auth.client_secret) == bool(auth.private_key_file):
        return "clientSecret: give this or privateKeyFile, one of the two"
    elif auth.key_id and not auth.private_key_file:
        return "keyId names the key in privateKeyFile, which is not given"
    for scope in auth.scopes:
        if not _SCOPE.fullmatch(scope):
            return f"scopes: {scope!r} is not a scope; write one in each element"
    token_url = "" if isinstance(auth, UserAuth) else auth.token_url
    for name, value in (("tokenUrl", token_url), ("issuer", auth.issuer)):
        if value and not _is_web(value):
            return f"{name}: {value!r} is not an http(s):// address without user name and fragment"
    if auth.resource and (not urlsplit(auth.resource).scheme or "#" in auth.resource):
        return f"resource: {auth.resource!r} is not an absolute URI without fragment (RFC 8707)"
    return ""


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = parts.username is None and not parts.fragment and port != 0
    return parts.scheme in _WEB and bool(parts.hostname) and plain
