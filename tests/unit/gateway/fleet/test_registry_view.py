"""``gateway.fleet.registry_view``: what a front end goes on serving while Redis is being filled again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from gateway.fleet import registry_view
from gateway.routing.view import ViewKey
from shared.mcp.listings import Kind
from shared.mcp.methods import PROMPTS_CHANGED, TOOLS_CHANGED
from shared.registry.records import UpstreamRecord
from tests.fleet import eventually
from tests.unit.builders import record
from tests.unit.gateway.fakes import Front

KNOWN = record("a", "g", tools=["t"])


class _Redis:
    """What the registry holds, and whether it still has the change log that is followed."""

    def __init__(self, front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
        self.records: dict[str, UpstreamRecord] = {}
        self.current = True
        self.loaded = 0
        monkeypatch.setattr(front.store, "load_all", self.load_all)
        monkeypatch.setattr(front.registry.follower, "is_current", self.is_current)
        monkeypatch.setattr(front.registry.virtual, "load_again", lambda epoch: None)
        front.registry.follower.ready.set()

    async def load_all(self) -> dict[str, UpstreamRecord]:
        self.loaded += 1
        return dict(self.records)

    async def is_current(self) -> bool:
        return self.current


def _serves(front: Front) -> bool:
    return "t" in front.registry.catalog.everything.routes[Kind.TOOLS]


async def test_what_redis_has_after_a_gap_counts_once_owners_had_time_to_write_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry_view, "_LENIENT_S", 0.05)
    front = Front(KNOWN)
    redis = _Redis(front, monkeypatch)
    front.registry.on_snapshot({})
    assert _serves(front)
    await eventually(lambda: not _serves(front), what="nobody wrote it back")
    assert redis.loaded == 1


@pytest.mark.parametrize("seen", [True, False])
async def test_the_end_of_one_gap_is_not_believed_when_another_one_is_there(
    seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether this front end has seen already that Redis was emptied again, or not yet."""
    monkeypatch.setattr(registry_view, "_LENIENT_S", 0.2)
    front = Front(KNOWN)
    redis = _Redis(front, monkeypatch)
    front.registry.on_snapshot({"a": KNOWN})
    if seen:
        await asyncio.sleep(0)
        monkeypatch.setattr(registry_view, "_LENIENT_S", 60.0)
        front.registry.on_snapshot({})
        await front.registry.wait_change(0.5)
        assert not redis.loaded
    else:
        redis.current = False
        await eventually(lambda: redis.loaded == 1)
        await front.registry.wait_change(0.2)
    assert _serves(front)


class _Told:
    """``RegistryEvents`` that notes changes of lists."""

    def __init__(self) -> None:
        self.changes: list[set[str]] = []

    def lists_changed(self, changes: Mapping[ViewKey, set[str]]) -> None:
        self.changes.append(set().union(*changes.values()))

    def workers_changed(self) -> None:
        pass

    def session_ended(self, sid: str) -> None:
        pass

    def key_changed(self, name: str) -> None:
        pass

    def level_set(self, sid: str, level: str) -> None:
        pass

    def announced(self, kind: str, id: str) -> None:
        pass

    def changes_missed(self) -> None:
        pass


async def test_a_rebuild_leaves_others_their_turns_and_another_one_at_once_takes_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry_view, "_TURN_S", 0.0)  # each step is a turn of its own
    front, told = Front(KNOWN), _Told()
    registry = front.registry
    running = asyncio.ensure_future(registry.run(told))
    await asyncio.sleep(0)

    def lists(tool: str) -> bool:
        return tool in registry.catalog.everything.routes[Kind.TOOLS]

    registry.on_upstreams({"b": record("b", "h", sequence=2, tools=["u"])}, {"a": {PROMPTS_CHANGED}})
    turns = 0
    async with asyncio.timeout(10.0):
        while not lists("u"):
            await asyncio.sleep(0)
            turns += registry.is_rebuilding
    assert turns > 10
    await eventually(lambda: told.changes == [{TOOLS_CHANGED, PROMPTS_CHANGED}], what="it is told, once")

    registry.on_upstreams({"b": record("b", "h", sequence=2, tools=["v"])}, {"a": {PROMPTS_CHANGED}})
    async with asyncio.timeout(10.0):
        while not registry.is_rebuilding:
            await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    assert lists("u") and not lists("v")
    registry.take_policy(None)
    assert lists("v"), "at once"
    assert told.changes[1:] == [{TOOLS_CHANGED, PROMPTS_CHANGED}]
    await eventually(lambda: not registry.is_rebuilding)
    assert lists("v") and len(told.changes) == 2
    running.cancel()


LONG = record("b", "h", sequence=2, tools=[f"tool_{n}" for n in range(5000)])


def _tools(front: Front) -> int:
    return len(front.registry.catalog.everything.routes[Kind.TOOLS])


async def test_a_long_list_that_changes_or_goes_while_it_is_parsed() -> None:
    front = Front(KNOWN)
    front.registry.on_upstreams({"b": LONG}, {})
    await asyncio.sleep(0)
    front.registry.on_upstreams({"b": record("b", "h", sequence=2, tools=["one"])}, {})
    await eventually(lambda: _tools(front) == 2)
    front.registry.on_upstreams({"b": LONG}, {})
    await asyncio.sleep(0)
    front.registry.on_upstreams({"b": None}, {})
    await eventually(lambda: _tools(front) == 1)
    front.registry.on_upstreams({"c": record("c", "i", sequence=3, tools=[f"t_{n}" for n in range(5000)])}, {})
    front.registry.on_upstreams({"b": LONG}, {})
    await eventually(lambda: _tools(front) == 10_001)


async def test_catching_up_waits_for_a_long_list(monkeypatch: pytest.MonkeyPatch) -> None:
    front = Front(KNOWN)

    async def last_change() -> int:
        return 0

    monkeypatch.setattr(front.store, "last_change", last_change)
    front.registry.on_upstreams({"b": LONG}, {})
    await front.registry.catch_up()
    assert _tools(front) == 5001
