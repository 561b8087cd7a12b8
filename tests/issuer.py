"""An issuer of tokens for tests: its metadata and key set over HTTP, and tokens signed as a test wants."""

from __future__ import annotations

import base64
import json
import time
from typing import Any
from urllib.parse import unquote_plus

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()


def jwk(key: Any, kid: str, **members: Any) -> dict[str, Any]:
    """Return the public key as a JWK."""
    public = key.public_key()
    kinds = {rsa.RSAPrivateKey: RSAAlgorithm, ec.EllipticCurvePrivateKey: ECAlgorithm}
    kind: Any = next((one for of, one in kinds.items() if isinstance(key, of)), OKPAlgorithm)
    return {**json.loads(kind.to_jwk(public)), "kid": kid, **members}


class Issuer:
    """See the module. ``behaviour`` is ``ok``, ``down`` (HTTP 500), ``redirects``, ``nested`` or ``hang``."""

    def __init__(self) -> None:
        self.keys = [jwk(RSA, "rsa-1"), jwk(EC, "ec-1"), jwk(ED, "ed-1")]
        self.url = ""
        self.asked = 0
        self.client = ("gw", "password")
        self.behaviour = "ok"
        self.active: dict[str, dict[str, Any]] = {}
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Issuer:
        app = web.Application()
        app.router.add_get("/.well-known/oauth-authorization-server", self._metadata)
        app.router.add_get("/keys", self._keys)
        app.router.add_post("/introspect", self._introspect)
        self.routes(app)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def routes(self, app: web.Application) -> None:
        """Add what a kind of issuer has besides."""

    def metadata(self) -> dict[str, Any]:
        """The metadata of the issuer."""
        return {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}

    async def _metadata(self, request: web.Request) -> web.Response:
        return web.json_response(self.metadata())

    async def _keys(self, request: web.Request) -> web.Response:
        self.asked += 1
        if self.behaviour == "down":
            return web.Response(status=500)
        if self.behaviour == "redirects":
            return web.Response(status=302, headers={"Location": f"{self.url}/keys?again"})
        if self.behaviour == "nested":
            return web.Response(text="[" * 200_000, content_type="application/json")
        return web.json_response({"keys": self.keys})

    async def _introspect(self, request: web.Request) -> web.Response:
        self.asked += 1
        form = await request.post()
        pair = base64.b64decode(request.headers.get("Authorization", "").removeprefix("Basic ")).decode()
        if tuple(unquote_plus(part) for part in pair.split(":")) != self.client:  # RFC 6749 section 2.3.1
            return web.Response(status=401)
        return web.json_response(self.active.get(str(form["token"]), {"active": False}))

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Return the claims of a good token, with changes; ``None`` leaves a claim out."""
        now = int(time.time())
        good = {"iss": self.url, "sub": "ann", "aud": "https://mcp.example/mcp", "iat": now, "exp": now + 600}
        return {name: value for name, value in {**good, **changed}.items() if value is not None}

    def token(self, key: Any = RSA, algorithm: str = "RS256", kid: str | None = "rsa-1", **changed: Any) -> str:
        """Return a signed token."""
        header = {} if kid is None else {"kid": kid}
        return jwt.encode(self.claims(**changed), key, algorithm, header)
