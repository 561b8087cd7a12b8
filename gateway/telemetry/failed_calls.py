"""The last calls that failed, for people who ask why: ``gateway errors`` and the dashboard.

``counters`` tell of each failure; the path of calls that succeed does not come by here. Each front end writes its own
to Redis once a second, at most ``_AT_ONCE`` of them: where thousands fail, those show why.
"""

from __future__ import annotations

from gateway.telemetry.observer import ObservedCall, arrived
from shared.errors import RegistryUnavailable
from shared.mcp.versions import Era
from shared.models import now_s
from shared.registry.failed_calls import MOST, FailedCall, FailedCallStore
from shared.tasks import tick

_AT_ONCE = 50
_EVERY_S = 1.0
_WORDS = 300


class FailedCalls:
    """Notes failed calls. ``link`` is a template of the address of a trace, or empty."""

    def __init__(self, store: FailedCallStore, frontend: str, link: str = "") -> None:
        self._store = store
        self._frontend = frontend
        self._link = link
        self._waiting: list[FailedCall] = []

    def note(self, call: ObservedCall, outcome: str, seconds: float) -> None:
        """Note that a call failed, unless enough have just now."""
        if outcome == "cancelled" or len(self._waiting) >= _AT_ONCE:
            return
        sent = None if call.trace else arrived(call)
        self._waiting.append(
            FailedCall(
                now_s(),
                outcome,
                call.method[:_WORDS],
                call.name[:_WORDS],
                call.group,
                call.upstream,
                call.principal[:_WORDS],
                Era(bool(call.era)).word,
                call.attempts,
                round(seconds * 1000, 1),
                call.trace[3:35] if call.trace else sent.trace_id if sent is not None else "",
                call.id[:_WORDS].decode("utf-8", "replace"),
                call.error[:_WORDS],
                self._frontend,
            )
        )

    async def run(self) -> None:
        """Write what was noted, until cancelled."""
        while True:
            await tick(_EVERY_S)
            await self._write()

    async def _write(self) -> None:
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        try:
            await self._store.append(waiting)
        except RegistryUnavailable:
            self._waiting = [*waiting, *self._waiting][:_AT_ONCE]  # written when Redis is back

    async def latest(self, limit: int, **wanted: str) -> list[FailedCall]:
        """Return the newest calls, newest first, of those whose fields are as ``wanted``; while Redis is away those of
        this front end that it has not taken."""
        try:
            await self._write()
            found = await self._store.latest()
        except RegistryUnavailable:
            found = self._waiting
        fitting = [one for one in reversed(found) if all(getattr(one, name) == word for name, word in wanted.items())]
        return fitting[: min(limit, MOST)]

    def link(self, call: FailedCall) -> str:
        """Return the address at which the trace of a call is shown, or an empty text."""
        return self._link.replace("{trace}", call.request) if call.request else ""
