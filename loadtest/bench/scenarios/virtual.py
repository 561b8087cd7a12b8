"""What virtual servers cost: a call through one beside the same call at ``/mcp``, and the memory of a hundred."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from loadtest import wire
from loadtest.bench.children import server
from loadtest.bench.compare import Comparison, Side, compare, cpu
from loadtest.bench.load import Load
from loadtest.bench.outcome import Budget, Outcome
from loadtest.bench.plan import Plan
from loadtest.bench.scenarios.calls import call
from loadtest.bench.subject import config, exchange, gateway, http_upstream
from loadtest.wire import Request

ROWS = ("virtual-call", "virtual-arguments", "virtual-memory")
_CALL, _REWRITTEN = 1.05, 1.25
_SERVERS, _TOOLS = 100, 100
_OVERRIDES: dict[str, dict[str, Any]] = {
    "renamed": {"name": "find", "title": "Find", "description": "Find an article."},
    "rewritten": {"name": "find", "arguments": {"bytes": {"hidden": True}, "more": {"fixed": 10}}},
}
_MEMORY = "100 virtual servers, each of 1,000 of 10,000 tools, all listed: memory of the gateway"


def run(plan: Plan) -> Iterator[Outcome]:
    """The rows that the plan wants."""
    if plan.wants(*ROWS[:2]):
        yield from _calls(plan)
    if plan.wants(ROWS[2]):
        yield _memory(plan)


def _at(endpoint: str, request: Request) -> Request:
    return replace(request, path=f"/servers/{endpoint}/mcp")


def _calls(plan: Plan) -> Iterator[Outcome]:
    found = {"renamed": Comparison(), "rewritten": Comparison()}
    with server("upstream_http") as (_, port):
        document = config({"up": http_upstream(port, "modern", 20, "tool")})
        document["virtualServers"] = {
            name: {"tools": ["up/*"], "override": {"up/tool_0": override}} for name, override in _OVERRIDES.items()
        }
        for _ in range(plan.instances):
            with gateway(plan.folder, document) as subject:
                plain = Side(subject.port, subject.pids, Load((call("tool_0"),)))
                for name in found:
                    ours = Side(subject.port, subject.pids, Load((_at(name, call("find")),)))
                    found[name] += compare(ours, plain, plan.of_each_instance())
    for row, name, most, what in (
        (ROWS[0], "renamed", _CALL, "a call through a virtual server with overrides: CPU per call"),
        (ROWS[1], "rewritten", _REWRITTEN, "… whose arguments are rewritten"),
    ):
        ratios = found[name].ratios(cpu)
        yield Outcome(row, what, ratios, Budget(most), "×plain", found[name].note(cpu, "µs", "plain"))


def _memory(plan: Plan) -> Outcome:
    """The memory that a hundred virtual servers take, after each was listed."""
    with server("upstream_http") as (_, port):
        upstreams = {f"u{n}": http_upstream(port, "modern", _TOOLS, f"tool_of_{n}") for n in range(10_000 // _TOOLS)}
        with gateway(plan.folder, config(upstreams)) as subject:
            exchange(subject.port, wire.modern("tools/list", {}))
            before = subject.memory_bytes()
            for n in range(_SERVERS):
                shown = [f"u{(n + k) % len(upstreams)}/*" for k in range(10)]
                override = {f"u{n}/tool_of_{n}_0": {"name": "find", "title": "Find"}}
                subject.admin("PUT", f"virtual-servers/v{n}", {"tools": shown, "override": override})
            for n in range(_SERVERS):
                exchange(subject.port, _at(f"v{n}", wire.modern("tools/list", {})))
            more = (subject.memory_bytes() - before) / 2**20
    return Outcome(ROWS[2], _MEMORY, (more,), None, "MiB", f"more than before; {before / 2**20:.0f} MiB before")
