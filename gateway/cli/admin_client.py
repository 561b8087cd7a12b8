"""The command line's client of the admin API, over aiohttp. Every failure is one clear line (``failures``).

Counterpart: ``gateway.admin``.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import aiohttp

from gateway.cli import address, failures, state
from gateway.cli.failures import CommandFailed


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

    async def _send(self, method: str, url: str, body: Any) -> Any:
        timeout = aiohttp.ClientTimeout(failures.LIMIT_S, connect=failures.CONNECT_S)
        data = None if body is None else json.dumps(body)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, headers=self._headers) as session,
                session.request(method, url, data=data) as response,
            ):
                if response.status == 200 and response.content_type != "application/json":
                    raise failures.not_gateway(url, response.content_type)  # the body is not read: it might never end
                text = await response.text(errors="replace")
        except (aiohttp.ClientSSLError, aiohttp.ClientConnectorDNSError) as error:
            raise failures.nothing_answers(self._base, str(error)) from error
        except aiohttp.ClientConnectorError as error:
            raise failures.nothing_answers(self._base) from error
        except aiohttp.ConnectionTimeoutError as error:
            raise failures.no_connection(self._base) from error
        except TimeoutError as error:
            raise failures.no_answer(url) from error
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError) as error:
            raise failures.went_away(self._base) from error
        except aiohttp.ClientError as error:
            raise failures.not_gateway(url, "no HTTP") from error
        if response.status >= 400:
            said = failures.words(text)  # an error text of the gateway needs no addition
            raise (
                CommandFailed(failures.with_url(said, self._base))
                if said
                else failures.refused(url, response.status, "")
            )
        try:
            return json.loads(text) if text else None
        except json.JSONDecodeError as error:
            raise failures.not_gateway(url, "what is no JSON") from error
