"""``worker.ownership.reconciliation``: nobody's entries are dropped because somebody else wrote his back first."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from shared.errors import RegistryUnavailable
from shared.registry.records import UpstreamRecord
from tests.unit.builders import record
from worker.ownership.reconciliation import Reconciliation

Records = dict[str, UpstreamRecord | None]


class Registry:
    """Holds records; ``before`` is called before each answer, as others write meanwhile."""

    def __init__(self) -> None:
        self.records: dict[str, UpstreamRecord] = {}
        self.down = False

    async def load_all(self) -> dict[str, UpstreamRecord]:
        await asyncio.sleep(0)
        if self.down:
            raise RegistryUnavailable("down")
        return dict(self.records)

    async def load(self, ids: Iterable[str]) -> Records:
        await asyncio.sleep(0)
        return {id: self.records.get(id) for id in ids}


class Running:
    """Notes what it is told, in order."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.told: list[str] = []
        self.records: dict[str, UpstreamRecord] = {}
        self.writing: asyncio.Event = asyncio.Event()
        self.writing.set()

    def apply(self, records: Records) -> None:
        self.told.append("apply " + ",".join(records))
        self.records.update({id: one for id, one in records.items() if one is not None})

    def replace_all(self, records: dict[str, UpstreamRecord]) -> None:
        self.told.append("replace " + ",".join(records))
        self.records = dict(records)

    async def be_known(self) -> None:
        self.told.append("be known")

    async def reassert(self) -> None:
        self.told.append("reassert")
        await self.writing.wait()


async def _settled(reconciliation: Reconciliation, running: Running, what: str) -> None:
    for _ in range(100):
        if running.told[-1] == what:
            return
        await asyncio.sleep(0)
    raise AssertionError(running.told)


async def test_the_first_snapshot_is_taken_and_later_ones_are_answered_first() -> None:
    registry, calls = Registry(), []
    running = Running(registry)
    reconciliation = Reconciliation(registry, running, running.be_known, lambda: calls.append(1))
    reconciliation.snapshot({"a": record("a")})
    assert running.told == ["replace a"]
    registry.records = {"a": record("a"), "b": record("b")}
    reconciliation.snapshot({})
    await _settled(reconciliation, running, "replace a,b")
    assert running.told == ["replace a", "apply ", "be known", "reassert", "replace a,b"] and len(calls) == 3


async def test_changes_that_others_write_meanwhile_wait_and_are_read_again() -> None:
    registry = Registry()
    running = Running(registry)
    reconciliation = Reconciliation(registry, running, running.be_known, lambda: None)
    reconciliation.snapshot({"a": record("a", owners=[(0, "me"), (1, "other")])})
    running.writing.clear()
    reconciliation.snapshot({})
    await _settled(reconciliation, running, "reassert")
    half = record("a", owners=[(1, "other")])  # the other worker wrote back its own slot
    reconciliation.changes({"a": half})
    running.told.append("-")
    whole = record("a", owners=[(0, "me"), (1, "other")])
    registry.records = {"a": whole}
    running.writing.set()
    await _settled(reconciliation, running, "replace a")
    assert running.records == {"a": whole} and "apply a" not in running.told
    reconciliation.changes({"a": None})
    assert running.told[-1] == "apply a"


async def test_a_snapshot_during_one_is_taken_after_it() -> None:
    registry = Registry()
    running = Running(registry)
    reconciliation = Reconciliation(registry, running, running.be_known, lambda: None)
    reconciliation.snapshot({})
    running.writing.clear()
    reconciliation.snapshot({})
    await _settled(reconciliation, running, "reassert")
    reconciliation.snapshot({})
    running.writing.set()
    for _ in range(100):
        await asyncio.sleep(0)
    assert running.told.count("reassert") == 2


async def test_an_outage_in_the_middle_is_waited_for_and_what_is_new_is_taken_at_once() -> None:
    registry = Registry()
    running = Running(registry)
    reconciliation = Reconciliation(registry, running, running.be_known, lambda: None)
    reconciliation.snapshot({"a": record("a")})
    registry.down = True
    registry.records = {"a": record("a"), "b": record("b")}
    reconciliation.snapshot({"b": record("b")})
    assert running.told[-1] == "apply b"
    await asyncio.sleep(0.05)
    registry.down = False
    await asyncio.wait_for(_replaced(running), 30)
    assert set(running.records) == {"a", "b"}
    await reconciliation.close()


async def _replaced(running: Running) -> None:
    while running.told[-1] != "replace a,b":
        await asyncio.sleep(0.01)
