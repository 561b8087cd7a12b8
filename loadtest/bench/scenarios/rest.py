"""What a gateway costs while nobody calls: memory of 1 + 1 and 2 + 2, of one process more, and CPU."""

from __future__ import annotations

import time
from collections.abc import Iterator

from loadtest.bench import accounting
from loadtest.bench.children import server
from loadtest.bench.outcome import Budget, Outcome
from loadtest.bench.plan import Plan
from loadtest.bench.subject import config, gateway, http_upstream, stdio_upstream

ROWS = ("rest-memory", "rest-cpu")
_SETTLED_S = 3.0
_MEMORY_MIB = {(1, 1): 90.0, (2, 2): 130.0}
_FURTHER_MIB = {"front end": 25.0, "worker": 20.0}
_CPU_PERCENT = 0.3


def run(plan: Plan) -> Iterator[Outcome]:
    """Four upstreams: two of each era over HTTP, one of them a stdio child, all connected."""
    watched_s = 5.0 if plan.quick else 30.0
    found: dict[tuple[int, int], float] = {}
    with server("upstream_http") as (_, port):
        upstreams = {era: http_upstream(port, era, 10, era) for era in ("modern", "legacy")}
        upstreams |= {"second": http_upstream(port, "modern", 10, "second"), "stdio": stdio_upstream("stdio")}
        shapes = [(1, 1), (2, 2)] if plan.quick else [(1, 1), (2, 1), (1, 2), (2, 2)]
        for front_ends, workers in shapes if plan.wants("rest-memory") else shapes[:1]:
            counts = ("--frontends", str(front_ends), "--workers", str(workers))
            with gateway(plan.folder, config(upstreams), *counts) as subject:
                time.sleep(_SETTLED_S)
                found[front_ends, workers] = subject.memory_bytes() / 2**20
                if (front_ends, workers) == (1, 1) and plan.wants("rest-cpu"):
                    before = accounting.cpu_s(subject.pids)
                    time.sleep(watched_s)
                    used = (accounting.cpu_s(subject.pids) - before) / watched_s * 100
                    what = "1 + 1 with 4 upstreams, nobody calls: CPU of a core"
                    yield Outcome("rest-cpu", what, (used,), Budget(_CPU_PERCENT), unit="%")
    if not plan.wants("rest-memory"):
        return
    for shape, limit in _MEMORY_MIB.items():
        what = f"{shape[0]} + {shape[1]} with 4 upstreams, Redis included: memory (PSS)"
        yield Outcome("rest-memory", what, (found[shape],), Budget(limit), unit="MiB")
    for name, shape in (("front end", (2, 1)), ("worker", (1, 2))):
        if shape in found:
            more = found[shape] - found[1, 1]
            yield Outcome("rest-memory", f"a further {name}", (more,), Budget(_FURTHER_MIB[name]), unit="MiB")
