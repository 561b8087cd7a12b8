"""Whether a server that was found to speak the modern era speaks the legacy one too, tried for the first client that
needs it.

A child locks to the era of its first request, so the probe finds only one. For the other one a second child is started.
Clients of the legacy era are served by it, or by the bridge if the server has no such era.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from shared.choices import EraChoice
from shared.mcp.versions import Era
from shared.models import UpstreamSpec
from shared.tasks import spawn
from shared.transports import traits
from worker.calls.call import Call
from worker.transports.transport import UpstreamFacts


class TriedUpstream(Protocol):
    """The upstream whose second era is tried (``worker.ownership.upstream``)."""

    spec: UpstreamSpec

    def submit(self, call: Call) -> None:
        """Carry a call, whose era is known now."""

    async def open_second_era(self, transport: str) -> None:
        """Open a session in the legacy era beside the modern one, and keep it if the server has that era."""


class SecondEra:
    """The attempt, and the calls that wait for it."""

    def __init__(self, upstream: TriedUpstream) -> None:
        self._upstream = upstream
        self._loop = asyncio.get_running_loop()
        self._waiting: list[Call] = []
        self._trying: asyncio.Task[None] | None = None
        self._tried = False

    def forget(self) -> None:
        """Let the era be tried again, because the upstream was reached anew."""
        self._tried = False

    def is_to_be_tried(self, facts: UpstreamFacts) -> bool:
        """Whether the legacy era is still to be tried."""
        return (
            traits(facts.transport).locks_era
            and facts.eras == (Era.MODERN.word,)
            and self._upstream.spec.era is EraChoice.AUTO
            and not self._tried
        )

    def hold(self, call: Call, transport: str) -> None:
        """Carry a call of a legacy client when the attempt has ended."""
        self._waiting.append(call)
        self.begin(transport)

    def begin(self, transport: str) -> asyncio.Task[None]:
        """Begin the attempt, unless it has begun. Return its task."""
        if self._trying is None:
            self._trying = spawn(self._try(transport), f"second era of {self._upstream.spec.id}")
        return self._trying

    async def _try(self, transport: str) -> None:
        """Try, and carry the waiting calls, whatever became of the upstream meanwhile."""
        await self._upstream.open_second_era(transport)
        self._tried, self._trying = True, None
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            if not call.done:
                call.connected_at = self._loop.time()
                self._upstream.submit(call)
