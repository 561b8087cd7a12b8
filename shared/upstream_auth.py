"""In whose name an HTTP upstream is called: the member ``auth`` of an entry. Pure.

``type`` chooses: ``clientCredentials`` (RFC 6749 section 4.4) is a service of its own, ``tokenExchange`` (RFC 8693) the
caller of each call, and so is ``user``, after each caller has consented once (authorization code). No secret appears in
a ``repr`` or in ``public()``. Counterparts: ``worker.credentials``, which gets the tokens, and ``gateway.connect``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal
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


class IdentityProvider(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The authorization server at which the callers sign in, where it is another than the upstream's: it gives
    assertions of who a caller is (ID-JAG, draft-ietf-oauth-identity-assertion-authz-grant).

    ``client_id`` and what proves it are those of the gateway at this server, ``subject_token_type`` says what the
    tokens are with which callers come. Its token endpoint is ``token_url``, or found by the metadata of ``issuer``.
    """

    client_id: str
    client_secret: str = ""
    private_key_file: str = ""
    key_id: str = ""
    token_url: str = ""
    issuer: str = ""
    subject_token_type: Literal["access_token", "id_token", "jwt"] = "access_token"

    def __repr__(self) -> str:
        return f"IdentityProvider({self.client_id!r})"


class TokenExchange(_ServiceClient, frozen=True, tag="tokenExchange"):
    """The upstream is called in the name of whoever calls the gateway: the caller's access token is exchanged for one
    that is meant for the upstream (RFC 8693). Members are those of ``ClientCredentials``; with the same client the
    gateway lists and probes the upstream in its own name. ``audience`` is sent with the exchange if it is set.

    With an ``identity_provider`` the caller's token is exchanged there for an assertion, which the upstream's
    authorization server takes (RFC 7523): the two servers trust each other, and no caller has to consent.
    """

    audience: str = ""
    identity_provider: IdentityProvider | None = None

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


def with_key_files(raw: dict[str, Any], path: Callable[[str], str]) -> dict[str, Any]:
    """Return an ``auth`` as somebody wrote it, with what ``path`` makes of the names of files in it."""
    found = {name: value for name, value in raw.items() if value is not None}
    file, provider = found.get("privateKeyFile"), found.get("identityProvider")
    if isinstance(file, str) and file:
        found["privateKeyFile"] = path(file)
    if isinstance(provider, dict):
        found["identityProvider"] = with_key_files(provider, path)
    return found


def reads_files(auth: Auth | None) -> bool:
    """Whether a worker reads a file of its host for this."""
    provider = auth.identity_provider if isinstance(auth, TokenExchange) else None
    return any(getattr(one, "private_key_file", "") for one in (auth, provider))


def check_alone(raw: Any, url: str, headers: Any) -> None:
    """Raise ``ValueError`` if an entry says in two ways what ``Authorization`` is sent."""
    if raw and urlsplit(url).username is not None:
        raise ValueError("auth: the URL has a user name, which would be sent too; keep one of the two")
    if raw and isinstance(headers, dict) and any(str(name).lower() == "authorization" for name in headers):
        raise ValueError("auth: the header Authorization is set as well; keep one of the two")


def public_auth(auth: Auth, mask: str) -> dict[str, Any]:
    """Return what may be shown of ``auth``: its members that are set, with ``mask`` for secrets."""
    return _masked(msgspec.to_builtins(auth), mask)


def _masked(raw: dict[str, Any], mask: str) -> dict[str, Any]:
    shown = {name: mask if name in SECRETS else value for name, value in raw.items() if value}
    return {name: _masked(value, mask) if isinstance(value, dict) else value for name, value in shown.items()}


def notes_of(auth: Auth) -> tuple[str, ...]:
    """Return what of ``auth`` is weaker than it seems."""
    if isinstance(auth, UserAuth):
        return ()
    urls = {"auth.tokenUrl": auth.token_url}
    if isinstance(auth, TokenExchange) and auth.identity_provider is not None:
        urls["auth.identityProvider.tokenUrl"] = auth.identity_provider.token_url
    return tuple(
        f"{name} is not https: whoever can read that connection has the client's secret and its tokens"
        for name, url in urls.items()
        if url and urlsplit(url).scheme != "https"
    )


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
    elif problem := _proof_problem(auth):
        return problem
    for scope in auth.scopes:
        if not _SCOPE.fullmatch(scope):
            return f"scopes: {scope!r} is not a scope; write one in each element"
    token_url = "" if isinstance(auth, UserAuth) else auth.token_url
    for name, value in (("tokenUrl", token_url), ("issuer", auth.issuer)):
        if value and not _is_web(value):
            return f"{name}: {value!r} is not an http(s):// address without user name and fragment"
    if isinstance(auth, TokenExchange) and auth.identity_provider is not None:
        problem = _problem_of_provider(auth, auth.identity_provider)
        if problem:
            return f"identityProvider: {problem}"
    if auth.resource and (not urlsplit(auth.resource).scheme or "#" in auth.resource):
        return f"resource: {auth.resource!r} is not an absolute URI without fragment (RFC 8707)"
    return ""


def _proof_problem(client: _ServiceClient | IdentityProvider) -> str:
    if bool(client.client_secret) == bool(client.private_key_file):
        return "clientSecret: give this or privateKeyFile, one of the two"
    if client.key_id and not client.private_key_file:
        return "keyId names the key in privateKeyFile, which is not given"
    return ""


def _problem_of_provider(auth: TokenExchange, provider: IdentityProvider) -> str:
    if not _PRINTABLE.fullmatch(provider.client_id):
        return "clientId must be printable ASCII, and not empty"
    if not provider.token_url and not provider.issuer:
        return "give its issuer, or its tokenUrl"
    for name, value in (("tokenUrl", provider.token_url), ("issuer", provider.issuer)):
        if value and not _is_web(value):
            return f"{name}: {value!r} is not an http(s):// address without user name and fragment"
    if auth.token_url and not auth.issuer and not auth.audience:
        return "it makes assertions for the issuer of the upstream's authorization server; give auth.issuer as well"
    return _proof_problem(provider)


def _is_web(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    plain = parts.username is None and not parts.fragment and port != 0
    return parts.scheme in _WEB and bool(parts.hostname) and plain
