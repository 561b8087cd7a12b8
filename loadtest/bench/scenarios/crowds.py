"""Many upstreams, many sessions: what a call costs beside one upstream and few sessions, and what Redis is asked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from loadtest import wire
from loadtest.bench.children import server
from loadtest.bench.compare import Comparison, Side, compare, cpu
from loadtest.bench.figures import median
from loadtest.bench.load import Load, LoadFailed, drive
from loadtest.bench.outcome import Budget, Outcome
from loadtest.bench.plan import Plan
from loadtest.bench.redis_server import RedisServer, redis_server
from loadtest.bench.scenarios.calls import CONNECTIONS, SMALL, call, session_calls
from loadtest.bench.subject import Subject, config, gateway, http_upstream, open_session
from loadtest.wire import Request

CATALOGUE_ROWS = ("redis", "scale-catalogue")
SESSION_ROWS = ("scale-sessions",)
TOOLS_EACH = 10
PER_SECOND = 2000
# What the timers of the two windows may differ by; one command for each call would be 1.
_NO_COMMAND = 0.005
_PER_CALL = {100: 0.05, 1000: 0.1}


def _upstreams(ports: list[int], count: int) -> dict[str, Any]:
    """``count`` registrations on a few processes."""
    names = [f"u{number}" for number in range(count)]
    return {
        name: http_upstream(ports[number % len(ports)], "modern", TOOLS_EACH, name) for number, name in enumerate(names)
    }


def catalogue(plan: Plan) -> Iterator[Outcome]:
    """Upstreams by the hundred."""
    with server("upstream_http") as (_, first), server("upstream_http") as (_, second):
        for count in plan.upstreams[1:]:
            yield from _many_beside_one(plan, [first, second], count)


def _many_beside_one(plan: Plan, ports: list[int], count: int) -> Iterator[Outcome]:
    same, spread, redis_rows = Comparison(), Comparison(), list[Outcome]()
    took_s = 0.0
    share = plan.of_each_instance()
    everywhere = plan.wants("scale-catalogue") and not plan.quick and count == plan.upstreams[-1]
    for instance in range(plan.instances if plan.wants("scale-catalogue") else 1):
        with gateway(plan.folder, config(_upstreams(ports, 1))) as one, redis_server(plan.folder) as redis:
            configuration = config(_upstreams(ports, count))
            begun = time.monotonic()
            with gateway(plan.folder, configuration, redis=(redis.url, redis.pid), connected_within_s=180.0) as many:
                took_s = max(took_s, time.monotonic() - begun)
                theirs = Side(one.port, one.pids, Load((call("u0_0"),)))
                if plan.wants("scale-catalogue"):
                    same += compare(Side(many.port, many.pids, Load((call("u0_0"),))), theirs, share)
                if everywhere:
                    spread += compare(Side(many.port, many.pids, Load(_everywhere(count))), theirs, share)
                if plan.wants("redis") and instance == 0:
                    redis_rows = list(_redis(plan, many, redis, count))
    if same.turns:
        yield Outcome(
            "scale-catalogue",
            f"{count:,} upstreams, {count * TOOLS_EACH:,} tools: CPU per call",
            same.ratios(cpu),
            Budget(1.1),
            unit="×one",
            note=f"{same.note(cpu, 'µs', 'one')}; all connected {took_s:.1f} s after the start",
            plot="upstreams",
            points=((count, median(same.ratios(cpu))),),
        )
    if spread.turns:
        yield Outcome(
            "scale-catalogue",
            f"… calls spread over all {count:,} upstreams",
            spread.ratios(cpu),
            unit="×one",
            note=spread.note(cpu, "µs", "one"),
        )
    yield from redis_rows


def _everywhere(count: int) -> tuple[Request, ...]:
    return tuple(call(f"u{number}_{number % TOOLS_EACH}") for number in range(count))


def _redis(plan: Plan, many: Subject, redis: RedisServer, count: int) -> Iterator[Outcome]:
    """Windows without calls and with 2,000 a second, of both eras and over all upstreams, in turn."""
    requests = _everywhere(count)
    load = Load((*requests, *session_calls(many.port, "u0_0")), CONNECTIONS)
    drive(many.port, load, 1.0, PER_SECOND)
    by_calls, in_all, rates = [], [], []
    for _ in range(plan.rounds):
        idle = _commands_per_s(redis, lambda: time.sleep(plan.seconds))[0]
        busy, sample = _commands_per_s(redis, lambda: drive(many.port, load, plan.seconds, PER_SECOND))
        if sample.failed:
            raise LoadFailed(f"{sample.failed} of {sample.calls} calls failed")
        rate = sample.calls / sample.seconds
        rates.append(rate)
        by_calls.append(max(0.0, busy - idle) / rate)
        in_all.append(busy / rate)
    note = f"at {sum(rates) / len(rates):,.0f} calls/s"
    size = f"{count:,} upstreams"
    yield Outcome(
        "redis", f"{size}: commands that calls cause", tuple(by_calls), Budget(_NO_COMMAND), unit="/call", note=note
    )
    yield Outcome("redis", f"{size}: all commands", tuple(in_all), Budget(_PER_CALL[count]), unit="/call", note=note)


def _commands_per_s(redis: RedisServer, meanwhile: Any) -> tuple[float, Any]:
    before, begun = redis.commands(), time.monotonic()
    done = meanwhile()
    return (redis.commands() - before) / (time.monotonic() - begun), done


def sessions(plan: Plan) -> Iterator[Outcome]:
    """Legacy sessions by the thousand: the load goes round all of them."""
    found = dict.fromkeys(plan.sessions[1:], Comparison())
    with server("upstream_http") as (_, port):
        configuration = config({"u0": http_upstream(port, "modern", 1, "u0")})
        for _ in range(plan.instances):
            with gateway(plan.folder, configuration) as few, gateway(plan.folder, configuration) as many:
                theirs = Side(few.port, few.pids, Load(session_calls(few.port, "u0_0", plan.sessions[0])))
                opened: list[str] = []
                for count in found:
                    opened += _open(many.port, count - len(opened))
                    params = {"name": "u0_0", "arguments": SMALL}
                    requests = tuple(wire.legacy("tools/call", params, sid=sid) for sid in opened)
                    ours = Side(many.port, many.pids, Load(requests))
                    found[count] += compare(ours, theirs, plan.of_each_instance())
    for count, comparison in found.items():
        yield Outcome(
            "scale-sessions",
            f"{count:,} live legacy sessions: CPU per call",
            comparison.ratios(cpu),
            Budget(1.1),
            unit=f"×{plan.sessions[0]}",
            note=comparison.note(cpu, "µs", f"{plan.sessions[0]} sessions"),
            plot="sessions",
            points=((count, median(comparison.ratios(cpu))),),
        )


def _open(port: int, count: int) -> list[str]:
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda _: open_session(port), range(count)))
