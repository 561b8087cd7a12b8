"""How the supervisor replaces what dies: real children, which end at once."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import cast

import pytest

from gateway.supervisor import lifecycle
from gateway.supervisor.lifecycle import Child, Supervisor
from shared.registry.keys import Keys
from shared.registry.store import RegistryStore
from shared.settings import build
from shared.tasks import cancel, spawn
from tests.fleet import eventually


class Noted:
    """What the supervisor asks of a ``RegistryStore`` and its Redis: it notes restarts."""

    def __init__(self) -> None:
        self.keys = Keys("gw:")
        self.redis = self
        self.restarts: list[str] = []

    async def hincrby(self, key: str, field: str, by: int) -> None:
        """Note one."""
        assert (key, by) == (self.keys.restarts, 1)
        self.restarts.append(field)

    async def smembers(self, key: str) -> set[bytes]:
        """No worker has joined."""
        return set()


async def _waits(code: str, count: int, caplog: pytest.LogCaptureFixture) -> list[float]:
    """Seconds before each of the first ``count`` replacements of a child that runs ``code``, as logged."""
    supervisor = Supervisor(build(overrides={"restart_min_s": 0.05, "restart_max_s": 0.2}))
    noted = Noted()
    supervisor.store = cast(RegistryStore, noted)
    child = Child("worker 1", [sys.executable, "-c", code], {})
    began = asyncio.get_running_loop().time()
    with caplog.at_level(logging.WARNING, "gateway.supervisor.lifecycle"):
        await child.start()
        watch = spawn(supervisor.watch(child), "watch")
        try:
            await eventually(lambda: child.restarts >= count, 20.0, "replaced so often")
        finally:
            took_s = asyncio.get_running_loop().time() - began
            await cancel(watch)
            await child.stop(5.0)
    said = [record for record in caplog.records if "starting another" in record.message]  # other tests' servers log too
    waits = [float(str(record.args[-1])) for record in said if isinstance(record.args, tuple)]
    assert took_s >= sum(waits[:count]), "it is waited for as long as is said"
    assert noted.restarts[:count] == ["worker 1"] * count
    assert all("it cannot" in record.message for record in said)
    return waits[:count]


async def test_what_dies_again_and_again_is_replaced_more_and_more_slowly(caplog: pytest.LogCaptureFixture) -> None:
    dies = "import sys; sys.exit('error: it cannot')"
    assert await _waits(dies, 5, caplog) == [0.05, 0.1, 0.2, 0.2, 0.2]


async def test_what_had_settled_is_replaced_at_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifecycle, "SETTLED_S", 0.1)
    lives = "import sys, time; time.sleep(0.3); sys.exit('error: it cannot')"
    assert await _waits(lives, 3, caplog) == [0.0, 0.0, 0.0]


async def test_what_cannot_be_started_for_now_is_tried_again_and_redis_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    supervisor = Supervisor(build(overrides={"restart_min_s": 0.01, "restart_max_s": 0.02}))
    noted, silent = Noted(), asyncio.Event()
    noted.hincrby = lambda *_: silent.wait()  # type: ignore[assignment, method-assign]
    supervisor.store = cast(RegistryStore, noted)
    child = Child("worker 1", [sys.executable, "-c", "import time; time.sleep(60)"], {})
    await child.start()
    assert child.process is not None
    first, tries, start = child.process, 0, child.start

    async def no_room() -> None:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise OSError(24, "Too many open files")
        await start()

    monkeypatch.setattr(child, "start", no_room)
    watch = spawn(supervisor.watch(child), "watch")
    try:
        first.kill()
        await eventually(lambda: child.process is not first, 20.0, "replaced")
        assert tries == 4 and not child.ended
    finally:
        await cancel(watch)
        await child.stop(5.0)
        silent.set()
