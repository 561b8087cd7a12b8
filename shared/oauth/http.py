"""Requests to authorization servers: within the rules of egress, bounded in time and size, and without redirects.

A redirect would take a client's secret, or a token, to where somebody else says. Raises ``OAuthError`` with words for
the operator; no text has a secret in it.
"""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from shared.egress import Egress
from shared.oauth.challenges import Challenge, read_challenge

_TIMEOUT_S = 10.0
"""Token endpoints of the field answer within two seconds; a call waits for this one."""
_MAX_BYTES = 256 * 1024
_FAILURES = (OSError, TimeoutError, ValueError, aiohttp.ClientError)


class OAuthError(Exception):
    """A request failed. ``code`` is the ``error`` of the answer (RFC 6749 section 5.2), or empty."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class OAuthHttp:
    """Sends requests. ``ca_file`` has certificate authorities (PEM) that are trusted beside the system's."""

    def __init__(self, egress: Egress, ca_file: str = "") -> None:
        self._egress = egress
        self._ca_file = ca_file

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
                    raise OAuthError(f"{shown} redirects (HTTP {response.status}), which is not followed")
                return response.status, _json(await _read(response.content, shown))
        except _FAILURES as error:
            raise OAuthError(f"{shown} cannot be asked: {error or type(error).__name__}") from error

    @asynccontextmanager
    async def _request(
        self, method: str, url: str, headers: dict[str, str], body: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        refused = self._egress.refusal_of_host(urlsplit(url).hostname or "")
        if refused:
            raise OAuthError(f"{shown_url(url)}: {refused}")
        async with (
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(_TIMEOUT_S),
                trust_env=True,
                connector=aiohttp.TCPConnector(resolver=_Resolver(self._egress), ssl=self._tls()),
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


class _Resolver(AbstractResolver):
    """Resolves names to those addresses that may be connected to."""

    def __init__(self, egress: Egress) -> None:
        self._egress = egress
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._inner.resolve(host, port, family)
        refused = [self._egress.refusal_of_address(one["host"], host) for one in found]
        allowed = [one for one, why in zip(found, refused, strict=True) if not why]
        if not allowed:
            raise OSError(next(iter(refused), f"{host} has no address"))
        return allowed

    async def close(self) -> None:
        await self._inner.close()


async def _read(content: aiohttp.StreamReader, shown: str) -> bytes:
    body = b""
    async for chunk in content.iter_chunked(65536):
        body += chunk
        if len(body) > _MAX_BYTES:
            raise OAuthError(f"{shown} answers more than {_MAX_BYTES} bytes")
    return body


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def shown_url(url: str) -> str:
    """Return a URL as it may be shown: without query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
