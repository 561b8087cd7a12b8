"""A task of 2025-11-25 as clients see it that know the tasks extension. It is kept here, and ends with the worker.

The legacy task belongs to an upstream session of this worker, on which ``legacy_tasks`` waits for it. ``HeldTask``
takes the place of the call that it waits for, and is what ``tasks/get`` shows, ``tasks/update`` answers and
``tasks/cancel`` ends. Counterpart: ``worker.input.tasks``, which has the table.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from shared.errors import CallError
from shared.mcp import jsonrpc
from shared.mcp.rope import Body
from shared.mcp.versions import Era
from worker.bridge import inputs
from worker.bridge.inputs import MAX_REQUESTS, Need
from worker.calls.call import Call, CarryingSession, OnAnswer
from worker.calls.link_call import LinkCall

LIFE_S = 3600.0
"""How long a task and its result are kept, and what the upstream is told."""
_POLL_MS = 1000
"""How often clients are told to ask where the upstream suggests nothing."""
_TOO_MANY = jsonrpc.error_object(-32603, "too many questions are open already")


class HeldTask(Call):
    """See the module. ``over`` is called when it is to be forgotten."""

    __slots__ = ("_document", "_loop", "_numbers", "_open", "_outcome", "_over", "id", "status", "upstream")

    def __init__(self, id: str, first: LinkCall, created: Mapping[str, Raw], over: Callable[[HeldTask], None]) -> None:
        super().__init__(first.method, first.params, Era.MODERN, first.timeout_s)
        self.id = id
        self.upstream = first.upstream
        self.upstream_era = Era.LEGACY
        self.client = first.client
        self.name = first.name
        self.status = "working"
        self._over = over
        self._open: dict[str, tuple[OnAnswer, Need]] = {}
        self._numbers = itertools.count(1)
        self._outcome: dict[str, Raw] = {}
        self._loop = asyncio.get_running_loop()
        self.hard_limit = self.expires_at = self._loop.time() + LIFE_S
        self._document: dict[str, Any] = {
            "createdAt": _now(),
            "lastUpdatedAt": _now(),
            "ttlMs": int(LIFE_S * 1000),
            "pollIntervalMs": created.get("pollInterval", _POLL_MS),
        }

    # ---- what the client sees and does

    def document(self, id: str, **more: Any) -> bytes:
        """Return the task's state under the client's ``id``, with ``more`` members before it."""
        asked = {
            key: {"method": need.method, "params": Raw(need.params or b"{}")} for key, (_, need) in self._open.items()
        }
        said = {**more, "taskId": id, "status": self.status, **self._document, **self._outcome}
        if asked:
            said["inputRequests"] = asked
        return msgspec.json.encode(said)

    def update(self, responses: Mapping[str, Raw]) -> None:
        """Give the client's answers to the upstream. Those to nothing that was asked are ignored."""
        for key, raw in responses.items():
            found = self._open.pop(key, None)
            if found is not None:
                self._become("working" if not self._open else self.status)
                found[0](False, bytes(raw))

    def cancel(self) -> None:
        """End the task, here and upstream."""
        if not self.done:
            self._become("cancelled")
            self.stop("cancelled by the client")
            self._finish("cancelled")

    def _become(self, status: str) -> None:
        if not self.done:
            self.status = status
            self._document["lastUpdatedAt"] = _now()

    # ---- what comes of the upstream

    def told(self, message: str) -> None:
        """Note how far the task is."""
        self._document["statusMessage"] = message
        self._become(self.status)

    def ask(self, on_answer: OnAnswer, need: Need, carrier: CarryingSession) -> None:
        """Show a question of the upstream to the client."""
        why = inputs.refusal(self.client.declared, need.method, need.params)
        if why is not None:
            on_answer(True, jsonrpc.error_object(*why))
        elif len(self._open) >= MAX_REQUESTS:
            on_answer(True, _TOO_MANY)
        else:
            self._open[f"q{next(self._numbers)}"] = on_answer, need
            self._become("input_required")

    def withdrawn(self, on_answer: OnAnswer) -> None:
        """Take a question back."""
        for key in [key for key, (asked, _) in self._open.items() if asked == on_answer]:
            del self._open[key]
        if not self._open:
            self._become("working")

    def extend(self, now: float, by_s: float) -> None:
        """Do nothing: a task has its time, whatever is known of it."""

    def interim(self, message: bytes, now: float) -> None:
        """Drop it: ``told`` has what matters."""

    def expire(self) -> None:
        """Forget the task, and end it upstream if it is not over."""
        self.cancel()
        self._over(self)

    def _finish(self, outcome: str) -> None:
        """Note that the task is over. Its result is kept as long as was said."""
        self.done = True
        self._open.clear()

    def _answered(self, is_error: bool, raw: Body) -> None:
        self._end("failed" if is_error else "completed", "error" if is_error else "result", bytes(raw))

    def _failed(self, error: CallError) -> None:
        self._end("failed", "error", jsonrpc.error_object(error.wire.rpc, error.message))

    def _end(self, status: str, member: str, raw: bytes) -> None:
        self.status, self._outcome = status, {member: Raw(raw)}
        self._document["lastUpdatedAt"] = _now()


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
