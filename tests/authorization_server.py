"""An OAuth 2.1 authorization server for tests, on the keys and the metadata of ``tests.issuer``.

It does what MCP clients need (2025-11-25 and 2026-07-28, "Authorization"): metadata (RFC 8414), dynamic registration
(RFC 7591) and client id metadata documents, the authorization code with PKCE (RFC 7636), ``iss`` in its answer (RFC
9207), resources (RFC 8707), refresh tokens that are used once, and access tokens as JWT (RFC 9068), bound to a key if
the client proves that it has one (RFC 9449). Its user agrees with everything that is in ``agreed``.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from typing import Any
from urllib.parse import urlencode

import jwt
from aiohttp import web

from tests.issuer import RSA, Issuer


class AuthorizationServer(Issuer):
    """See the module. ``log`` has (what was asked, its fields), in order.

    ``documents`` are the client id metadata documents that the server can fetch, by URL.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log: list[tuple[str, dict[str, str]]] = []
        self.clients: dict[str, dict[str, Any]] = {}
        self.documents: dict[str, dict[str, Any]] = {}
        self.agreed = frozenset(("notes:read", "notes:write", "offline_access"))
        self._codes: dict[str, dict[str, str]] = {}
        self._refresh: dict[str, dict[str, str]] = {}

    def routes(self, app: web.Application) -> None:
        """Add what an issuer has not."""
        app.router.add_post("/register", self._register)
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/token", self._token)

    def metadata(self) -> dict[str, Any]:
        """The metadata of the server."""
        return {
            **super().metadata(),
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "registration_endpoint": f"{self.url}/register",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
            "scopes_supported": sorted(self.agreed),
            "authorization_response_iss_parameter_supported": True,
            "client_id_metadata_document_supported": bool(self.documents),
            "dpop_signing_alg_values_supported": ["ES256"],
        }

    def requests(self, what: str) -> list[dict[str, str]]:
        """The fields of all requests of a kind."""
        return [fields for kind, fields in self.log if kind == what]

    async def _register(self, request: web.Request) -> web.Response:
        wanted = json.loads(await request.read())
        self.log.append(("register", wanted))
        id = f"client-{len(self.clients)}"
        self.clients[id] = {**wanted, "client_id": id, "token_endpoint_auth_method": "none"}
        return web.json_response(self.clients[id], status=201)

    async def _authorize(self, request: web.Request) -> web.Response:
        fields = dict(request.query)
        self.log.append(("authorize", fields))
        client = self.clients.get(fields["client_id"]) or self.documents.get(fields["client_id"])
        if client is None or fields["redirect_uri"] not in client["redirect_uris"]:
            return _refused("invalid_client")
        if fields.get("code_challenge_method") != "S256" or "resource" not in fields:
            return _refused("invalid_request")
        code = secrets.token_urlsafe(16)
        granted = [scope for scope in fields.get("scope", "").split() if scope in self.agreed]
        self._codes[code] = {**fields, "scope": " ".join(granted)}
        answer = {"code": code, "iss": self.url, **({"state": fields["state"]} if "state" in fields else {})}
        raise web.HTTPFound(f"{fields['redirect_uri']}?{urlencode(answer)}")

    async def _token(self, request: web.Request) -> web.Response:
        fields = {name: str(value) for name, value in (await request.post()).items()}
        self.log.append(("token", fields))
        if fields["grant_type"] == "refresh_token":
            granted = self._refresh.pop(fields["refresh_token"], None)
        else:
            granted = self._codes.pop(fields["code"], None)
            challenge = base64.urlsafe_b64encode(hashlib.sha256(fields["code_verifier"].encode()).digest())
            if granted is None or challenge.rstrip(b"=").decode() != granted["code_challenge"]:
                return _refused("invalid_grant")
        if granted is None or fields.get("client_id") != granted["client_id"]:
            return _refused("invalid_grant")
        if fields.get("resource", granted["resource"]) != granted["resource"]:
            return _refused("invalid_target")
        answer = {
            "access_token": self.access_token(granted, request.headers.get("DPoP")),
            "token_type": "DPoP" if "DPoP" in request.headers else "Bearer",
            "expires_in": 600,
            "scope": granted["scope"],
        }
        client = self.clients.get(granted["client_id"]) or self.documents[granted["client_id"]]
        if "refresh_token" in client["grant_types"]:
            answer["refresh_token"] = secrets.token_urlsafe(16)
            self._refresh[answer["refresh_token"]] = granted
        return web.json_response(answer, headers={"Cache-Control": "no-store"})

    def access_token(self, granted: dict[str, str], proof: str | None = None) -> str:
        """Return an access token (RFC 9068) for what was granted."""
        claims = self.claims(aud=granted["resource"], scope=granted["scope"], client_id=granted["client_id"])
        claims["jti"] = secrets.token_hex(8)
        if proof is not None:
            claims["cnf"] = {"jkt": thumbprint(jwt.get_unverified_header(proof)["jwk"])}
        return jwt.encode(claims, RSA, "RS256", {"kid": "rsa-1", "typ": "at+jwt"})


def thumbprint(key: dict[str, str]) -> str:
    """Return the thumbprint of a JWK (RFC 7638)."""
    members = {"EC": ("crv", "kty", "x", "y"), "RSA": ("e", "kty", "n"), "OKP": ("crv", "kty", "x")}[key["kty"]]
    text = json.dumps({name: key[name] for name in members}, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def _refused(error: str) -> web.Response:
    return web.json_response({"error": error}, status=400)
