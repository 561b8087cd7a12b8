"""What other processes may take for the death of a worker: not one that stood still and went on, however late the news
of its stop comes.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket as sockets
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from shared.registry import deaths
from shared.registry.members import Members
from shared.registry.store import RegistryStore
from shared.settings import RegistrySettings
from tests.fleet import eventually
from tests.unit.builders import record
from worker import reaper
from worker.life import Life
from worker.ownership.incumbents import Incumbents

_TTL_S = 60.0


@pytest_asyncio.fixture
async def store(redis_url: str) -> AsyncIterator[RegistryStore]:
    store = RegistryStore(RegistrySettings(redis_url, f"deaths{os.getpid()}:"))
    yield store
    await store.redis.flushdb()
    await store.close()


async def test_who_has_joined_anew_is_not_buried_for_what_was_before(store: RegistryStore) -> None:
    members = Members(store, "worker", _TTL_S)
    await members.join("w", {"joined_at": "1.0"})
    seen = await members.joined_at("w")
    await members.beat("w", {"joined_at": "2.0"})
    assert not await members.bury("w", seen)
    assert list(await members.alive()) == ["w"]
    assert await members.bury("w", "2.0")
    assert await members.alive() == {}
    assert await members.bury("w", "2.0"), "it is gone, whoever did it"


async def test_who_joins_anew_while_its_expired_record_is_looked_at_stays_a_member(
    store: RegistryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    members = Members(store, "worker", _TTL_S)
    for id in ("anew", "gone"):
        await members.join(id, {"joined_at": "1.0"})
        await store.redis.delete(store.keys.worker(id))
    key = members._key

    async def joins_first(name: str, *arguments: object) -> object:
        await store.redis.hset(key("anew"), "joined_at", "2.0")  # as ``join`` does
        return await run(name, *arguments)

    run = store.run_script
    monkeypatch.setattr(store, "run_script", joins_first)
    assert await members.alive() == {}
    assert await store.redis.smembers(store.keys.workers) == {b"anew"}


async def test_a_worker_owns_nothing_once_its_record_is_gone(store: RegistryStore) -> None:
    members = Members(store, "worker", _TTL_S)
    await members.join("w", {"joined_at": "1.0"})
    await store.redis.hset(store.keys.server("u"), "owner:0", "w")
    assert await store.is_owner("u", 0, "w")
    assert not await store.is_owner("u", 0, "other")
    await members.bury("w", "1.0")
    assert not await store.is_owner("u", 0, "w")


async def test_who_lost_its_lock_joins_anew_before_it_starts_anything(tmp_path: Path) -> None:
    joined: list[bool] = []

    async def rejoin() -> None:
        joined.append(deaths.has_ended(socket) is False)

    socket = tmp_path / "w.sock"
    life = Life(socket, rejoin)
    assert await life.counts() and not joined
    reapers = os.dup(life.descriptor)
    fcntl.flock(reapers, fcntl.LOCK_UN)
    assert deaths.has_ended(socket) is True
    looking = os.open(socket.with_suffix(".alive"), os.O_RDWR)
    fcntl.flock(looking, fcntl.LOCK_SH)
    assert not await life.counts(), "somebody may be taking over just now"
    os.close(looking)
    assert await asyncio.gather(life.counts(), life.counts()) == [True, True]
    assert joined == [True], "once, and with the lock"
    os.close(reapers)
    os.close(life.descriptor)


@pytest.mark.skipif(sys.platform != "linux", reason="read from /proc")
async def test_the_reaper_of_a_stopped_worker_gives_its_lock_up(tmp_path: Path) -> None:
    socket = tmp_path / "w.sock"
    code = (
        "import os, subprocess, sys, time\n"
        "held = int(sys.argv[2])\n"
        "pipe = subprocess.Popen([sys.executable, sys.argv[1], 'nobody', '600', str(held)], "
        "stdin=subprocess.PIPE, pass_fds=(held,)).stdin\n"
        "print('begun', flush=True)\n"
        "while True:\n"
        "    os.write(pipe.fileno(), b'.')\n"
        "    time.sleep(0.1)\n"
    )
    held = deaths.hold(socket)
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code, reaper.__file__, str(held)), pass_fds=(held,), stdout=asyncio.subprocess.PIPE
    )
    os.close(held)
    assert worker.stdout is not None and await worker.stdout.readline()
    try:
        assert deaths.has_ended(socket) is False
        worker.send_signal(signal.SIGSTOP)
        await eventually(lambda: deaths.has_ended(socket), 10.0, "its children are killed")
    finally:
        worker.kill()
        await worker.wait()


async def test_a_dead_worker_leaves_no_files_though_redis_does_not_take_the_news(tmp_path: Path) -> None:
    store = RegistryStore(RegistrySettings("unix:///nowhere/redis.sock"))
    socket = tmp_path / "w.sock"
    socket.touch()
    os.close(deaths.hold(socket))
    members = Members(store, "worker", _TTL_S)
    assert not await deaths.report(members, "w", f"unix:{socket}", within_s=0.1)
    assert list(tmp_path.iterdir()) == []
    await store.close()


async def test_who_died_while_redis_was_away_needs_not_be_waited_for(tmp_path: Path) -> None:
    here, there = sockets.gethostname(), "elsewhere"
    held = {name: deaths.hold(tmp_path / f"{name}.sock") for name in ("lives", "dies", "far")}
    hosts = {"lives": here, "dies": here, "far": there}
    incumbents = Incumbents()
    incumbents.meet({one: {"host": hosts[one], "address": f"unix:{tmp_path}/{one}.sock"} for one in held})
    incumbents.note([record(f"of-{one}", owners=[(0, one)]) for one in held])
    assert not any(map(incumbents.has_ended, held))
    os.close(held["dies"])
    os.close(held["far"])
    incumbents.note([])
    deaths.drop(tmp_path / "dies.sock")  # as a front end does when Redis takes no news of a death
    assert [one for one in held if incumbents.has_ended(one)] == ["dies"]
    assert incumbents.of("of-dies", 0) == "dies"
    again = deaths.hold(tmp_path / "dies.sock")
    assert not incumbents.has_ended("dies"), "it had only stood still"
    incumbents.forget()
    assert incumbents.of("of-dies", 0) is None
    os.close(again)
    os.close(held["lives"])
