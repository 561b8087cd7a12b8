"""Requests for tokens and their answers (RFC 6749), and how a client proves itself (RFC 6749 section 2.3, RFC 7523).

Raises ``OAuthError``. Tokens are checked before they get into a header.
"""

from __future__ import annotations

import base64
import re
import secrets
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from msgspec import Struct

from shared.oauth.http import OAuthError, OAuthHttp, shown_url

_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
_CODE = re.compile(r"[a-z_]{1,64}")
_MAX_TOKEN = 16 * 1024
_MAX_LIFE_S = 30 * 86400.0
_UNKNOWN_LIFE_S = 3600.0
"""How long a token is used whose server does not say how long it lasts; an upstream that refuses it ends it before."""
_ASSERTION_S = 60
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ALGORITHMS: dict[str, str] = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


class Token(Struct, frozen=True):
    """An access token. Times are Unix seconds."""

    access: str
    issued_at: float
    expires_at: float
    refresh: str = ""
    scope: str = ""

    def __repr__(self) -> str:
        return f"Token(expires_at={self.expires_at})"


class Client(Struct, frozen=True):
    """A client as an authorization server knows it: with a secret, with a key, or with neither (public)."""

    id: str
    secret: str = ""
    key_file: str = ""
    key_id: str = ""

    def __repr__(self) -> str:
        return f"Client({self.id!r})"


async def request_token(
    http: OAuthHttp,
    url: str,
    fields: dict[str, str],
    client: Client,
    methods: tuple[str, ...] = (),
    audience: str = "",
    issued_type: str = "",
) -> Token:
    """Return the token that a token endpoint gives. ``methods`` are the ways of proving oneself that the server takes
    (none: unknown), ``audience`` is its issuer. With an ``issued_type`` (RFC 8693 section 2.2.1) only a token of that
    type is taken: a server that gives another has not understood what was asked for."""
    more, headers = _proof(client, methods, audience or url)
    status, found = await http.post(url, {**fields, **more}, headers)
    if status != 200 or not isinstance(found, dict):
        error = found.get("error") if isinstance(found, dict) else None
        code = error if isinstance(error, str) and _CODE.fullmatch(error) else ""
        raise OAuthError(f"{shown_url(url)} gives no token (HTTP {status}{', ' + code if code else ''})", code)
    kind = found.get("issued_token_type")
    if issued_type and kind != issued_type:
        raise OAuthError(f"{shown_url(url)} gives a token of type {str(kind)[:80]!r}, not what was asked for")
    return _token(found, shown_url(url))


def _token(found: dict[str, Any], where: str) -> Token:
    access, kind = found.get("access_token"), found.get("token_type", "Bearer")
    if not isinstance(access, str) or not _TOKEN.fullmatch(access) or len(access) > _MAX_TOKEN:
        raise OAuthError(f"{where} gives something that is no bearer token")
    if not isinstance(kind, str) or kind.lower() not in ("bearer", "n_a"):
        raise OAuthError(f"{where} gives a token of type {str(kind)[:40]!r}; only bearer tokens can be sent")
    try:
        life_s = float(found.get("expires_in", _UNKNOWN_LIFE_S))
    except (TypeError, ValueError, OverflowError):
        life_s = _UNKNOWN_LIFE_S
    life_s = min(life_s, _MAX_LIFE_S) if life_s > 0 else 0.0
    refresh, scope = found.get("refresh_token"), found.get("scope")
    now_s = time.time()
    return Token(
        access,
        now_s,
        now_s + life_s,
        refresh if isinstance(refresh, str) and len(refresh) <= _MAX_TOKEN else "",
        scope if isinstance(scope, str) else "",
    )


def _proof(client: Client, methods: tuple[str, ...], audience: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the members and headers by which a client proves itself."""
    if client.key_file:
        assertion = _assertion(client, audience)
        return {"client_id": client.id, "client_assertion_type": _ASSERTION_TYPE, "client_assertion": assertion}, {}
    if not client.secret:
        return {"client_id": client.id}, {}
    if "client_secret_post" in methods and "client_secret_basic" not in methods:
        return {"client_id": client.id, "client_secret": client.secret}, {}
    return {}, {"Authorization": basic_authorization(client.id, client.secret)}


def basic_authorization(client_id: str, secret: str) -> str:
    """Return the value of ``Authorization`` by which a client proves itself with a secret (RFC 6749 section 2.3.1)."""
    pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _assertion(client: Client, audience: str) -> str:
    """Return a statement for this server alone, signed with the client's key (RFC 7523 section 2.2)."""
    try:
        key: Any = load_pem_private_key(Path(client.key_file).read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no unencrypted private key in PEM"
        raise OAuthError(f"auth.privateKeyFile {client.key_file!r} cannot be read: {reason}") from error
    if isinstance(key, rsa.RSAPrivateKey):
        algorithm = "RS256"
    elif isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _ALGORITHMS:
        algorithm = _ALGORITHMS[key.curve.name]
    elif isinstance(key, ed25519.Ed25519PrivateKey):
        algorithm = "EdDSA"
    else:
        raise OAuthError(f"auth.privateKeyFile {client.key_file!r} has a key that is neither RSA, EC nor Ed25519")
    now = int(time.time())
    claims = {
        "iss": client.id,
        "sub": client.id,
        "aud": audience,
        "jti": secrets.token_urlsafe(16),
        "iat": now,
        "exp": now + _ASSERTION_S,
    }
    return jwt.encode(claims, key, algorithm, {"kid": client.key_id} if client.key_id else None)
