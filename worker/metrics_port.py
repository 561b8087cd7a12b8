"""The port on which a worker of its own shows its figures (``metricsBind``): ``GET /metrics``, ``GET /healthz``.

Workers that ``gateway up`` starts need none: its front ends show their figures. One request for each connection, which
is enough for a scraper; what is not such a request is not answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
from collections.abc import Awaitable, Callable

from shared.errors import ConfigError, StartError
from shared.loopback import is_loopback_host
from shared.metrics.exposition import CONTENT_TYPE
from shared.settings import Settings

_LIMIT_BYTES = 16 * 1024
_PATIENCE_S = 10.0
_MOST = 16
"""Connections at once; further ones are closed."""


class MetricsPort:
    """Answers scrapers. ``text`` returns the figures."""

    def __init__(self, settings: Settings, text: Callable[[], Awaitable[bytes]]) -> None:
        self._where = settings.telemetry.metrics_bind
        self._token = "" if settings.access.open_metrics else settings.access.admin_token
        self._open = settings.access.open_metrics
        self._text = text
        self._server: asyncio.Server | None = None
        self._connections = 0

    async def start(self) -> None:
        """Listen, if that is configured. Raises ``ConfigError`` or ``StartError``."""
        if not self._where:
            return
        host, _, port = self._where.rpartition(":")
        host = host.strip("[]")
        if not port.isdigit() or not host:
            raise ConfigError(f"metricsBind (GATEWAY_METRICS_BIND) {self._where!r} must be host:port")
        if not is_loopback_host(host) and not self._token and not self._open:
            raise ConfigError(
                f"metricsBind {self._where!r} is beyond loopback: set GATEWAY_ADMIN_TOKEN, which scrapers then send, "
                "or openMetrics (GATEWAY_OPEN_METRICS=true)"
            )
        try:
            self._server = await asyncio.start_server(self._serve, host, int(port), limit=_LIMIT_BYTES)
        except OSError as error:
            raise StartError(f"cannot show figures on {self._where}: {error.strerror}; change metricsBind") from error

    @property
    def address(self) -> str:
        """Where it listens, as ``host:port``; empty without a port."""
        if self._server is None:
            return ""
        host, port = self._server.sockets[0].getsockname()[:2]
        return f"{host}:{port}"

    def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        try:
            if self._connections <= _MOST:
                async with asyncio.timeout(_PATIENCE_S):
                    writer.write(await self._answer(await reader.readuntil(b"\r\n\r\n")))
                    await writer.drain()
        except (OSError, EOFError, TimeoutError, asyncio.LimitOverrunError, asyncio.IncompleteReadError):
            pass
        finally:
            self._connections -= 1
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, head: bytes) -> bytes:
        request, *lines = head.decode("latin-1").split("\r\n")
        method, _, rest = request.partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if method != "GET" or path not in ("/metrics", "/healthz"):
            return _response("404 Not Found", b"GET /metrics or /healthz\n")
        if path == "/healthz":
            return _response("200 OK", b"alive\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        sent = headers.get("authorization", "").removeprefix("Bearer ")
        if self._token and not hmac.compare_digest(sent.encode("latin-1", "replace"), self._token.encode()):
            return _response("401 Unauthorized", b"needs 'Authorization: Bearer GATEWAY_ADMIN_TOKEN'\n")
        return _response("200 OK", await self._text(), CONTENT_TYPE)


def _response(status: str, body: bytes, kind: str = "text/plain; charset=utf-8") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body
