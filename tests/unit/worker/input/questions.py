"""What an upstream asks of a client, and calls that are asked: for the tests of ``worker.input.broker``."""

from __future__ import annotations

from typing import Any

from shared.mcp.versions import Era
from tests.unit.worker.worker_harness import ALL, WorkerHarness

LEGACY, MODERN = Era.LEGACY, Era.MODERN
YES = {"action": "accept", "content": {"n": 1}}
FORM = {"message": "?", "requestedSchema": {}}
DONE = {"content": [{"type": "text", "text": "done"}]}


def only(sent: list[dict[str, Any]]) -> dict[str, Any]:
    (one,) = sent
    return one


def begun(harness: WorkerHarness, era: Era = LEGACY, session: str = "s1", **how: Any) -> tuple[int, int]:
    """A call is with the upstream: its number, and its id there."""
    if era is LEGACY and session:
        harness.a.open(session, ALL)
    number = harness.call(era, session if era is LEGACY else "", **how)
    return number, only(harness.session.take())["id"]


def next_try(result: dict[str, Any], **responses: Any) -> dict[str, Any]:
    """What a client's next try carries."""
    return {"requestState": result["requestState"], **({"inputResponses": responses} if responses else {})}
