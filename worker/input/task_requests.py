"""The gateway's own requests about a task that it waits for. Counterparts: ``task_wait``, ``legacy_tasks``."""

from __future__ import annotations

from collections.abc import Callable

from shared.errors import CallError
from shared.mcp.rope import Body
from shared.mcp.versions import Era
from shared.tasks import Deadlines
from worker.calls.call import Call

OnEnd = Callable[[bytes | CallError | None, bytes], None]
"""Takes the result of a request about a task, or why it failed, or ``None`` and the JSON of the upstream's error."""


class TaskRequest(Call):
    """The gateway's own request about a task that it waits for."""

    __slots__ = ("_deadlines", "_on_end")
    ours = True

    def __init__(self, method: str, params: bytes, timeout_s: float, deadlines: Deadlines, on_end: OnEnd) -> None:
        super().__init__(method, params, Era.MODERN, timeout_s)
        self._deadlines = deadlines
        self._on_end = on_end

    def _finish(self, outcome: str) -> None:
        super()._finish(outcome)
        self._deadlines.forget(self)

    def _answered(self, is_error: bool, raw: Body) -> None:
        self._on_end(None if is_error else bytes(raw), bytes(raw) if is_error else b"")

    def _failed(self, error: CallError) -> None:
        self._on_end(error, b"")
