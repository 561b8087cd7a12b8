"""A real Redis once per test session, and a check that no test leaves a process behind."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.supervisor.embedded_redis import find_server


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A redis-server of our own on a Unix socket; each fleet uses a key prefix of its own."""
    with tempfile.TemporaryDirectory(prefix="gwredis-") as scratch:
        path = f"{scratch}/r.sock"
        process = subprocess.Popen(
            [
                find_server(),
                "--port",
                "0",
                "--unixsocket",
                path,
                "--save",
                "",
                "--appendonly",
                "no",
                "--dir",
                scratch,
            ],
            stdout=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 10
            while not Path(path).exists():
                assert process.poll() is None and time.monotonic() < deadline, "redis-server did not start"
                time.sleep(0.01)
            yield f"unix://{path}"
        finally:
            process.terminate()
            process.wait()


def _descendants() -> list[str]:
    """Command lines of our living descendants."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                parents[int(entry.name)] = int(fields[1])
    found = []
    for pid in parents:
        ancestor = parents[pid]
        while ancestor not in (0, 1, os.getpid()):
            ancestor = parents.get(ancestor, 0)
        if ancestor == os.getpid():
            try:
                found.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
    return found


@pytest.fixture(scope="session", autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """Every child process of the tests is gone at the end."""
    yield
    left = [line for line in _descendants() if "worker" in line or "gunicorn" in line or "tests.servers" in line]
    assert not left, f"processes left behind: {left}"
