"""Requests to authorization servers: within the rules of egress, bounded in time and size, and without redirects.

The rules hold for what the operator configured as for what a server names; for the latter see ``OAuthHttp.within``. A
redirect would take a client's secret, or a token, to where somebody else says. Raises ``OAuthError`` with words for
the operator; no text has a secret in it.
"""

from __future__ import annotations

import asyncio
import errno
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from shared.egress import ANYWHERE, THIS_MACHINE, Egress, nearness
from shared.oauth.challenges import Challenge, read_challenge

_TIMEOUT_S = 10.0
"""Token endpoints of the field answer within two seconds; a call waits for this one."""
_MAX_BYTES = 256 * 1024
_FAILURES = (OSError, TimeoutError, ValueError, aiohttp.ClientError)
_NO_JSON = (ValueError, RecursionError)


class OAuthError(Exception):
    """A request failed. ``code`` is the ``error`` of the answer (RFC 6749 section 5.2), or empty."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class Redirected(OAuthError):
    """The answer leads elsewhere, which is not followed."""


class OAuthHttp:
    """Sends requests. ``ca_file`` has certificate authorities (PEM) that are trusted beside the system's."""

    def __init__(
        self, egress: Egress, ca_file: str = "", timeout_s: float = _TIMEOUT_S, max_bytes: int = _MAX_BYTES
    ) -> None:
        self._egress = egress
        self._ca_file = ca_file
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._named_by = ""

    def within(self, url: str) -> OAuthHttp:
        """Return the same for URLs that the server at ``url`` named: they may not be nearer to the gateway than that
        server. So none on the internet makes the gateway ask a program of this machine or of the private network."""
        other = OAuthHttp(self._egress, self._ca_file, self._timeout_s, self._max_bytes)
        other._named_by = url
        return other

    async def get(self, url: str) -> tuple[int, Any]:
        """Return the status, and the JSON of the answer (``None`` if it is none)."""
        return await self._send("GET", url, {}, None)

    async def post(self, url: str, fields: dict[str, str], headers: dict[str, str]) -> tuple[int, Any]:
        """Send a form. Return the status, and the JSON of the answer (``None`` if it is none)."""
        return await self._send("POST", url, headers, fields)

    async def post_json(self, url: str, document: dict[str, Any]) -> tuple[int, Any]:
        """Send JSON. Return the status, and the JSON of the answer (``None`` if it is none)."""
        return await self._send("POST", url, {"Content-Type": "application/json"}, json.dumps(document))

    async def challenge(self, url: str) -> Challenge:
        """Return what an upstream answers to a request without a token."""
        try:
            async with self._request("GET", url, {"Accept": "text/event-stream"}, None) as response:
                return read_challenge(
                    response.status,
                    ", ".join(response.headers.getall("WWW-Authenticate", [])).encode("latin-1", "replace"),
                )
        except _FAILURES as error:
            raise OAuthError(f"{shown_url(url)} cannot be asked: {error or type(error).__name__}") from error

    async def _send(self, method: str, url: str, headers: dict[str, str], body: Any) -> tuple[int, Any]:
        shown = shown_url(url)
        try:
            async with self._request(method, url, {"Accept": "application/json", **headers}, body) as response:
                if 300 <= response.status < 400:
                    raise Redirected(f"{shown} redirects (HTTP {response.status}), which is not followed")
                return response.status, _json(await self._read(response.content, shown))
        except _FAILURES as error:
            raise OAuthError(f"{shown} cannot be asked: {error or type(error).__name__}") from error

    @asynccontextmanager
    async def _request(
        self, method: str, url: str, headers: dict[str, str], body: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        nearest = await _nearness_of(self._named_by) if self._named_by else THIS_MACHINE
        refused = self._egress.refusal_of_host(urlsplit(url).hostname or "", nearest)
        if refused:
            raise OAuthError(f"{shown_url(url)}: {refused}")
        async with (
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(self._timeout_s),
                trust_env=True,
                connector=aiohttp.TCPConnector(resolver=_Resolver(self._egress, nearest), ssl=self._tls()),
                cookie_jar=aiohttp.DummyCookieJar(),
            ) as client,
            client.request(method, url, data=body, headers=headers, allow_redirects=False) as response,
        ):
            yield response

    def _tls(self) -> ssl.SSLContext | bool:
        if not self._ca_file:
            return True
        context = ssl.create_default_context()
        context.load_verify_locations(self._ca_file)
        return context

    async def _read(self, content: aiohttp.StreamReader, shown: str) -> bytes:
        body = b""
        async for chunk in content.iter_chunked(65536):
            body += chunk
            if len(body) > self._max_bytes:
                raise OAuthError(f"{shown} answers more than {self._max_bytes} bytes")
        return body


async def _nearness_of(url: str) -> int:
    """Return how near the server at ``url`` is: the nearest of its addresses."""
    host = urlsplit(url).hostname or ""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return nearness(host)
    return max((nearness(str(one[4][0])) for one in found), default=ANYWHERE)


class _Resolver(AbstractResolver):
    """Resolves names to those addresses that may be connected to."""

    def __init__(self, egress: Egress, nearest: int) -> None:
        self._egress = egress
        self._nearest = nearest
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        refused = [self._egress.refusal_of_address(one["host"], host, self._nearest) for one in found]
        allowed = [one for one, why in zip(found, refused, strict=True) if not why]
        if not allowed:
            raise OSError(errno.EPERM, next(iter(refused), f"{host} has no address"))
        return allowed

    async def close(self) -> None:
        await self._inner.close()


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except _NO_JSON:
        return None


def shown_url(url: str) -> str:
    """Return a URL as it may be shown: without query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
