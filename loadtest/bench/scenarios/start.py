"""From ``gateway up`` with three upstreams to the first call served."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

from loadtest.bench.children import ChildFailed, running, server
from loadtest.bench.outcome import Budget, Outcome
from loadtest.bench.plan import Plan
from loadtest.bench.scenarios.calls import call
from loadtest.bench.subject import COMMAND, ask, config, http_upstream, stdio_upstream

ROWS = ("start",)
_LIMIT_S = 2.5
_PATIENCE_S = 30.0


def run(plan: Plan) -> Iterator[Outcome]:
    """One row; when all three have served is noted."""
    with server("upstream_http") as (_, port):
        upstreams = {era: http_upstream(port, era, 1, era) for era in ("modern", "legacy")}
        upstreams["stdio"] = stdio_upstream("stdio")
        file = plan.folder / "start.json"
        file.write_text(json.dumps(config(upstreams)))
        times = [_start(str(file), list(upstreams)) for _ in range(plan.starts)]
    every = sorted(last for _, last in times)[len(times) // 2]
    yield Outcome(
        "start",
        "gateway up with 3 upstreams to the first served call",
        tuple(first for first, _ in times),
        Budget(_LIMIT_S),
        unit="s",
        note=f"calls to all three after {every:.2f} s",
    )


def _start(file: str, names: list[str]) -> tuple[float, float]:
    """Seconds to the first served call, and until each upstream has served one."""
    begun = time.monotonic()
    first = 0.0
    with running([COMMAND, "up", "--config", file, "--port", "0", "--ephemeral"]) as child:
        port = urlsplit(child.line_with("MCP endpoint").split()[-1]).port
        assert port is not None
        left = list(names)
        while left:
            if time.monotonic() - begun > _PATIENCE_S:
                raise ChildFailed(f"{left} served nothing in {_PATIENCE_S:g} s")
            if ask(port, call(f"{left[0]}_0")).result is None:
                time.sleep(0.01)
                continue
            left.pop(0)
            first = first or time.monotonic() - begun
        return first, time.monotonic() - begun
