"""The faults: what is done to the fleet, for how long, and what that may cost. Each is a row of docs/faults.md.

Here are those that come alone; ``double_faults`` has others.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager as Context

from tests.chaos import apart
from tests.chaos.apart import Apart, Named
from tests.chaos.double_faults import DOUBLE_FAULTS
from tests.chaos.fault import Fault, deed, killed, stopped
from tests.chaos.parts import (
    both_workers,
    child,
    forked,
    front_end,
    gunicorn,
    one_forked,
    one_owner,
    owner,
    owner_and_reaper,
    reapers,
    redis,
    server,
    supervisor,
    worker,
)
from tests.chaos.processor import processor_possible, slowed
from tests.chaos.relay import Relay
from tests.chaos.stage import Stage
from tests.chaos.supervised import Supervised
from tests.chaos.verdict import Allowance

_AWAY_S = 10.0
"""How long what hangs, is cut off or has no room does so: longer than a heartbeat lives (5 s)."""
_DOWN_S = 5.0
_LINK_S = 2.0
"""A front end drops a link after three unanswered pings, two a second."""
_TIMEOUT_S = 8.0
"""``requestTimeout`` of the stage."""
_LAGGING = 0.01
"""The share of one processor of a worker that lags."""
_UNREACHABLE = ("upstream_unavailable", "outcome_unknown", "not_delivered")


@deed
async def _redis_back_empty(stage: Stage) -> AsyncIterator[None]:
    await stage.redis.signal(signal.SIGKILL)
    yield
    await stage.redis.start(empty=True)


@deed
async def _redis_emptied(stage: Stage) -> AsyncIterator[None]:
    await stage.redis.client.flushall()
    yield


@deed
async def _redis_slow(stage: Stage) -> AsyncIterator[None]:
    for relay in stage.fleet.every_relay():
        relay.delay_s = 0.5
    yield
    for relay in stage.fleet.every_relay():
        relay.delay_s = 0.0


@deed
async def _redis_read_only(stage: Stage) -> AsyncIterator[None]:
    await stage.redis.client.replicaof("127.0.0.1", "9")
    yield
    await stage.redis.client.replicaof("NO", "ONE")


@deed
async def _redis_full(stage: Stage) -> AsyncIterator[None]:
    await stage.redis.client.config_set("maxmemory", "100kb")
    yield
    await stage.redis.client.config_set("maxmemory", "0")


@deed
async def _redis_older(stage: Stage) -> AsyncIterator[None]:
    kept, before = stage.folder / "appendonlydir", stage.folder / "before"
    shutil.copytree(kept, before)
    await asyncio.sleep(_DOWN_S)  # sessions come and go
    await stage.redis.signal(signal.SIGKILL)
    shutil.rmtree(kept)
    before.rename(kept)
    yield


@deed
async def _redis_scripts_flushed(stage: Stage) -> AsyncIterator[None]:
    await stage.redis.client.script_flush()
    yield


@deed
async def _redis_connections_killed(stage: Stage) -> AsyncIterator[None]:
    await stage.redis.client.execute_command("CLIENT", "KILL", "TYPE", "normal")
    yield


@deed
async def _redis_evicts(stage: Stage) -> AsyncIterator[None]:
    await stage.redis.client.config_set("maxmemory-policy", "allkeys-lru")
    await stage.redis.client.config_set("maxmemory", "100kb")
    yield
    await stage.redis.client.config_set("maxmemory", "0")
    await stage.redis.client.config_set("maxmemory-policy", "noeviction")


@contextlib.contextmanager
def _cut(relays: list[Relay]) -> Iterator[None]:
    for relay in relays:
        relay.cut = True
    yield
    for relay in relays:
        relay.cut = False


@deed
async def _worker_cut_off(stage: Stage) -> AsyncIterator[None]:
    with _cut(stage.relays_of_worker(await stage.worker_with("p"))):
        yield


@deed
async def _front_end_cut_off(stage: Stage) -> AsyncIterator[None]:
    with _cut(stage.fleet.relays[stage.fleet.frontends[0]]):
        yield


def _link_half_open(up: bool) -> Callable[[Stage], Context[None]]:
    @deed
    async def does(stage: Stage) -> AsyncIterator[None]:
        _, *links = stage.relays_of_worker(await stage.worker_with("p"))
        for link in links:
            link.lose(up=up, down=not up)
        yield
        for link in links:
            link.cut = False

    return does


@deed
async def _owner_lags(stage: Stage) -> AsyncIterator[None]:
    with slowed(await stage.worker_with("p"), _LAGGING):
        yield


@deed
async def _gunicorn_reloads(stage: Supervised) -> AsyncIterator[None]:
    for pid in await gunicorn(stage):
        os.kill(pid, signal.SIGHUP)
    yield


@deed
async def _hosts_apart(stage: Apart) -> AsyncIterator[None]:
    stage.host.cut(True)
    yield
    stage.host.cut(False)


@deed
async def _dns_silent(stage: Named) -> AsyncIterator[None]:
    stage.dns.answering = False
    yield
    stage.dns.answering = True


@deed
async def _dns_slow(stage: Named) -> AsyncIterator[None]:
    stage.dns.delay_s = 3.0
    yield
    stage.dns.delay_s = 0.0


_NOTHING = Allowance(tools=("-",))
_IN_WORKER = Allowance(codes=("outcome_unknown", "not_delivered"))
_HELD = _LINK_S + 1.0
_ASKED_ONCE = Allowance(tools=("-",), wait_s=2.5)
"""Who asks first waits for an answer of Redis as long as that may take (2 s)."""
_HALF_OPEN = Allowance(
    throughout=True, hands_off_s=_LINK_S, answer_s=_TIMEOUT_S + 2.0, wait_s=_AWAY_S + 1.0, codes=_UNREACHABLE
)
"""The worker lives for Redis, so nobody takes over what only that worker has."""
_CUT_OFF = Allowance(tools=("-",), wait_s=3.5)
"""After 3 s of silence a process takes Redis for away, and finds by itself what has moved."""

FAULTS = (
    Fault(
        "front-end-killed",
        "a front end and its gunicorn: kill -9",
        killed(front_end),
        Allowance(front_end=0, codes=("connection",)),
    ),
    Fault(
        "front-end-process-killed",
        "the process that gunicorn forked: kill -9",
        killed(forked),
        Allowance(front_end=0, codes=("connection",)),
    ),
    Fault(
        "front-end-stopped",
        "a front end: SIGSTOP, 10 s",
        stopped(front_end),
        Allowance(tools=("-",), wait_s=_AWAY_S + 1.0, recovery_s=2.0),
        _AWAY_S,
    ),
    Fault("worker-killed", "a worker without stdio upstreams: kill -9", killed(worker), _IN_WORKER),
    Fault(
        "worker-stopped",
        "the same: SIGSTOP, 10 s",
        stopped(worker),
        Allowance(hands_off_s=_LINK_S, answer_s=_HELD, recovery_s=_HELD, codes=_IN_WORKER.codes),
        _AWAY_S,
    ),
    Fault("owner-killed", "the worker that owns the stdio upstream: kill -9", killed(owner), _IN_WORKER),
    Fault(
        "owner-stopped",
        "the same: SIGSTOP, 10 s",
        stopped(owner),
        Allowance(hands_off_s=_LINK_S, answer_s=_HELD, wait_s=8.0, recovery_s=8.0, codes=_IN_WORKER.codes),
        _AWAY_S,
    ),
    Fault(
        "workers-killed",
        "both workers: kill -9, others after 1 s",
        killed(both_workers),
        Allowance(hands_off_s=1.5, codes=("outcome_unknown", "not_delivered", "upstream_unavailable"), wait_s=4.0),
        1.0,
    ),
    Fault("reapers-killed", "the reapers of both workers: kill -9", killed(reapers), _NOTHING),
    Fault(
        "owner-and-reaper-killed",
        "the owner of the stdio upstream and its reaper: kill -9",
        killed(owner_and_reaper),
        _IN_WORKER,
    ),
    Fault("child-killed", "the stdio child: kill -9", killed(child), Allowance(tools=("p",), codes=_UNREACHABLE)),
    Fault(
        "child-stopped",
        "the stdio child: SIGSTOP, 10 s",
        stopped(child),
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
        killed(server("h1")),
        Allowance(tools=("h",), codes=("outcome_unknown",)),
        _DOWN_S,
    ),
    Fault(
        "http-stopped",
        "one of two http replicas: SIGSTOP, 10 s",
        stopped(server("h1")),
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
        killed(server("s")),
        Allowance(  # waits between attempts to connect double: at most it takes as long again as it was away
            tools=("s",), throughout=True, hands_off_s=_DOWN_S, recovery_s=_DOWN_S, codes=_UNREACHABLE
        ),
        _DOWN_S,
    ),
    Fault(
        "sse-stopped",
        "the only sse upstream: SIGSTOP, 10 s",
        stopped(server("s")),
        Allowance(
            tools=("s",),
            throughout=True,
            answer_s=_TIMEOUT_S + 1.0,
            wait_s=_TIMEOUT_S + 1.0,
            codes=("timeout", *_UNREACHABLE),
        ),
        _AWAY_S,
    ),
    Fault("redis-killed", "Redis: kill -9, back with its data after 5 s", killed(redis), _NOTHING, _DOWN_S),
    Fault("redis-back-empty", "Redis: kill -9, back empty after 5 s", _redis_back_empty, _NOTHING, _DOWN_S),
    Fault("redis-emptied", "Redis: FLUSHALL", _redis_emptied, _NOTHING),
    Fault("redis-stopped", "Redis: SIGSTOP, 10 s", stopped(redis), _ASKED_ONCE, _AWAY_S),
    Fault("redis-slow", "Redis: 500 ms slower, 10 s", _redis_slow, _ASKED_ONCE, _AWAY_S),
    Fault("redis-read-only", "Redis: a read-only replica, 10 s", _redis_read_only, _NOTHING, _AWAY_S),
    Fault("redis-full", "Redis: out of memory (noeviction), 10 s", _redis_full, _NOTHING, _AWAY_S),
    Fault(
        "redis-older",
        "Redis: kill -9, back after 5 s without what was written in the last 5 s, as after a failover",
        _redis_older,
        _NOTHING,
        _DOWN_S,
    ),
    Fault("redis-scripts-flushed", "Redis: SCRIPT FLUSH", _redis_scripts_flushed, _NOTHING),
    Fault("redis-connections-killed", "Redis: CLIENT KILL of all connections", _redis_connections_killed, _NOTHING),
    Fault("redis-evicts", "Redis: out of memory (allkeys-lru), 10 s", _redis_evicts, _NOTHING, _AWAY_S),
    Fault(
        "owner-lags",
        "the owner of the stdio upstream gets 1 % of a processor, 10 s",
        _owner_lags,
        Allowance(
            throughout=True, answer_s=_TIMEOUT_S + 1.0, wait_s=_TIMEOUT_S + 1.0, codes=("timeout", *_UNREACHABLE)
        ),
        _AWAY_S,
        possible=processor_possible,
    ),
    Fault(
        "link-half-open-up",
        "a worker on another machine: nothing passes from front ends to it, 10 s",
        _link_half_open(True),
        _HALF_OPEN,
        _AWAY_S,
        lambda: Stage(remote=True),
    ),
    Fault(
        "link-half-open-down",
        "the same: nothing passes from it to front ends, 10 s",
        _link_half_open(False),
        _HALF_OPEN,
        _AWAY_S,
        lambda: Stage(remote=True),
    ),
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
        "dns-slow",
        "the same: an answer takes 3 s, 10 s",
        _dns_slow,
        _NOTHING,
        _AWAY_S,
        Named,
        possible=apart.possible,
    ),
    Fault(
        "up-supervisor-killed",
        "`gateway up`: the supervisor: kill -9, started again when the rest has ended",
        killed(supervisor),
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
        killed(gunicorn),
        Allowance(codes=("connection",)),
        stage=Supervised,
    ),
    Fault(
        "up-front-end-killed",
        "`gateway up`: one of two front ends: kill -9",
        killed(one_forked),
        Allowance(codes=("connection",)),
        stage=Supervised,
    ),
    Fault(
        "up-owner-killed",
        "`gateway up`: the worker that owns the stdio upstream: kill -9",
        killed(one_owner),
        _IN_WORKER,
        stage=Supervised,
    ),
    Fault("up-gunicorn-reloads", "`gateway up`: gunicorn: SIGHUP", _gunicorn_reloads, _NOTHING, stage=Supervised),
    Fault("up-redis-killed", "`gateway up`: its Redis: kill -9", killed(redis), _NOTHING, stage=Supervised),
    *DOUBLE_FAULTS,
)
