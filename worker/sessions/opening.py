"""The opening of an upstream session: one attempt, for which any number of callers wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn

from shared.errors import ELSEWHERE, CallError, NotDelivered
from shared.tasks import spawn


class Opening:
    """The attempt to open one session. ``failure`` is why it failed, as callers are told."""

    def __init__(self) -> None:
        self.failure: CallError = NotDelivered("upstream_unavailable", "not connected")
        self._task: asyncio.Task[None] | None = None

    @property
    def under_way(self) -> bool:
        """Whether the session is being opened now."""
        return self._task is not None and not self._task.done()

    def begin(self, attempt: Callable[[], Coroutine[Any, Any, None]], upstream: str) -> asyncio.Task[None]:
        """Begin the attempt, unless there is one. Return its task."""
        if self._task is None:
            self._task = spawn(attempt(), f"open {upstream}")
        return self._task

    def forget(self) -> None:
        """Let the next ``begin`` begin another attempt."""
        self._task = None

    def cancel(self) -> None:
        """End an attempt that is under way."""
        if self._task is not None and self.under_way:
            self._task.cancel()

    async def succeeds(
        self, connect: Callable[[], Awaitable[None]], patience: AbstractAsyncContextManager[object]
    ) -> bool:
        """Connect within ``patience``, which raises ``TimeoutError``. Return whether that succeeded; if not, the
        failure says why."""
        try:
            async with patience:
                await connect()
        except TimeoutError:
            self.failure = NotDelivered("upstream_unavailable", "no handshake in time", {"certain": "1"})
        except CallError as error:
            passed_on = error.code == "overloaded" or ELSEWHERE in error.data
            code = error.code if passed_on else "upstream_unavailable"
            self.failure = NotDelivered(code, error.message, error.data)
        else:
            return True
        return False

    def raise_failure(self) -> NoReturn:
        """Raise the failure. A copy of it is kept: an error that was raised refers to the frames that it came by."""
        failure = self.failure
        self.failure = NotDelivered(failure.code, failure.message, failure.data)
        try:
            raise failure
        finally:
            del failure  # it refers to this frame now
