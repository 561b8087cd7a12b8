"""An authorization server for tests of upstream credentials, and HTTP upstreams that want its tokens.

``TokenServer`` gives tokens (client credentials, token exchange, authorization code, refresh) and notes each request.
``ProtectedUpstreams`` are ``tests.servers.raw`` upstreams that answer 401 or 403 to what has no good token, with RFC
9728 metadata.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from typing import Any
from urllib.parse import unquote, urlencode

import jwt
from aiohttp import web

from tests.servers.raw import Endpoint, RawUpstreams


class TokenServer:
    """See the module.

    ``behaviour``: ``ok``, ``down`` (HTTP 500), ``redirect`` (to ``elsewhere``), ``nonsense`` (a token that is none).
    ``life_s`` is how long tokens live; ``keys`` are public keys of clients that prove themselves by one.
    """

    def __init__(self) -> None:
        self.url = ""
        self.behaviour = "ok"
        self.elsewhere = ""
        self.life_s = 600.0
        self.clients = {"gw": "s3cret:/%"}
        self.keys: dict[str, Any] = {}
        self.tokens: dict[str, dict[str, Any]] = {}
        self.requests: list[dict[str, Any]] = []
        self.issuer = ""
        self.person = "nobody"  # who signs in
        self.said: dict[str, str] = {}  # changes of what a browser brings back
        self.asked: list[dict[str, str]] = []
        self.codes: dict[str, dict[str, Any]] = {}
        self.refreshes: dict[str, dict[str, Any]] = {}
        self.registered: dict[str, list[str]] = {}
        self.scopes_of_subject = False  # whether an exchange gives what its subject has, whatever is asked for
        self.metadata: dict[str, Any] = {}
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> TokenServer:
        app = web.Application()
        app.router.add_get("/.well-known/oauth-authorization-server", self._metadata)
        app.router.add_post("/token", self._token)
        app.router.add_get("/authorize", self._authorize)
        app.router.add_post("/register", self._register)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = self.issuer = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _metadata(self, request: web.Request) -> web.Response:
        document = {
            "issuer": self.issuer,
            "token_endpoint": f"{self.url}/token",
            "authorization_endpoint": f"{self.url}/authorize",
            "registration_endpoint": f"{self.url}/register",
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }
        return web.json_response({**document, **self.metadata})

    async def _token(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        client = self._client(request, form)
        self.requests.append({**form, "client": client, "authorization": request.headers.get("Authorization", "")})
        if self.behaviour == "down":
            return web.Response(status=500)
        if self.behaviour == "redirect":
            return web.Response(status=307, headers={"Location": self.elsewhere})
        if self.behaviour == "nonsense":
            return web.json_response({"access_token": "x\r\nX-Evil: 1", "token_type": "Bearer"})
        if client is None:
            return web.json_response({"error": "invalid_client"}, status=401)
        claims = self.grant(form, client)
        if isinstance(claims, str):
            return web.json_response({"error": claims}, status=400)
        return web.json_response(self.issue(claims))

    def grant(self, form: dict[str, str], client: str) -> dict[str, Any] | str:
        """Return the claims of a token, or the code of the error."""
        if form.get("grant_type", "").endswith(":token-exchange"):
            subject = self.subject(form["subject_token"])
            if subject is None:
                return "invalid_request"
            scope = form.get("scope") or subject.get("scope", "")
            if self.scopes_of_subject:
                scope = subject.get("scope", "")
            return {"sub": subject["sub"], "scope": scope, "aud": form.get("audience", form.get("resource", ""))}
        if form.get("grant_type") == "authorization_code":
            return self._from_code(form, client)
        if form.get("grant_type") == "refresh_token":
            found = self.refreshes.pop(form["refresh_token"], None)
            return found if found is not None and found["client"] == client else "invalid_grant"
        if form.get("grant_type") != "client_credentials":
            return "unsupported_grant_type"
        return {"sub": client, "scope": form.get("scope", ""), "aud": form.get("resource", "")}

    def subject(self, token: str) -> dict[str, Any] | None:
        """Return what a caller's token says, or ``None`` if it is not one of a known issuer."""
        try:
            found: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
        except jwt.PyJWTError:
            return self.tokens.get(token)
        return found

    def issue(self, claims: dict[str, Any]) -> dict[str, Any]:
        """Return the answer with a new token."""
        token = secrets.token_urlsafe(24)
        self.tokens[token] = {**claims, "exp": time.time() + self.life_s}
        answer = {"access_token": token, "token_type": "Bearer", "expires_in": self.life_s, "scope": claims["scope"]}
        if "client" in claims:
            answer["refresh_token"] = secrets.token_urlsafe(16)
            self.refreshes[str(answer["refresh_token"])] = claims
        return answer

    # ---- authorization code

    async def _authorize(self, request: web.Request) -> web.Response:
        """Sign ``person`` in at once, and send the browser back."""
        query = dict(request.query)
        self.asked.append(query)
        if query["redirect_uri"] not in self.registered.get(query["client_id"], [query["redirect_uri"]]):
            return web.Response(status=400, text="redirect_uri")
        code = secrets.token_urlsafe(16)
        self.codes[code] = {**query, "sub": self.person}
        answer = {"code": code, "state": query["state"], "iss": self.issuer, **self.said}
        raise web.HTTPFound(f"{query['redirect_uri']}?{urlencode({k: v for k, v in answer.items() if v})}")

    def _from_code(self, form: dict[str, str], client: str) -> dict[str, Any] | str:
        found = self.codes.pop(form["code"], None)
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if found is None or found["client_id"] != client or found["code_challenge"] != challenge:
            return "invalid_grant"
        if found["redirect_uri"] != form["redirect_uri"]:
            return "invalid_grant"
        return {"sub": found["sub"], "scope": found.get("scope", ""), "client": client}

    async def _register(self, request: web.Request) -> web.Response:
        said = await request.json()
        id = f"dcr-{len(self.registered)}"
        self.registered[id] = said["redirect_uris"]
        self.clients[id] = ""
        return web.json_response({**said, "client_id": id}, status=201)

    def _client(self, request: web.Request, form: dict[str, str]) -> str | None:
        header = request.headers.get("Authorization", "")
        if header.startswith("Basic "):
            id, _, secret = map(unquote, base64.b64decode(header[6:]).decode().partition(":"))
            return id if self.clients.get(id) == secret else None
        if "client_assertion" in form:
            key = self.keys.get(form.get("client_id", ""))
            try:
                claims = jwt.decode(form["client_assertion"], key, ["RS256", "ES256", "EdDSA"], audience=self.issuer)
            except jwt.PyJWTError:
                return None
            return form["client_id"] if claims["sub"] == claims["iss"] == form["client_id"] else None
        id = form.get("client_id", "")
        return id if self.clients.get(id, "?") == form.get("client_secret", "") else None

    def revoke_all(self) -> None:
        """No token is good any more."""
        self.tokens.clear()


