"""Another gateway or proxy under the same calls, taking turns with R like ours (``--peer COMMAND``).

In the command ``{port}`` is where it has to listen and ``{upstream}`` the URL of the one upstream. Tools must be found
under their own names, and the endpoint be ``/mcp``.
"""

from __future__ import annotations

import shlex
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from loadtest.bench import accounting
from loadtest.bench.children import ChildFailed, ChildProcess, running, server
from loadtest.bench.compare import Side, compare, cpu, rate
from loadtest.bench.load import Load
from loadtest.bench.outcome import Outcome
from loadtest.bench.plan import Plan
from loadtest.bench.scenarios.calls import call
from loadtest.bench.subject import ask

ROWS = ("peer",)
_START_S = 30.0


def run(plan: Plan) -> Iterator[Outcome]:
    """Two rows for the command of the plan; none without one."""
    if not plan.peer:
        return
    with server("upstream_http") as (_, upstream):
        url = f"http://127.0.0.1:{upstream}/modern/1/modern"
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
        command = [part.replace("{port}", str(port)).replace("{upstream}", url) for part in shlex.split(plan.peer)]
        log = plan.folder / "peer.log"
        with (
            server("reference", "forward", url) as (reference, reference_port),
            running(command, log, logged=True) as child,
        ):
            _wait_served(port, child, log)
            load = Load((call("modern_0"),))
            found = compare(
                Side(port, accounting.tree(child.pid), load), Side(reference_port, [reference.pid], load), plan
            )
    yield Outcome("peer", f"{command[0]}: CPU per call", found.ratios(cpu), note=found.note(cpu, "µs"))
    yield Outcome("peer", "… calls/s", found.ratios(rate), note=found.note(rate, "/s"))


def _wait_served(port: int, child: ChildProcess, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    said = "nothing"
    while time.monotonic() < deadline and child.process.poll() is None:
        try:
            answer = ask(port, call("modern_0"))
        except (OSError, ValueError) as error:
            said = str(error)
        else:
            if answer.result is not None:
                return
            said = str(answer.error)
        time.sleep(0.1)
    why = "ended" if child.process.poll() is not None else f"served no call in {_START_S:g} s ({said[:200]})"
    raise ChildFailed(f"the peer {why}: {log.read_text(errors='replace')[-200:]}")
