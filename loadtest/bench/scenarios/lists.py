"""A long ``tools/list``, beside an aiohttp handler that has the same bytes in memory."""

from __future__ import annotations

from collections.abc import Iterator

from loadtest import wire
from loadtest.bench.children import server
from loadtest.bench.compare import Side, compare, cpu
from loadtest.bench.load import Load
from loadtest.bench.outcome import Budget, Outcome
from loadtest.bench.plan import Plan
from loadtest.bench.subject import config, exchange, gateway, http_upstream

ROWS = ("list",)
TOOLS = 1000


def run(plan: Plan) -> Iterator[Outcome]:
    """One row."""
    request = wire.modern("tools/list")
    with server("upstream_http") as (_, port):
        upstreams = {"many": http_upstream(port, "modern", TOOLS, "many")}
        with gateway(plan.folder, config(upstreams)) as subject:
            _, _, body = exchange(subject.port, request)
            file = plan.folder / "list.json"
            file.write_bytes(body)
            with server("reference", "memory", str(file)) as (memory, memory_port):
                load = Load((request,))
                ours, theirs = Side(subject.port, subject.pids, load), Side(memory_port, [memory.pid], load)
                found = compare(ours, theirs, plan)
    note = f"{found.note(cpu, 'µs', 'from memory')}; {len(body) / 1024:.0f} KiB"
    yield Outcome("list", f"tools/list of {TOOLS:,} tools: CPU per call", found.ratios(cpu), Budget(1.5), note=note)
