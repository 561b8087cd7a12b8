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
        for count in plan.processes[1:]:
            wanted = [one for one in BALANCERS if plan.wants(f"processes-{one}")]
            if count > 2:
                wanted = [one for one in wanted if one == BALANCERS[0]]
            found = dict.fromkeys(wanted, Comparison())
            flags = ("--frontends", str(count), "--workers", str(count))
            for instance in range(plan.instances if found else 0):
                order = wanted[instance % len(wanted) :] + wanted[: instance % len(wanted)]  # who is first alternates
                with (
                    gateway(plan.folder, configuration) as one,
                    gateway(plan.folder, configuration, *flags) as many,
                ):
                    for balancer in order:
                        share = plan if balancer == BALANCERS[0] else plan.briefly()
                        found[balancer] += _beside_one(share.of_each_instance(), many, count, one, balancer)
            for balancer, comparison in found.items():
                yield _row(count, balancer, comparison)


def _row(count: int, balancer: str, found: Comparison) -> Outcome:
    ours, theirs = found.medians(rate)
    return Outcome(
        f"processes-{balancer}",
        f"{count} front ends + {count} workers: CPU per call",
        found.ratios(cpu),
        Budget(1.15) if count == 2 else None,
        unit="×(1+1)",
        note=f"{found.note(cpu, 'µs', '1+1')}; {ours:,.0f}/s, 1+1 {theirs:,.0f}/s",
        plot="processes" if balancer == BALANCERS[0] else "",
        points=((count, median(found.ratios(cpu))),),
    )
