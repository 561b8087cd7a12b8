"""What traces cost: a gateway that exports them beside one that does not, at 1 % and at 100 %."""

from __future__ import annotations

import json
from collections.abc import Iterator

from loadtest.bench.children import ChildFailed, server
from loadtest.bench.compare import Comparison, Side, compare, cpu
from loadtest.bench.load import Load
from loadtest.bench.outcome import Budget, Outcome
from loadtest.bench.plan import Plan
from loadtest.bench.scenarios.calls import call
from loadtest.bench.subject import config, exchange, gateway, http_upstream
from loadtest.wire import Request

_KINDS = {
    "traces-none": ("asked for and not sampled: CPU per call", 0.0, None),
    "traces-1": ("1 % of calls traced: CPU per call", 0.01, Budget(1.02)),
    "traces-100": ("all calls traced: CPU per call", 1.0, Budget(1.3)),
}
ROWS = tuple(_KINDS)


def run(plan: Plan) -> Iterator[Outcome]:
    """The rows that the plan wants."""
    with server("upstream_http") as (_, port), server("collector") as (collecting, at):
        collecting.step_back()  # it stands for something on another machine
        document = config({"modern": http_upstream(port, "modern", 20, "modern")})
        for row, (what, ratio, budget) in _KINDS.items():
            if plan.wants(row):
                found = Comparison()
                for _ in range(plan.instances):
                    found += _beside_none(plan, document, at, ratio)
                if ratio and not json.loads(exchange(at, Request(b"", {}, "/", "GET"))[2])["bytes"]:
                    raise ChildFailed("no spans came")
                yield Outcome(row, what, found.ratios(cpu), budget, "×without", found.note(cpu, "µs", "without"))


def _beside_none(plan: Plan, document: dict[str, object], collector: int, ratio: float) -> Comparison:
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector}",
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": str(ratio),
    }
    load = Load((call("modern_0"),))
    with gateway(plan.folder, document, variables=variables) as traced, gateway(plan.folder, document) as plain:
        ours, theirs = Side(traced.port, traced.pids, load), Side(plain.port, plain.pids, load)
        return compare(ours, theirs, plan.of_each_instance())
