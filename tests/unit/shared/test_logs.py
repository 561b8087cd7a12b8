"""``shared.logs``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import watchfiles

from shared.logs import configure


@pytest.fixture(autouse=True)
def unchanged() -> Iterator[None]:
    root, watching = logging.getLogger(), logging.getLogger("watchfiles")
    before = root.handlers[:], root.level, watching.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    watching.setLevel(before[2])


@pytest.mark.parametrize("level", ["debug", "info"])
async def test_a_log_in_a_folder_that_is_followed_does_not_feed_itself(tmp_path: Path, level: str) -> None:
    configure("supervisor", level)
    with (tmp_path / "log").open("w") as log:
        handler = logging.StreamHandler(log)
        handler.setFormatter(logging.Formatter("%(name)s %(message)s"))
        logging.getLogger().handlers[:] = [handler]
        async with asyncio.timeout(20.0), asyncio.TaskGroup() as tasks:
            touching = tasks.create_task(_touch(tmp_path / "config"))
            async for _ in watchfiles.awatch(tmp_path, step=5, debounce=20):
                break
            touching.cancel()
        logging.getLogger("gateway").warning("ours")
    lines = (tmp_path / "log").read_text().splitlines()  # what other tests left behind may speak up too
    assert "gateway ours" in lines and not any(line.startswith("watchfiles") for line in lines)


async def _touch(path: Path) -> None:
    while True:
        path.touch()
        await asyncio.sleep(0.02)


def test_what_is_asked_for_is_not_exceeded() -> None:
    configure("supervisor", "error")
    assert not logging.getLogger("watchfiles.main").isEnabledFor(logging.WARNING)
