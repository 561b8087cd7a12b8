"""What it costs to be seen: a line for each call, and a scrape of many upstreams."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from loadtest.bench.children import ChildFailed, server
from loadtest.bench.compare import Comparison, Side, compare, cpu
from loadtest.bench.load import Load
from loadtest.bench.outcome import Budget, Outcome
from loadtest.bench.plan import Plan
from loadtest.bench.scenarios.calls import call
from loadtest.bench.subject import Subject, config, exchange, gateway, http_upstream
from loadtest.wire import Request

ROWS = ("access-lines", "scrape")
_SCRAPES = 20
_METRICS = Request(b"", {}, "/metrics", "GET")
_HEALTH = Request(b"", {}, "/healthz", "GET")


def run(plan: Plan) -> Iterator[Outcome]:
    """The rows that the plan wants."""
    with server("upstream_http") as (_, port):
        if plan.wants("access-lines"):
            found = Comparison()
            for _ in range(plan.instances):
                found += _beside_none(plan, port)
            note = found.note(cpu, "µs", "without")
            yield Outcome("access-lines", "accessLog: CPU per call", found.ratios(cpu), Budget(1.1), "×without", note)
        if plan.wants("scrape"):
            yield from _scrape(plan, port)


def _beside_none(plan: Plan, port: int) -> Comparison:
    upstreams = {"modern": http_upstream(port, "modern", 20, "modern")}
    load = Load((call("modern_0"),))
    with (
        gateway(plan.folder, config(upstreams, accessLog=True)) as lines,
        gateway(plan.folder, config(upstreams)) as plain,
    ):
        ours, theirs = Side(lines.port, lines.pids, load), Side(plain.port, plain.pids, load)
        found = compare(ours, theirs, plan.of_each_instance())
    if not any(file.stat().st_size > 100_000 for file in plan.folder.glob("logs/gateway-*.err")):
        raise ChildFailed("no lines were written")
    return found


def _scrape(plan: Plan, port: int) -> Iterator[Outcome]:
    """How long a scrape takes, and what another request waits meanwhile that needs nothing but the loop."""
    count = plan.upstreams[-1]
    names = [f"u{number}" for number in range(count)]
    upstreams = {name: http_upstream(port, "modern", 10, name) for name in names}
    with gateway(plan.folder, config(upstreams), "--frontends", "1", connected_within_s=180.0) as subject:
        alone, _ = _asked(subject, lambda: time.sleep(1.0))
        took: list[float] = []
        size = 0

        def scrapes() -> None:
            nonlocal size
            for _ in range(_SCRAPES):
                began = time.perf_counter()
                status, _, body = exchange(subject.port, _METRICS)
                took.append((time.perf_counter() - began) * 1000)
                size = len(body)
                if status != 200:
                    raise ChildFailed(f"HTTP {status}")

        beside, most = _asked(subject, scrapes)
    note = f"{size / 1024:.0f} KiB; /healthz meanwhile {beside:.1f} ms at most 95 % of the time, {most:.1f} ms always"
    note += f" (alone {alone:.1f} ms)"
    yield Outcome("scrape", f"/metrics with {count:,} upstreams", tuple(took), Budget(100.0), "ms", note)


def _asked(subject: Subject, work: Callable[[], None]) -> tuple[float, float]:
    """Do ``work``, and ask for ``/healthz`` again and again meanwhile. Return within how many ms 95 % of the answers
    came, and all."""
    done, took = threading.Event(), [0.0]

    def ask() -> None:
        while not done.is_set():
            began = time.perf_counter()
            exchange(subject.port, _HEALTH)
            took.append((time.perf_counter() - began) * 1000)
            time.sleep(0.002)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    try:
        work()
    finally:
        done.set()
        asking.join()
    took.sort()
    return took[int(len(took) * 0.95)], took[-1]
