"""``worker.ownership.inventory``: which records make this worker hold an upstream."""

from __future__ import annotations

from typing import Any, cast

import pytest
from msgspec.structs import replace

from shared.registry.changes import RESTART
from shared.registry.records import UpstreamRecord
from shared.settings import Settings
from tests.unit.builders import record
from worker.calls.observer import ANSWERED
from worker.calls.own_call import OwnCall
from worker.ownership.holding import Holding
from worker.ownership.inventory import Inventory


async def test_an_entry_that_cannot_be_run_is_not_held_and_let_go_when_it_becomes_one() -> None:
    inventory = Inventory(cast(Any, None), "w1", Settings(), cast(Any, None))
    sound = record("a", owners=[(1, "w1")])
    flawed = replace(sound, spec=replace(sound.spec, problem="variable K is not set"))
    inventory.apply({"a": flawed})
    assert not inventory.movable("a")
    inventory.apply({"a": sound})
    assert inventory.movable("a")
    inventory.apply({"a": flawed})
    assert not inventory.movable("a")
    await inventory.close()


async def test_what_is_to_begin_anew_is_another_upstream_object_afterwards_at_every_worker_that_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str] = []

    class Noted(Holding):
        def __init__(self, record: UpstreamRecord, *rest: Any) -> None:
            made.append(record.spec.id)
            super().__init__(record, *rest)

    monkeypatch.setattr("worker.ownership.inventory.Holding", Noted)
    inventory = Inventory(cast(Any, None), "w1", Settings(), cast(Any, None))
    inventory.apply({"a": record("a", owners=[(1, "w1")]), "b": record("b", owners=[(1, "w1")])})
    assert made == ["a", "b"]
    inventory.hint(RESTART, "a")
    inventory.hint(RESTART, "nothing of ours")
    assert made == ["a", "b", "a"]
    inventory.draining = True
    inventory.hint(RESTART, "a")
    assert made == ["a", "b", "a"], "who is about to leave goes on with what it has"
    await inventory.close()


async def test_a_child_that_clients_use_is_not_moved_between_two_of_their_calls_but_not_put_off_for_ever() -> None:
    nothing = cast(Any, None)
    used, unused, web = (
        Holding(record(id, transport=transport), Settings(), "w1", nothing, nothing, nothing, nothing)
        for id, transport in (("used", "stdio"), ("unused", "stdio"), ("web", "http"))
    )
    call = OwnCall("tools/call", b"{}")
    for at in range(1000, 1059):
        for one in (used, web):
            one.upstream.traffic.begun(call)
            one.upstream.traffic.finished(call, ANSWERED)
        assert not used.movable(at)
        assert unused.movable(at), "nobody called it"
        assert web.movable(at), "another worker has it before this one lets go"
    assert used.movable(1062), "it was not called for a while"
    used.upstream.traffic.begun(call)
    assert not used.movable(1070), "a call is under way"
    used.upstream.traffic.finished(call, ANSWERED)
    assert used.movable(1070), "in use, but for too long"
