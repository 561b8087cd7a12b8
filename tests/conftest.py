"""What holds for every test: limits that know how slow the machine is, a real Redis once per process that runs tests,
and a check that no test leaves a process behind.
"""

from __future__ import annotations

import ast
import functools
import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.supervisor.embedded_redis import find_server
from tests.machine import scaled


def undisturbed(parse: Callable[..., Any]) -> Callable[..., Any]:
    """``ast.parse`` that no garbage collection interrupts.

    Python 3.11 counts the depth of the tree that it builds in one place for all. A collection in between may run a
    finalizer that reports something; the traceback module parses the line that it shows, the count is the inner tree's
    afterwards, and the outer one ends in ``SystemError: AST constructor recursion depth mismatch`` (cpython#106905,
    pytest#10874). pytest parses whole modules, to rewrite them and to show where a test failed: there it loses the run.
    Python 3.12 collects garbage only between instructions, and so never there.
    """

    @functools.wraps(parse)
    def parsed(*arguments: Any, **options: Any) -> Any:
        collects = gc.isenabled()
        gc.disable()
        try:
            return parse(*arguments, **options)
        finally:
            if collects:
                gc.enable()

    return parsed


if sys.version_info < (3, 12):
    ast.parse = undisturbed(ast.parse)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """The time limit of a test, which is for an idle machine, is scaled before pytest-timeout reads it."""
    if item.config.getoption("timeout") is None:
        marker = item.get_closest_marker("timeout")
        limit_s = float(marker.args[0] if marker else item.config.getini("timeout"))
        item.add_marker(pytest.mark.timeout(scaled(limit_s)), append=False)
    return (yield)


@pytest.fixture(scope="session", autouse=True)
def nothing_kept() -> Iterator[None]:
    """What gateways keep for their next start goes into a folder of these tests, never into the user's home."""
    with tempfile.TemporaryDirectory(prefix="gwstate-") as scratch, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", scratch)
        yield


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
            deadline = time.monotonic() + scaled(10)
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
    deadline = time.monotonic() + scaled(1)  # what was killed last may not be quite gone
    ours = ("worker", "gunicorn", "tests.servers")
    while left := [line for line in _descendants() if any(name in line for name in ours)]:
        assert time.monotonic() < deadline, f"processes left behind: {left}"
        time.sleep(0.05)
