"""The command line's client of the admin API, over aiohttp. Every failure is one clear line (``failures``).

Counterpart: ``gateway.admin``.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

from gateway.cli import address, failures, state, trust
from gateway.cli.failures import CommandFailed

_AGAIN_S = 1.0


class AdminClient:
    """The admin API of the gateway at ``url``. ``GATEWAY_ADMIN_TOKEN`` is sent where it is set, else the token of a
    gateway that the same user started on this machine."""

    def __init__(self, url: str, token: str | None = None) -> None:
        """``token`` is sent instead, if it is not ``None``; an empty one is not sent."""
        self._base = address.parse(url).base
        if token is None:
            token = os.environ.get("GATEWAY_ADMIN_TOKEN") or (state.read(self._base) or {}).get("adminToken")
        self._headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}

    def get(self, path: str) -> Any:
        """Return the JSON that the API answers to ``GET`` of ``path``. Raises ``CommandFailed``."""
        return self.send("GET", path)

    def send(self, method: str, path: str, body: Any = None) -> Any:
        """Send one request, and return the JSON of the answer, or ``None`` if it has no body.

        ``path`` is relative to ``/admin/v1``. Raises ``CommandFailed``.
        """
        return self.send_to(method, f"admin/v1/{path}", body)

    def send_to(self, method: str, path: str, body: Any = None) -> Any:
        """Do what ``send`` does, with a path of the gateway."""
        return asyncio.run(self._send(method, f"{self._base}/{path}", body))

    def follow(self, path: str, take: Callable[[Any], None]) -> None:
        """Give ``take`` each event of an event stream, until Ctrl-C. A stream that ends is opened again.

        Raises ``CommandFailed`` if it cannot be opened the first time, or is refused.
        """
        asyncio.run(self._follow(f"{self._base}/admin/v1/{path}", take))

    async def _follow(self, url: str, take: Callable[[Any], None]) -> None:
        after, opened = 0, False
        timeout = aiohttp.ClientTimeout(None, connect=failures.CONNECT_S)
        while True:
            try:
                async with (
                    self._translated(url),
                    aiohttp.ClientSession(
                        connector=self._connector(),
                        timeout=timeout,
                        headers={**self._headers, "Accept": "text/event-stream"},
                    ) as session,
                    session.get(url, params={"after": after}) as response,
                ):
                    if response.status != 200 or response.content_type != "text/event-stream":
                        raise self._refusal(url, response.status, await response.text(errors="replace"))
                    opened = True
                    async for line in response.content:
                        if line.startswith(b"data:") and line[5:].strip():
                            event = json.loads(line[5:])
                            after = event["sequence"]
                            take(event)
            except CommandFailed:
                if not opened:
                    raise
            await asyncio.sleep(_AGAIN_S)

    def _connector(self) -> aiohttp.TCPConnector:
        """Return what opens connections. Raises ``ConfigError`` for authorities that cannot be read."""
        return aiohttp.TCPConnector(ssl=trust.trusted() if self._base.startswith("https:") else True)

    @contextlib.asynccontextmanager
    async def _translated(self, url: str) -> AsyncIterator[None]:
        """Turn what goes wrong on the way into ``CommandFailed``."""
        try:
            yield
        except aiohttp.ClientConnectorCertificateError as error:
            trouble = trust.certificate_trouble(str(error.certificate_error))
            raise failures.untrusted(self._base, trouble or str(error.certificate_error)) from error
        except (aiohttp.ClientSSLError, aiohttp.ClientConnectorDNSError) as error:
            raise failures.nothing_answers(self._base, str(error)) from error
        except aiohttp.ClientConnectorError as error:
            raise failures.nothing_answers(self._base) from error
        except aiohttp.ConnectionTimeoutError as error:
            raise failures.no_connection(self._base) from error
        except TimeoutError as error:
            raise failures.no_answer(url) from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
            raise trust.went_away(self._base) from error
        except aiohttp.ClientError as error:
            raise failures.not_gateway(url, "no HTTP") from error

    def _refusal(self, url: str, status: int, text: str) -> CommandFailed:
        said = failures.words(text)  # an error text of the gateway needs no addition
        if said:
            return CommandFailed(failures.with_url(said, self._base))
        return failures.refused(url, status, "") if status >= 400 else failures.not_gateway(url, "something else")

    async def _send(self, method: str, url: str, body: Any) -> Any:
        timeout = aiohttp.ClientTimeout(failures.LIMIT_S, connect=failures.CONNECT_S)
        data = None if body is None else json.dumps(body)
        async with (
            self._translated(url),
            aiohttp.ClientSession(connector=self._connector(), timeout=timeout, headers=self._headers) as session,
            session.request(method, url, data=data) as response,
        ):
            if response.status == 200 and response.content_type != "application/json":
                raise failures.not_gateway(url, response.content_type)  # the body is not read: it might never end
            text = await response.text(errors="replace")
        if response.status >= 400:
            raise self._refusal(url, response.status, text)
        try:
            return json.loads(text) if text else None
        except json.JSONDecodeError as error:
            raise failures.not_gateway(url, "what is no JSON") from error
