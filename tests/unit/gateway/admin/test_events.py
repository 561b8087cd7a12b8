"""``gateway.admin.events``: what a front end tells of what it sees in its copy of the registry."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from gateway.admin.events import EventLog
from shared.choices import Duty
from shared.models import ServerStatus
from shared.registry.members import Members
from shared.registry.records import UpstreamRecord
from tests.unit.builders import record


class _Registry:
    """What the log asks of a ``RegistryView``: records that ``show`` replaces."""

    available = True

    def __init__(self) -> None:
        self.records: dict[str, UpstreamRecord] = {}
        self.catalog = type("Catalog", (), {"pinning": type("Pinning", (), {"differing": {}})})
        self._changed = asyncio.Event()
        self.looked = asyncio.Event()

    async def wait_change(self, within_s: float) -> None:
        self.looked.set()
        await self._changed.wait()
        self._changed.clear()

    async def show(self, *records: UpstreamRecord) -> None:
        """Have the log see these records."""
        self.records = {one.spec.id: one for one in records}
        self.looked.clear()
        self._changed.set()
        await self.looked.wait()


class _NoMembers:
    async def alive(self) -> dict[str, dict[str, str]]:
        return {}


async def _told(*stages: tuple[UpstreamRecord, ...]) -> list[tuple[str, str, str]]:
    """Return the events, as (kind, id, text), that are told when the registry goes through ``stages``."""
    registry, members = _Registry(), cast(Members, _NoMembers())
    log = EventLog(cast(Any, registry), members, members)
    running = asyncio.ensure_future(log.run())
    await registry.looked.wait()
    for stage in stages:
        await registry.show(*stage)
    running.cancel()
    return [(event.kind, event.id, event.text) for event in log.recent()]


async def test_an_upstream_that_is_new_and_connected_already_tells_both() -> None:
    new = record("a", status=ServerStatus.CONNECTED)
    assert await _told((new,)) == [("upstream-added", "a", "http"), ("upstream-status", "a", "connected")]


async def test_an_upstream_that_was_only_registered_tells_its_status_when_it_has_one() -> None:
    new, connected = record("a", status=ServerStatus.REGISTERED), record("a", status=ServerStatus.CONNECTED)
    assert await _told((new,)) == [("upstream-added", "a", "http")]
    assert await _told((new,), (connected,)) == [
        ("upstream-added", "a", "http"),
        ("upstream-status", "a", "connected"),
    ]


async def test_what_is_asked_for_is_told_of_upstreams_that_there_are() -> None:
    registry, members = _Registry(), cast(Members, _NoMembers())
    log = EventLog(cast(Any, registry), members, members)
    registry.records = {"a": record("a", group="group")}
    log.restarted("a")
    log.restarted("nothing")
    assert [(event.kind, event.id, event.group) for event in log.recent()] == [("upstream-restart", "a", "group")]


async def test_who_is_drained_or_enabled_tells_that() -> None:
    stages = [(record("a", duty=duty),) for duty in (Duty.ACTIVE, Duty.DRAINING, Duty.ACTIVE)]
    told = await _told(*stages)
    assert told[2:] == [("upstream-duty", "a", "draining now"), ("upstream-duty", "a", "active now")]
