"""The faults: what is done to the fleet, for how long, and what that may cost. Each is a row of docs/faults.md."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager as Context
from typing import Any

from msgspec import Struct

from tests.chaos import apart, processes
from tests.chaos.apart import Apart, Named
from tests.chaos.ground import Ground
from tests.chaos.relay import Relay
from tests.chaos.stage import Stage
from tests.chaos.supervised import Supervised
from tests.chaos.verdict import Allowance
from tests.fleet import alive, eventually

_AWAY_S = 10.0
"""How long what hangs, is cut off or has no room does so: longer than a heartbeat lives (5 s)."""
_DOWN_S = 5.0
_LINK_S = 2.0
"""A front end drops a link after three unanswered pings, two a second."""
_TIMEOUT_S = 8.0
"""``requestTimeout`` of the stage."""
_UNREACHABLE = ("upstream_unavailable", "outcome_unknown", "not_delivered")


class Fault(Struct):
    """One fault. ``what``: the row's title. ``stage`` makes what it is done to. ``sessions_refused``: meanwhile no
    session can be opened."""

    name: str
    what: str
    done_to: Callable[[Any], Context[None]]
    allowed: Allowance
    lasts_s: float = 0.0
    stage: Callable[[], Ground] = Stage
    sessions_refused: bool = False
    possible: Callable[[], bool] = lambda: True
    """Whether it can be done on this machine."""


def _fault(does: Callable[[Any], AsyncIterator[None]]) -> Callable[[Any], Context[None]]:
    return contextlib.asynccontextmanager(does)


def _killed(find: Callable[[Any], Any]) -> Callable[[Any], Context[None]]:
    """``kill -9`` of the processes that ``find`` returns."""

    async def does(stage: Any) -> AsyncIterator[None]:
        pids = await find(stage)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        await eventually(lambda: not any(map(alive, pids)), 5.0, "they are dead")
        yield

    return _fault(does)


def _stopped(find: Callable[[Any], Any]) -> Callable[[Any], Context[None]]:
    """SIGSTOP, and SIGCONT in the end, of the processes that ``find`` returns."""

    async def does(stage: Any) -> AsyncIterator[None]:
        pids = await find(stage)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    return _fault(does)


async def _front_end(stage: Stage) -> list[int]:
    return stage.front_end(0)


async def _forked(stage: Stage) -> list[int]:
    return stage.front_end(0)[1:]


async def _worker(stage: Stage) -> list[int]:
    return [await stage.worker_without("p")]


async def _owner(stage: Stage) -> list[int]:
    return [await stage.worker_with("p")]


async def _both_workers(stage: Stage) -> list[int]:
    return stage.workers


async def _reapers(stage: Ground) -> list[int]:
    return processes.by_role()["reaper"]


async def _owner_and_reaper(stage: Stage) -> list[int]:
    owner = await stage.worker_with("p")
    return [*processes.by_role(owner)["reaper"], owner]


async def _child(stage: Ground) -> list[int]:
    return processes.by_role()["stdio child"]


def _server(id: str) -> Callable[[Ground], Any]:
    async def find(stage: Ground) -> list[int]:
        process = stage.servers[id].process
        assert process is not None
        return [process.pid]

    return find


async def _redis(stage: Ground) -> list[int]:
    return processes.by_role()["redis"]


async def _supervisor(stage: Supervised) -> list[int]:
    assert stage.process is not None
    return [stage.process.pid]


async def _gunicorn(stage: Supervised) -> list[int]:
    assert stage.process is not None
    return [pid for pid in processes.by_role()["front end"] if processes.parent(pid) == stage.process.pid]


async def _one_forked(stage: Supervised) -> list[int]:
    (master,) = await _gunicorn(stage)
    return list(processes.below(master))[:1]


async def _one_owner(stage: Supervised) -> list[int]:
    return [processes.parent(pid) for pid in processes.by_role()["stdio child"]][:1]


@_fault
async def _redis_back_empty(stage: Stage) -> AsyncIterator[None]:
    await stage.redis.signal(signal.SIGKILL)
    yield
    await stage.redis.start(empty=True)


@_fault
async def _redis_emptied(stage: Stage) -> AsyncIterator[None]:
    await stage.redis.client.flushall()
    yield


@_fault
async def _redis_slow(stage: Stage) -> AsyncIterator[None]:
    for relay in stage.fleet.every_relay():
        relay.delay_s = 0.5
    yield
    for relay in stage.fleet.every_relay():
        relay.delay_s = 0.0


@_fault
async def _redis_read_only(stage: Stage) -> AsyncIterator[None]:
    await stage.redis.client.replicaof("127.0.0.1", "9")
    yield
    await stage.redis.client.replicaof("NO", "ONE")


@_fault
async def _redis_full(stage: Stage) -> AsyncIterator[None]:
    await stage.redis.client.config_set("maxmemory", "100kb")
    yield
    await stage.redis.client.config_set("maxmemory", "0")


@contextlib.contextmanager
def _cut(relays: list[Relay]) -> Iterator[None]:
    for relay in relays:
        relay.cut = True
    yield
    for relay in relays:
        relay.cut = False


@_fault
async def _worker_cut_off(stage: Stage) -> AsyncIterator[None]:
    with _cut(stage.relays_of_worker(await stage.worker_with("p"))):
        yield


@_fault
async def _front_end_cut_off(stage: Stage) -> AsyncIterator[None]:
    with _cut(stage.fleet.relays[stage.fleet.frontends[0]]):
        yield


@_fault
async def _hosts_apart(stage: Apart) -> AsyncIterator[None]:
    stage.host.cut(True)
    yield
    stage.host.cut(False)


@_fault
async def _dns_silent(stage: Named) -> AsyncIterator[None]:
    stage.dns.answering = False
    yield
    stage.dns.answering = True


_NOTHING = Allowance(tools=("-",))
_IN_WORKER = Allowance(codes=("outcome_unknown", "not_delivered"))
_HELD = _LINK_S + 1.0
_ASKED_ONCE = Allowance(tools=("-",), wait_s=2.5)
"""Who asks first waits for an answer of Redis as long as that may take (2 s)."""
_CUT_OFF = Allowance(tools=("-",), wait_s=3.5)
"""After 3 s of silence a process takes Redis for away, and finds by itself what has moved."""

FAULTS = (
    Fault(
        "front-end-killed",
        "a front end and its gunicorn: kill -9",
        _killed(_front_end),
        Allowance(front_end=0, codes=("connection",)),
    ),
    Fault(
        "front-end-process-killed",
        "the process that gunicorn forked: kill -9",
        _killed(_forked),
        Allowance(front_end=0, codes=("connection",)),
    ),
    Fault(
        "front-end-stopped",
        "a front end: SIGSTOP, 10 s",
        _stopped(_front_end),
        Allowance(tools=("-",), wait_s=_AWAY_S + 1.0, recovery_s=2.0),
        _AWAY_S,
    ),
    Fault("worker-killed", "a worker without stdio upstreams: kill -9", _killed(_worker), _IN_WORKER),
    Fault(
        "worker-stopped",
        "the same: SIGSTOP, 10 s",
        _stopped(_worker),
        Allowance(hands_off_s=_LINK_S, answer_s=_HELD, recovery_s=_HELD, codes=_IN_WORKER.codes),
        _AWAY_S,
    ),
    Fault("owner-killed", "the worker that owns the stdio upstream: kill -9", _killed(_owner), _IN_WORKER),
    Fault(
        "owner-stopped",
        "the same: SIGSTOP, 10 s",
        _stopped(_owner),
        Allowance(hands_off_s=_LINK_S, answer_s=_HELD, wait_s=8.0, recovery_s=8.0, codes=_IN_WORKER.codes),
        _AWAY_S,
    ),
    Fault(
        "workers-killed",
        "both workers: kill -9, others after 1 s",
        _killed(_both_workers),
        Allowance(hands_off_s=1.5, codes=("outcome_unknown", "not_delivered", "upstream_unavailable"), wait_s=4.0),
        1.0,
    ),
    Fault("reapers-killed", "the reapers of both workers: kill -9", _killed(_reapers), _NOTHING),
    Fault(
        "owner-and-reaper-killed",
        "the owner of the stdio upstream and its reaper: kill -9",
        _killed(_owner_and_reaper),
        _IN_WORKER,
    ),
    Fault("child-killed", "the stdio child: kill -9", _killed(_child), Allowance(tools=("p",), codes=_UNREACHABLE)),
    Fault(
        "child-stopped",
        "the stdio child: SIGSTOP, 10 s",
        _stopped(_child),
        Allowance(
            tools=("p",),
            throughout=True,
            answer_s=_TIMEOUT_S + 1.0,
            wait_s=_TIMEOUT_S + 1.0,
            codes=("timeout", "upstream_unavailable"),
        ),
        _AWAY_S,
    ),
    Fault(
        "http-killed",
        "one of two http replicas: kill -9, back after 5 s",
        _killed(_server("h1")),
        Allowance(tools=("h",), codes=("outcome_unknown",)),
        _DOWN_S,
    ),
    Fault(
        "http-stopped",
        "one of two http replicas: SIGSTOP, 10 s",
        _stopped(_server("h1")),
        Allowance(
            tools=("h",),
            hands_off_s=_TIMEOUT_S + 1.0,
            answer_s=_TIMEOUT_S + 1.0,
            wait_s=2 * _TIMEOUT_S + 1.0,
            recovery_s=_AWAY_S,
            codes=("timeout",),
        ),
        _AWAY_S,
    ),
    Fault(
        "sse-killed",
        "the only sse upstream: kill -9, back after 5 s",
        _killed(_server("s")),
        Allowance(  # waits between attempts to connect double: at most it takes as long again as it was away
            tools=("s",), throughout=True, hands_off_s=_DOWN_S, recovery_s=_DOWN_S, codes=_UNREACHABLE
        ),
        _DOWN_S,
    ),
    Fault(
        "sse-stopped",
        "the only sse upstream: SIGSTOP, 10 s",
        _stopped(_server("s")),
        Allowance(
            tools=("s",),
            throughout=True,
            answer_s=_TIMEOUT_S + 1.0,
            wait_s=_TIMEOUT_S + 1.0,
            codes=("timeout", *_UNREACHABLE),
        ),
        _AWAY_S,
    ),
    Fault("redis-killed", "Redis: kill -9, back with its data after 5 s", _killed(_redis), _NOTHING, _DOWN_S),
    Fault("redis-back-empty", "Redis: kill -9, back empty after 5 s", _redis_back_empty, _NOTHING, _DOWN_S),
    Fault("redis-emptied", "Redis: FLUSHALL", _redis_emptied, _NOTHING),
    Fault("redis-stopped", "Redis: SIGSTOP, 10 s", _stopped(_redis), _ASKED_ONCE, _AWAY_S),
    Fault("redis-slow", "Redis: 500 ms slower, 10 s", _redis_slow, _ASKED_ONCE, _AWAY_S),
    Fault("redis-read-only", "Redis: a read-only replica, 10 s", _redis_read_only, _NOTHING, _AWAY_S),
    Fault("redis-full", "Redis: out of memory (noeviction), 10 s", _redis_full, _NOTHING, _AWAY_S),
    Fault(
        "worker-cut-off",
        "between the owner of the stdio upstream and Redis nothing passes, 10 s",
        _worker_cut_off,
        _CUT_OFF,
        _AWAY_S,
    ),
    Fault(
        "front-end-cut-off", "between a front end and Redis nothing passes, 10 s", _front_end_cut_off, _CUT_OFF, _AWAY_S
    ),
    Fault(
        "worker-partitioned",
        "a worker on another machine, the owner of the stdio upstream: nothing passes to or from it, 10 s",
        _worker_cut_off,
        Allowance(hands_off_s=_LINK_S, answer_s=_HELD, wait_s=8.0, recovery_s=8.0, codes=_IN_WORKER.codes),
        _AWAY_S,
        lambda: Stage(remote=True),
    ),
    Fault(
        "hosts-apart",
        "a worker on another host (a network namespace): every packet between the hosts is lost, 10 s",
        _hosts_apart,
        Allowance(hands_off_s=_LINK_S, answer_s=_HELD, wait_s=8.0, recovery_s=8.0, codes=_IN_WORKER.codes),
        _AWAY_S,
        Apart,
        possible=apart.possible,
    ),
    Fault(
        "dns-silent",
        "the name service that workers ask for the hosts of upstreams: no answer, 10 s",
        _dns_silent,
        _NOTHING,
        _AWAY_S,
        Named,
        possible=apart.possible,
    ),
    Fault(
        "up-supervisor-killed",
        "`gateway up`: the supervisor: kill -9, started again when the rest has ended",
        _killed(_supervisor),
        Allowance(
            codes=("connection", "draining", *_UNREACHABLE),
            throughout=True,
            hands_off_s=5.0,
            answer_s=5.0,
            wait_s=15.0,
            recovery_s=15.0,
        ),
        stage=Supervised,
        sessions_refused=True,
    ),
    Fault(
        "up-gunicorn-killed",
        "`gateway up`: gunicorn: kill -9",
        _killed(_gunicorn),
        Allowance(codes=("connection",)),
        stage=Supervised,
    ),
    Fault(
        "up-front-end-killed",
        "`gateway up`: one of two front ends: kill -9",
        _killed(_one_forked),
        Allowance(codes=("connection",)),
        stage=Supervised,
    ),
    Fault(
        "up-owner-killed",
        "`gateway up`: the worker that owns the stdio upstream: kill -9",
        _killed(_one_owner),
        _IN_WORKER,
        stage=Supervised,
    ),
    Fault("up-redis-killed", "`gateway up`: its Redis: kill -9", _killed(_redis), _NOTHING, stage=Supervised),
)
