"""``gateway.sessions.table`` on a real Redis: one object for one session, and what counts as its use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.sessions.table import SessionTable
from shared.registry.members import Members
from shared.registry.store import RegistryStore
from shared.secrets import FleetKey
from shared.settings import RegistrySettings, SessionSettings

TTL_S = 60.0


@pytest_asyncio.fixture
async def store(redis_url: str) -> AsyncIterator[RegistryStore]:
    store = RegistryStore(RegistrySettings(redis_url=redis_url, key_prefix="sessions:"))
    yield store
    await store.close()


def table(store: RegistryStore, name: str) -> SessionTable:
    """One front end's."""
    members = Members(store, "frontend", 5.0)
    return SessionTable(store, members, name, FleetKey.from_secret("x"), SessionSettings(session_ttl_s=TTL_S))


async def test_requests_that_find_a_session_at_once_find_one_object(store: RegistryStore) -> None:
    opened = await table(store, "f1").open("2025-11-25", "", "", b"{}", b"")
    other = table(store, "f2")
    one, two = await asyncio.gather(other.find(opened.sid), other.find(opened.sid))
    assert one is not None and one is two is other.known[opened.sid] and other.again(one)
    await other.end(opened.sid)
    assert one.ended and not other.again(one) and await other.find(opened.sid) is None


async def test_a_session_that_was_dropped_and_found_again_is_not_mistaken(store: RegistryStore) -> None:
    mine = table(store, "f1")
    before = await mine.open("2025-11-25", "", "", b"{}", b"")
    await store.run_script("ANNOUNCE", "server", "x")  # as in a fleet, where Redis has been written to before
    await mine.recheck()
    assert not mine.again(before)
    after = await mine.find(before.sid)
    assert after is not None and after is not before and mine.again(after) and not mine.again(before)


async def test_to_have_something_for_a_session_is_no_use_of_it(store: RegistryStore) -> None:
    opened = await table(store, "f1").open("2025-11-25", "", "", b"{}", b"")
    other, key = table(store, "f2"), store.keys.session(opened.sid)
    await store.redis.pexpire(key, 5_000)
    assert await other.find(opened.sid, used=False) is not None
    await other.flush()
    assert await store.redis.pttl(key) <= 5_000 and not other.known
    assert await other.find(opened.sid) is not None
    await other.flush()
    assert await store.redis.pttl(key) > 50_000


