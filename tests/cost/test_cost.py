"""The path of a call must not grow unnoticed: function calls are counted, which neither noise nor other load changes.

When the count falls, or grows for a good reason, write the new numbers below and say why in the commit.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from shared.mcp.versions import Era
from tests.cost.hot_path import RESULT, FrontEndPath, WorkerPath

CALLS = 1000
ALLOWED_GROWTH = 1.10
FUNCTIONS_PER_CALL = {
    "front end": 110.0,
    "front end, session": 113.0,
    "worker": 145.0,
    "worker, legacy upstream": 172.0,
}
"""Python and C functions called for one call, Python 3.11."""


def count(call: Callable[[], None]) -> float:
    """Functions that one call calls, on average over ``CALLS``."""
    for _ in range(50):  # caches fill
        call()
    counted = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal counted
        if event in ("call", "c_call"):
            counted += 1

    sys.setprofile(note)
    try:
        for _ in range(CALLS):
            call()
    finally:
        sys.setprofile(None)
    return counted / CALLS


PATHS: dict[str, Callable[[], FrontEndPath | WorkerPath]] = {
    "front end": FrontEndPath,
    "front end, session": partial(FrontEndPath, Era.LEGACY),
    "worker": WorkerPath,
    "worker, legacy upstream": partial(WorkerPath, Era.LEGACY),
}


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="other versions of Python count differently")
@pytest.mark.parametrize("part", FUNCTIONS_PER_CALL)
async def test_the_path_of_a_call_has_not_grown(part: str) -> None:
    path = PATHS[part]()
    found, known = count(path.call), FUNCTIONS_PER_CALL[part]
    assert found <= known * ALLOWED_GROWTH, f"{found:.1f} functions a call, {known:.1f} before: find out what was added"
    assert found >= known / ALLOWED_GROWTH, (
        f"{found:.1f} functions a call, {known:.1f} before: write the new number down"
    )


async def test_the_paths_really_answer() -> None:
    for era in Era:
        front = FrontEndPath(era)
        front.call()
        (answer,) = front.client.written
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b'"result":%b}' % RESULT)
        worker = WorkerPath(era)
        worker.call()
        assert worker.frontend.written[-1].endswith(RESULT)
