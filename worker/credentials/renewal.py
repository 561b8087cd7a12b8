"""One token: kept in memory, renewed before it ends, and shared by all workers through Redis.

While a worker renews it, all calls of this worker wait for that one request, and other workers for its outcome. Without
Redis each worker has a token of its own. Implements ``source.Credentials``.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from typing import Protocol

from shared.errors import CallError, NotDelivered, RegistryUnavailable
from shared.oauth.challenges import Challenge
from shared.oauth.http import OAuthError
from shared.oauth.tokens import Token
from shared.tasks import spawn

_log = logging.getLogger(__name__)
_EARLY = 0.2
_EARLY_S = 60.0
"""A token is renewed when this share of its life is left, or so many seconds: what is less. Calls go on with it."""
_LAST = 0.05
_LAST_S = 5.0
"""A token that ends sooner is not sent any more: the request, and the upstream's clock, need some time."""
_AGAIN_S = 1.0
"""The least time between two requests for a token after a failure, or after the upstream refused a new one."""
_LOCK_S = 15.0
_LOOK_S = 0.05


class Grant(Protocol):
    """A way to get a token."""

    async def request(self, challenge: Challenge | None) -> Token:
        """Return a new token. Raises ``OAuthError``."""


class SharedToken(Protocol):
    """The place of a token that all workers see. Methods raise ``RegistryUnavailable``."""

    async def read(self) -> Token | None:
        """Return the token that is there."""

    async def write(self, token: Token) -> None:
        """Put a token there."""

    async def lock(self, holder: str, limit_s: float) -> bool:
        """Take the right to renew it."""

    async def unlock(self, holder: str) -> None:
        """Give that right back."""


class Renewal:
    """See the module. ``name`` is the upstream's, for logs and errors."""

    def __init__(
        self, name: str, grant: Grant, shared: SharedToken | None, refused_code: str = "upstream_unavailable"
    ) -> None:
        self.refused_code = refused_code
        self._name = name
        self._grant = grant
        self._shared = shared
        self._token: Token | None = None
        self._running: asyncio.Task[Token | CallError] | None = None
        self._failure: CallError | None = None
        self._failed_at = 0.0

    def current(self) -> str | None:
        token, now_s = self._token, time.time()
        if token is None or not _lasts(token, now_s):
            return None
        if self._running is None and _is_due(token, now_s) and not self._failed_just_now():
            self._begin("", None)
        return f"Bearer {token.access}"

    async def renewed(self, refused: str, challenge: Challenge | None) -> str | None:
        bare = refused.removeprefix("Bearer ")
        token, now_s = self._token, time.time()
        if token is not None and _lasts(token, now_s) and token.access != bare:
            return f"Bearer {token.access}"
        if token is not None and token.access == bare and token.issued_at > now_s - _AGAIN_S:
            return None  # it was made a moment ago, so another one would be refused as well
        if self._failed_just_now():
            assert self._failure is not None
            raise self._failure
        running = self._running or self._begin(bare, challenge)
        found = await asyncio.shield(running)
        if isinstance(found, CallError):
            raise found
        return f"Bearer {found.access}" if found.access != bare else None

    def _failed_just_now(self) -> bool:
        return self._failure is not None and time.monotonic() - self._failed_at < _AGAIN_S

    def _begin(self, refused: str, challenge: Challenge | None) -> asyncio.Task[Token | CallError]:
        self._running = task = spawn(self._renew(refused, challenge), f"token for {self._name}")
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Token | CallError]) -> None:
        self._running = None

    async def _renew(self, refused: str, challenge: Challenge | None) -> Token | CallError:
        """Return a new token, or why there is none. With nobody waiting the old token is still there."""
        try:
            self._token = token = await self._new(refused, challenge)
        except OAuthError as error:
            _log.warning("%s: no token: %s", self._name, error)
            if self._token is not None and self._token.access == refused:
                self._token = None
            self._failed_at = time.monotonic()
            self._failure = NotDelivered(self.refused_code, f"there is no token for it: {error}")
            return self._failure
        self._failure = None
        return token

    async def _new(self, refused: str, challenge: Challenge | None) -> Token:
        shared = self._shared
        if shared is None:
            return await self._grant.request(challenge)
        holder = secrets.token_hex(8)
        try:
            found = await self._others(shared, holder, refused)
        except RegistryUnavailable:
            return await self._grant.request(challenge)
        if found is not None:
            return found
        try:
            token = await self._grant.request(challenge)
            try:
                await shared.write(token)
            except RegistryUnavailable:
                _log.debug("%s: its token is known here only until Redis is back", self._name)
            return token
        finally:
            try:
                await shared.unlock(holder)
            except RegistryUnavailable:
                pass  # the right ends by itself

    async def _others(self, shared: SharedToken, holder: str, refused: str) -> Token | None:
        """Return the token that another worker got, or ``None`` once this worker has the right to get one."""
        until = time.monotonic() + _LOCK_S
        while True:
            has_right = await shared.lock(holder, _LOCK_S)
            found = await shared.read()
            now_s = time.time()
            if found is not None and found.access != refused and _lasts(found, now_s) and not _is_due(found, now_s):
                if has_right:
                    await shared.unlock(holder)
                return found
            if has_right or time.monotonic() > until:
                return None
            await asyncio.sleep(_LOOK_S)


def _life_s(token: Token) -> float:
    return max(token.expires_at - token.issued_at, 0.0)


def _is_due(token: Token, now_s: float) -> bool:
    return now_s >= token.expires_at - min(_life_s(token) * _EARLY, _EARLY_S)


def _lasts(token: Token, now_s: float) -> bool:
    return now_s < token.expires_at - min(_life_s(token) * _LAST, _LAST_S)