async def test_a_session_is_found_by_a_front_end_whose_clock_is_behind(
    store: RegistryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = await table(store, "f1").open("2025-11-25", "", "", b"{}", b"")
    other, now = table(store, "f2"), time.time
    monkeypatch.setattr(time, "time", lambda: now() - 600)  # it was set back, or is that of another host
    assert await other.find(opened.sid) is not None


async def test_a_session_that_has_ended_is_not_written_back(store: RegistryStore) -> None:
    mine, other = table(store, "f1"), table(store, "f2")
    opened = await mine.open("2025-11-25", "", "", b"{}", b"")
    assert await other.find(opened.sid) is not None
    await mine.end(opened.sid)
    await other.flush()  # it has not heard yet, and finds the session gone
    assert not await store.redis.exists(store.keys.session(opened.sid))


async def test_a_session_that_redis_lost_is_written_back(store: RegistryStore) -> None:
    opened = await table(store, "f1").open("2025-11-25", "", "", b"{}", b"")
    other = table(store, "f2")
    assert await other.find(opened.sid) is not None, "it is in use there"
    await store.redis.delete(store.keys.session(opened.sid))
    await other.flush()
    assert await store.redis.exists(store.keys.session(opened.sid))


async def test_who_was_counted_as_dead_comes_back_as_somebody_new(store: RegistryStore) -> None:
    members = Members(store, "worker", 5.0)
    await members.join("w", {"joined_at": "1"})
    assert await members.beat("w", {"joined_at": "1", "load": "2"})
    assert (await members.alive())["w"] == {"joined_at": "1", "load": "2"}
    await store.redis.pexpire(store.keys.worker("w"), 60)
    assert await members.beat("w", {"joined_at": "1", "load": "2"})
    assert await store.redis.pttl(store.keys.worker("w")) > 1000, "renewed, though nothing has changed"
    await store.redis.hset(store.keys.worker("w"), "load", "99")
    for _ in range(11):
        assert await members.beat("w", {"joined_at": "1", "load": "2"})
    assert (await members.alive())["w"]["load"] == "2", "what somebody wrote there does not stay"
    await store.redis.delete(store.keys.worker("w"))
    assert not await members.beat("w", {"joined_at": "1", "load": "2"})
    assert not await members.beat("w", {"joined_at": "1"})
    assert "w" not in await members.alive(), "nobody sees the old facts come back"
    await members.join("w", {"joined_at": "2"})
    assert (await members.alive())["w"] == {"joined_at": "2"}


async def _emptied(store: RegistryStore) -> None:
    """Redis as it is after a restart without its data."""
    async for key in store.redis.scan_iter(match="sessions:*"):
        await store.redis.delete(key)


async def _written_to(store: RegistryStore) -> None:
    await store.run_script("ANNOUNCE", "server", "x")


async def test_sessions_that_an_emptied_redis_has_lost_are_written_back_with_what_is_known_of_them(
    store: RegistryStore,
) -> None:
    await _emptied(store)
    await _written_to(store)
    await asyncio.sleep(1.1)  # the time at which a session was opened is known to the second
    mine, other = table(store, "f1"), table(store, "f2")
    session = await mine.open("2025-11-25", "", "", b'{"a":1}', b"")
    await mine.pin(session, "group", "replica", None)
    over = await mine.open("2025-11-25", "", "", b"{}", b"")
    await asyncio.sleep(1.1)
    await _emptied(store)
    await _written_to(store)
    await mine.end(over.sid)
    await mine.recheck()
    assert mine.again(session)
    found = await other.find(session.sid)
    assert found is not None and found.capabilities == b'{"a":1}' and found.pins == {"group": "replica"}
    assert await other.find(over.sid) is None and await mine.find(over.sid) is None


async def test_a_session_whose_front_end_is_gone_too_goes_on_by_its_seal(store: RegistryStore) -> None:
    await _emptied(store)
    session = await table(store, "gone").open("2025-11-25", "", "", b"{}", b"")
    await asyncio.sleep(1.1)
    await _emptied(store)
    await _written_to(store)
    other = table(store, "f2")
    assert await other.find(session.sid) is not None
    await other.flush()
    assert await store.redis.exists(store.keys.session(session.sid))


async def test_a_session_whose_end_was_missed_is_not_written_back(store: RegistryStore) -> None:
    await _written_to(store)
    await asyncio.sleep(1.1)
    mine, other = table(store, "f1"), table(store, "f2")
    session = await mine.open("2025-11-25", "", "", b"{}", b"")
    assert await other.find(session.sid) is not None
    await other.end(session.sid)
    await store.redis.delete(store.keys.ended(session.sid))  # a minute later
    await mine.recheck()
    assert not mine.again(session) and await mine.find(session.sid) is None


async def test_a_strangers_use_of_a_session_is_no_use_of_it_and_asks_redis_nothing(store: RegistryStore) -> None:
    mine = table(store, "f1")
    opened = await mine.open("2025-11-25", "ann", "", b"{}", b"")
    other, key = table(store, "f2"), store.keys.session(opened.sid)
    await store.redis.pexpire(key, 5_000)

    async def commands() -> int:
        return int((await store.redis.info("commandstats"))["cmdstat_hgetall"]["calls"])

    await store.redis.hgetall(key)
    for one in (mine, other):
        before = await commands()
        assert await one.find(opened.sid, principal="eve") is None
        assert one.cached(opened.sid, "eve") is None
        assert await one.find(opened.sid[:-8] + "AAAAAAAA", principal="eve") is None
        await one.flush()
        assert await commands() == before
    assert await store.redis.pttl(key) <= 5_000 and not other.known
    assert await other.find(opened.sid, principal="ann") is not None
    assert mine.cached(opened.sid, "ann") is opened


async def test_that_a_session_has_ended_is_remembered_for_as_long_as_its_id_could_say_otherwise(
    store: RegistryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = table(store, "f1")
    before, *_ = [await mine.open("2025-11-25", "", "", b"{}", b"") for _ in range(2)]
    await mine.end(before.sid)
    await mine.flush()
    assert len(mine._ended) == 1
    loop = asyncio.get_running_loop()
    later = loop.time() + 2 * TTL_S + 61
    monkeypatch.setattr(mine, "_loop", type("Later", (), {"time": lambda self: later})())
    await mine.flush()
    assert not mine._ended


async def test_listeners_are_told_of_sessions_that_are_dropped(store: RegistryStore) -> None:
    mine = table(store, "f1")
    told: list[str] = []
    mine.tell_of_dropped(told.append)
    opened = await mine.open("2025-11-25", "", "", b"{}", b"")
    await mine.end(opened.sid)
    assert told == [opened.sid]
    assert await mine.find(opened.sid) is None and told == [opened.sid]
