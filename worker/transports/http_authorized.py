"""Requests that carry a token: a pool that asks ``Credentials`` for each request, and repeats one that was refused.

An upstream that answers 401, or 403 for want of a scope, has not run the request. So the pool gets another token and
sends the request again, once; only if none can be had, or the second is refused too, the session sees the refusal.
An upstream without ``auth`` has an ordinary ``HttpPool``.
"""

from __future__ import annotations

import asyncio
from typing import Any

from shared.errors import CallError, NotDelivered
from shared.oauth.challenges import Challenge, read_challenge
from shared.settings import UpstreamSettings
from shared.tasks import spawn
from worker.credentials.source import Credentials
from worker.transports.http_client import HttpPool
from worker.transports.http_endpoint import HttpEndpoint
from worker.transports.http_exchange import Exchange

_KEPT = 64 * 1024
"""The bytes of a refusal that are kept for the session."""


class _Attempt:
    """One exchange on its way, with its token. Implements ``Exchange`` around the session's own."""

    def __init__(self, pool: AuthorizedPool, exchange: Exchange, standing: bool) -> None:
        self.pool = pool
        self.exchange = exchange
        self.standing = standing
        self.request: bytes | tuple[bytes, ...] = exchange.request
        self.sent = ""
        self.repeated = False
        self.getting: asyncio.Task[None] | None = None
        self._refusal: Challenge | None = None
        self._headers: dict[bytes, bytes] = {}
        self._body = b""

    @property
    def call(self) -> Any:
        """The call that the exchange is about, or ``None``."""
        return getattr(self.exchange, "call", None)

    def carry(self, authorization: str) -> None:
        """Put the token behind the request line."""
        self.sent = authorization
        request = self.exchange.request
        start, *rest = request if isinstance(request, tuple) else (request,)
        line, _, fields = start.partition(b"\r\n")
        start = b"%b\r\nAuthorization: %b\r\n%b" % (line, authorization.encode("latin-1"), fields)
        self.request = (start, *rest) if rest else start

    def on_headers(self, status: int, headers: dict[bytes, bytes]) -> None:
        if status in (401, 403) and not self.repeated:
            challenge = read_challenge(status, headers.get(b"www-authenticate", b""))
            if challenge.asks_for_token:
                self._refusal, self._headers = challenge, headers
                return
        self.exchange.on_headers(status, headers)

    def on_body(self, data: bytes) -> None:
        if self._refusal is None:
            self.exchange.on_body(data)
        elif len(self._body) < _KEPT:
            self._body += data[: _KEPT - len(self._body)]

    def on_complete(self) -> None:
        if self._refusal is None:
            self.pool.over(self)
            self.exchange.on_complete()
        else:
            self.pool.get_token(self, self._refusal)

    def on_failed(self, error: CallError) -> None:
        if self._refusal is None:
            self.pool.over(self)
            self.exchange.on_failed(error)
        else:  # the refusal itself has arrived
            self.pool.get_token(self, self._refusal)

    def again(self) -> None:
        """Forget the refusal, and have the next answer taken as it is."""
        self.repeated, self._refusal, self._headers, self._body = True, None, {}, b""

    def stand_by_refusal(self) -> None:
        """Give the session the refusal, because there is no other token."""
        assert self._refusal is not None
        status, headers, body = self._refusal.status, self._headers, self._body
        self.exchange.on_headers(status, headers)
        if body:
            self.exchange.on_body(body)
        self.exchange.on_complete()


class AuthorizedPool(HttpPool):
    """See the module."""

    def __init__(self, endpoint: HttpEndpoint, settings: UpstreamSettings, credentials: Credentials) -> None:
        super().__init__(endpoint, settings)
        self._credentials = credentials
        self._attempts: dict[Exchange, _Attempt] = {}
        self._getting = 0
        self.refused_code = credentials.refused_code

    def submit(self, exchange: Exchange, standing: bool = False) -> None:
        if isinstance(exchange, _Attempt):  # a redirect of one
            super().submit(exchange, standing)
            return
        self._attempts[exchange] = attempt = _Attempt(self, exchange, standing)
        authorization = self._credentials.current()
        if authorization is None:
            self.get_token(attempt, None)
        else:
            attempt.carry(authorization)
            super().submit(attempt, standing)

    def get_token(self, attempt: _Attempt, refusal: Challenge | None) -> None:
        """Send an attempt with a token that is still to be got."""
        if self._getting >= self._settings.max_pending:
            self.over(attempt)
            attempt.exchange.on_failed(NotDelivered("overloaded", f"{self._getting} calls wait for a token already"))
            return
        self._getting += 1
        attempt.getting = spawn(self._send_with_token(attempt, refusal), "get-token")
        attempt.getting.add_done_callback(self._got)

    def _got(self, _: asyncio.Task[None]) -> None:
        self._getting -= 1

    async def _send_with_token(self, attempt: _Attempt, refusal: Challenge | None) -> None:
        try:
            authorization = await self._credentials.renewed(attempt.sent, refusal)
        except CallError as error:
            self.over(attempt)
            attempt.exchange.on_failed(error)
            return
        finally:
            attempt.getting = None
        if authorization is None:
            self.over(attempt)
            attempt.stand_by_refusal()
            return
        if refusal is not None:
            attempt.again()
        attempt.carry(authorization)
        super().submit(attempt, attempt.standing)

    def over(self, attempt: _Attempt) -> None:
        """Forget an attempt that has ended."""
        if self._attempts.get(attempt.exchange) is attempt:
            del self._attempts[attempt.exchange]

    def withdraw(self, exchange: Exchange) -> bool:
        if isinstance(exchange, _Attempt):
            return super().withdraw(exchange)
        attempt = self._attempts.get(exchange)
        if attempt is None or not (_stop_getting(attempt) or super().withdraw(attempt)):
            return False
        self.over(attempt)
        return True

    def cancel(self, exchange: Exchange) -> None:
        attempt = self._attempts.pop(exchange, None)
        if attempt is not None and not _stop_getting(attempt):
            super().cancel(attempt)


def _stop_getting(attempt: _Attempt) -> bool:
    """Give up on an attempt that waits for its token. Return false if it does not wait."""
    if attempt.getting is None:
        return False
    attempt.getting.cancel()
    return True
