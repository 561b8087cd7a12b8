"""How long a child may take to start: as long as it shows signs of life, up to a bound.

A command like ``npx`` or ``uvx`` installs for minutes before the server in it answers, often without a word.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

from shared.tasks import cancel, spawn

_LOOKS = 4
"""How often signs of life are looked for within the time that a child may be silent."""
_WORKS = 5
"""The clock ticks of processor time in one look that are a sign of life."""
_AT_MOST = 10
"""The longest time in all, in times of silence."""


class Patience:
    """A time-out for the body of ``async with``, which raises ``TimeoutError``.

    The time ends after ``silence_s`` without a sign of life (a quarter of that later at most), and in any case after
    ten times that. A sign is a later loop time that ``wrote`` returns, or more processor time that ``used`` returns.
    """

    def __init__(self, silence_s: float, wrote: Callable[[], float], used: Callable[[], int]) -> None:
        self._look_s = silence_s / _LOOKS
        self._allowed_s = silence_s + self._look_s  # signs are looked for, they are not announced
        self._wrote = wrote
        self._used = used
        self._loop = asyncio.get_running_loop()
        self._seen = self._loop.time()
        self._last = self._seen + silence_s * _AT_MOST
        self._timeout = asyncio.timeout_at(self._seen + self._allowed_s)
        self._looking: asyncio.Task[None] | None = None

    async def _look(self) -> None:
        before = await asyncio.to_thread(self._used)
        while True:
            await asyncio.sleep(self._look_s)
            now = await asyncio.to_thread(self._used)
            self._seen = max(self._seen, self._wrote(), self._loop.time() if now - before >= _WORKS else 0.0)
            before = now
            if not self._timeout.expired():
                self._timeout.reschedule(min(self._seen + self._allowed_s, self._last))

    async def __aenter__(self) -> Patience:
        await self._timeout.__aenter__()
        self._looking = spawn(self._look(), "look-for-life")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await cancel(self._looking)
        self._looking = None  # its exception refers to this object
        await self._timeout.__aexit__(kind, error, trace)