class ProtectedUpstreams(RawUpstreams):
    """See the module. ``needed`` is the scope that calls of an upstream need, by its name."""

    def __init__(self, server: TokenServer) -> None:
        super().__init__()
        self.server = server
        self.needed: dict[str, str] = {}
        self.documents: dict[str, Any] = {}
        self.named = ""
        self.place = "/.well-known/oauth-protected-resource"
        self.refused = 0
        self.who: dict[str, list[str]] = {}

    def add(self, name: str, tools: list[dict[str, Any]] | None = None, era: str = "modern") -> Endpoint:
        self.documents[name] = {"resource": self.url(name), "authorization_servers": [self.server.issuer]}
        return super().add(name, tools, era)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        prefix, _, name = request.path.rpartition("/")
        if prefix == self.place:
            found = self.documents.get(name)
            return web.json_response(found) if found else web.Response(status=404)
        if name not in self.endpoints:
            return await super()._handle(request)
        header = request.headers.get("Authorization", "")
        token = self.server.tokens.get(header.removeprefix("Bearer "))
        metadata = self.named or f"http://127.0.0.1:{self.port}{self.place}/{name}"
        if token is None or token["exp"] < time.time():
            self.refused += 1
            challenge = f'Bearer error="invalid_token", resource_metadata="{metadata}"'
            return web.json_response({"error": "who?"}, status=401, headers={"WWW-Authenticate": challenge})
        needed = self.needed.get(name, "")
        is_call = request.method == "POST" and json.loads(await request.read()).get("method") == "tools/call"
        if is_call and needed and needed not in token["scope"].split():
            self.refused += 1
            challenge = f'Bearer error="insufficient_scope", scope="{needed}", resource_metadata="{metadata}"'
            return web.json_response({"error": "scope"}, status=403, headers={"WWW-Authenticate": challenge})
        if is_call:
            self.who.setdefault(name, []).append(token["sub"])
        return await super()._handle(request)
