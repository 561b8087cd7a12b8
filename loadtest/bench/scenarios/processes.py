"""More front ends and workers, with each of the balancers, beside one of each; 16 connections a front end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from loadtest.bench.children import server
from loadtest.bench.compare import Comparison, Side, compare, cpu, rate
from loadtest.bench.figures import median
from loadtest.bench.load import Load
from loadtest.bench.outcome import Budget, Outcome
from loadtest.bench.plan import Plan
from loadtest.bench.scenarios.calls import CONNECTIONS, call
from loadtest.bench.subject import Subject, config, gateway, http_upstream

BALANCERS = ("round-robin", "least-connections", "weighted", "random")
ROWS = tuple(f"processes-{balancer}" for balancer in BALANCERS)


def _groups(port: int) -> dict[str, Any]:
    """Two replicas for each balancer."""
    found = {}
    for balancer in BALANCERS:
        name = balancer.replace("-", "")
        for number in (1, 2):
            entry = http_upstream(port, "modern", 1, name, name=name, balancer=balancer, weight=number)
            found[f"{name}-{number}"] = entry
    return found


def _beside_one(plan: Plan, many: Subject, count: int, one: Subject, balancer: str) -> Comparison:
    request = call(f"{balancer.replace('-', '')}_0")
    ours = Side(many.port, many.pids, Load((request,), CONNECTIONS * count))
    return compare(ours, Side(one.port, one.pids, Load((request,), CONNECTIONS)), plan)


def run(plan: Plan) -> Iterator[Outcome]:
    """A row for each balancer; without budgets, what more processes than cores cost."""
    with server("upstream_http") as (_, port):
        configuration = config(_groups(port))
        with gateway(plan.folder, configuration) as one:
            for count in plan.processes[1:]:
                flags = ("--frontends", str(count), "--workers", str(count))
                with gateway(plan.folder, configuration, *flags) as many:
                    yield from _rows(plan, one, many, count)


def _rows(plan: Plan, one: Subject, many: Subject, count: int) -> Iterator[Outcome]:
    for balancer in BALANCERS:
        row = f"processes-{balancer}"
        if not plan.wants(row) or (count > 2 and balancer != BALANCERS[0]):
            continue
        found = _beside_one(plan if balancer == BALANCERS[0] else plan.briefly(), many, count, one, balancer)
        ours, theirs = found.medians(rate)
        yield Outcome(
            row,
            f"{count} front ends + {count} workers: CPU per call",
            found.ratios(cpu),
            Budget(1.15) if count == 2 else None,
            unit="×(1+1)",
            note=f"{found.note(cpu, 'µs', '1+1')}; {ours:,.0f}/s, 1+1 {theirs:,.0f}/s",
            plot="processes" if balancer == BALANCERS[0] else "",
            points=((count, median(found.ratios(cpu))),),
        )
