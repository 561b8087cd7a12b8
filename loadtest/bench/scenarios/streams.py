"""Idle legacy sessions with open event streams: memory for each, and how soon all hear of a changed list."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from loadtest.bench.children import ChildFailed, ChildProcess, running, server
from loadtest.bench.outcome import Budget, Outcome
from loadtest.bench.plan import Plan
from loadtest.bench.subject import Subject, config, gateway, http_upstream

ROWS = ("streams",)
_KIB_EACH = 20
_WITHIN_S = 2.0
_FIRST = 50
_SETTLE_S = 1.0


def _clients(port: int, count: int) -> list[str]:
    return [sys.executable, "-m", "loadtest.bench.stream_clients", str(port), str(count)]


def run(plan: Plan) -> Iterator[Outcome]:
    """Two rows."""
    with server("upstream_http") as (_, port):
        configuration = config({"u0": http_upstream(port, "modern", 1, "u0")})
        with gateway(plan.folder, configuration) as subject:
            # What the first sessions cause to be loaded and allocated once is no cost of each.
            with running(_clients(subject.port, _FIRST)) as first:
                first.line_with("open ")
            time.sleep(_SETTLE_S)
            before = subject.memory_bytes()
            begun = time.monotonic()
            with running(_clients(subject.port, plan.streams)) as clients:
                clients.line_with("open ", 180.0)
                took_s = time.monotonic() - begun
                time.sleep(_SETTLE_S)
                each_kib = (subject.memory_bytes() - before) / plan.streams / 1024
                yield Outcome(
                    "streams",
                    f"{plan.streams:,} sessions with idle streams: memory of each",
                    (each_kib,),
                    Budget(_KIB_EACH),
                    unit="KiB",
                    note=f"opened in {took_s:.1f} s; {before / 2**20:.0f} MiB before",
                )
                yield _broadcast(plan, subject, clients, port)


def _broadcast(plan: Plan, subject: Subject, clients: ChildProcess, port: int) -> Outcome:
    """Upstreams come: from the request that registers one until the last stream has heard."""
    times = []
    for number in range(plan.rounds):
        heard = clients.said.count("heard ")
        name = f"late{number}"
        entry = http_upstream(port, "modern", 1, name)
        begun = time.monotonic()
        subject.admin("POST", "servers", {"id": name, "name": name, "connection": entry})
        times.append(float(clients.line_with(f"heard {heard + 1} ", 30.0).split()[2]) - begun)
        time.sleep(_SETTLE_S)
    if "lost" in clients.said:
        raise ChildFailed(f"streams were lost: {clients.said[clients.said.index('lost') :][:200]}")
    what = "a registered upstream's tools are announced to all of them"
    return Outcome("streams", what, tuple(times), Budget(_WITHIN_S), unit="s")
