"""``shared.metrics.publisher``: figures are written when they change."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.metrics import publisher
from shared.metrics.families import Family, Sample, Snapshot, counter
from shared.metrics.instance_directory import VARIABLE, InstanceDirectory
from shared.metrics.publisher import Publisher
from shared.registry.figures import FiguresStore
from shared.registry.store import RegistryStore
from shared.settings import build
from tests.fleet import eventually


async def test_figures_that_do_not_change_are_not_written_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """At rest, to write them every second was most of what a process did."""
    monkeypatch.setattr(publisher, "_EVERY_S", 0.001)
    monkeypatch.setattr(publisher, "_TO_REDIS_EVERY_S", 0.0)
    monkeypatch.setattr(publisher, "_AT_LEAST_EVERY_S", 1e9)
    looks, written, calls = 0, [], 1.0

    def counted() -> list[Family]:
        nonlocal looks
        looks += 1
        family = counter("gateway_calls", "Calls")
        family.samples.append(Sample((), calls))
        return [family]

    async def to_redis(self: FiguresStore, packed: bytes, id: str) -> None:
        written.append(packed)

    async def forget(self: FiguresStore, id: str) -> None:
        pass

    monkeypatch.setattr(FiguresStore, "write", to_redis)
    monkeypatch.setattr(FiguresStore, "forget", forget)
    store = RegistryStore(build(overrides={"redis_url": "redis://127.0.0.1:1"}).registry)
    files: list[float] = []
    write = InstanceDirectory.write

    def noted(self: InstanceDirectory, snapshot: Snapshot) -> None:
        files.append(calls)
        write(self, snapshot)

    monkeypatch.setattr(InstanceDirectory, "write", noted)
    one = Publisher("worker", "w", counted, list, store, 5.0, {VARIABLE: str(tmp_path)})
    one.start()
    try:
        await eventually(lambda: looks > 40)
        assert (len(files), len(written)) == (1, 1)
        calls = 2.0
        await eventually(lambda: len(files) == 2 and len(written) == 2)
        known = looks
        await eventually(lambda: looks > known + 40)
        assert (len(files), len(written)) == (2, 2)
    finally:
        await one.stop()
