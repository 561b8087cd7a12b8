"""Closed-loop load on one address: with ``wrk`` where it is on PATH, else with our own ``driver``; a ``Sample`` back.

Paced load (a given number of calls a second) is always the driver's.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from loadtest.bench import wrk
from loadtest.bench.children import ROOT, clean_environment
from loadtest.wire import Request

_GRACE_S = 30.0


@dataclass(frozen=True)
class Load:
    """Requests sent in rotation over ``connections``, each connection waiting for its answer before the next."""

    requests: tuple[Request, ...]
    connections: int = 16


@dataclass(frozen=True)
class Sample:
    """What one run of load saw. ``failed``: HTTP statuses of 400 and more, JSON-RPC errors (driver), broken sockets."""

    calls: int
    failed: int
    seconds: float
    p50_ms: float
    p99_ms: float
    bytes_per_call: float


class LoadFailed(RuntimeError):
    """The load could not be put on, or calls failed."""


def generator() -> str:
    """What puts the load on: ``wrk`` or ``driver``."""
    return "wrk" if shutil.which("wrk") else "driver"


def put(port: int, load: Load, seconds: float, with_wrk: bool = True) -> Sample:
    """Load ``127.0.0.1:port`` for a while. Raises ``LoadFailed`` when any call failed."""
    sample = _with_wrk(port, load, seconds) if with_wrk and generator() == "wrk" else drive(port, load, seconds)
    if sample.failed or not sample.calls:
        raise LoadFailed(f"{sample.failed} of {sample.calls} calls failed")
    return sample


def _run(command: list[str], seconds: float, given: str | None = None) -> str:
    ran = subprocess.run(
        command,
        input=given,
        capture_output=True,
        text=True,
        timeout=seconds + _GRACE_S,
        cwd=ROOT,
        env=clean_environment(),
        check=False,
    )
    if ran.returncode or ran.stderr:  # wrk goes on without a script that it cannot read
        raise LoadFailed(f"{command[0]} ended with {ran.returncode}: {(ran.stderr or ran.stdout)[-500:].strip()}")
    return ran.stdout


def _with_wrk(port: int, load: Load, seconds: float) -> Sample:
    with tempfile.TemporaryDirectory(prefix="bench-wrk-") as folder:
        script = Path(folder) / "load.lua"
        # Anywhere: a turn of a second is too short for ten thousand, and all of them are to have theirs.
        script.write_bytes(wrk.script(load.requests, random.randrange(len(load.requests))))
        whole_s = max(1, round(seconds))
        command = ["wrk", "-t1", f"-c{load.connections}", f"-d{whole_s}s", "--timeout", "20s", "-s", str(script)]
        return Sample(**wrk.parse(_run([*command, f"http://127.0.0.1:{port}"], seconds)))


def drive(port: int, load: Load, seconds: float, per_second: float = 0.0) -> Sample:
    """The same with our own driver; ``per_second`` paces it (0: as fast as answers come)."""
    order = {
        "port": port,
        "requests": [{**asdict(request), "body": request.body.decode()} for request in load.requests],
        "connections": load.connections,
        "seconds": seconds,
        "per_second": per_second,
    }
    said = _run([sys.executable, "-m", "loadtest.bench.driver"], seconds, json.dumps(order))
    return Sample(**json.loads(said))
