"""``honcho start`` with the Procfile: it starts on free ports, becomes ready, and SIGTERM ends all of it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.supervisor.embedded_redis import find_server
from tests.machine import scaled

ROOT = Path(__file__).resolve().parents[2]
MARKER = "PROCFILE_TEST_MARKER"
"""Every process inherits it: honcho gives each a session of its own, so one process group would not do."""


def free_port() -> int:
    """A port that nobody uses now, below those that the kernel gives to whoever binds port 0 meanwhile."""
    while True:
        port = random.randrange(10_000, 32_768)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def marked(value: str, redis_port: int) -> dict[int, str]:
    """Our living processes by pid, with their command lines. The gateway's own show the marker only to root.

    redis-server writes its title over its environment; there its port, which is ours alone, tells.
    """
    wanted = f"{MARKER}={value}".encode()
    redis = f"redis-server 127.0.0.1:{redis_port}"
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if redis in line or wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found[int(entry.name)] = line
    return found


def parents() -> dict[int, tuple[int, str]]:
    """The parent of each living process, and when it was started, which tells it from another one of its number."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if fields[0] != "Z":
                    found[int(entry.name)] = (int(fields[1]), fields[19])
    return found


def wait_until(condition: Callable[[], object], within_s: float, what: Callable[[], str]) -> None:
    """Wait until ``condition()`` is true."""
    deadline = time.monotonic() + scaled(within_s)
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what()}"
        time.sleep(0.05)


def get(port: int, path: str) -> tuple[int, bytes] | None:
    """One request's status and body, or ``None`` when nobody listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=scaled(5))
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except OSError:
        return None
    finally:
        connection.close()


class Honcho:
    """A running honcho, its output, its port."""

    def __init__(self, scratch: Path, *processes: str) -> None:
        self.port, self.redis_port = free_port(), free_port()
        self.marker = f"{os.getpid()}-{self.port}"
        self.temporary = scratch / "tmp"
        self.temporary.mkdir()
        (scratch / "env").touch()
        self._output = scratch / "output"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        environment = {
            **kept,
            MARKER: self.marker,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PORT": str(self.port),
            "TMPDIR": str(self.temporary),
            "GATEWAY_STDIO_ENVIRONMENT": MARKER,  # else the gateway's processes would not have it
            "GATEWAY_REDIS_URL": f"redis://127.0.0.1:{self.redis_port}/0",
        }
        honcho = [sys.executable, "-m", "honcho", "-d", str(ROOT), "-e", str(scratch / "env")]
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [*honcho, "start", *processes],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

        self._family: dict[int, str] = {}

    @property
    def output(self) -> str:
        """What all of them said."""
        return self._output.read_text(errors="replace")

    def processes(self) -> dict[int, str]:
        """Everything that this honcho started, and itself: what has the marker, and descendants as far as seen."""
        alive = parents()
        family = {pid: born for pid, born in self._family.items() if pid in alive and alive[pid][1] == born}
        if self.process.pid in alive and self.process.returncode is None:
            family[self.process.pid] = alive[self.process.pid][1]
        while more := {pid: born for pid, (parent, born) in alive.items() if parent in family and pid not in family}:
            family |= more
        self._family = family
        found = marked(self.marker, self.redis_port)
        for pid in family.keys() - found.keys():
            with contextlib.suppress(OSError):
                found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return found

    def running(self) -> bool:
        """Whether honcho runs; a failed start ends it."""
        return self.process.poll() is None

    def kill_all(self) -> None:
        """Nothing is left behind, whatever the test found."""
        for _ in range(100):
            left = self.processes()
            if not left and not self.running():
                return
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)


def ready(honcho: Honcho) -> bool:
    """Whether its gateway is ready. Fails when honcho has ended."""
    assert honcho.running(), honcho.output
    answer = get(honcho.port, "/readyz")
    return answer is not None and answer[0] == 200 and bool(json.loads(answer[1])["ready"])


@pytest.fixture
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Honcho]]:
    started: list[Honcho] = []

    def begin(*processes: str) -> Honcho:
        started.append(Honcho(tmp_path_factory.mktemp("procfile"), *processes))
        return started[-1]

    yield begin
    for honcho in started:
        honcho.kill_all()


def test_fleet_starts_serves_and_ends(start: Callable[..., Honcho]) -> None:
    honcho = start()

    wait_until(lambda: ready(honcho), 60.0, lambda: f"ready\n{honcho.output}")

    def linked() -> bool:
        answer = get(honcho.port, "/admin/v1/frontends")
        return answer is not None and int(json.loads(answer[1])[0]["workers"]) == 1

    wait_until(linked, 20.0, lambda: f"the front end is linked to the worker\n{honcho.output}")
    assert len(json.loads((get(honcho.port, "/admin/v1/workers") or (0, b"[]"))[1])) == 1
    running = "\n".join(honcho.processes().values())
    for name in ("redis-server", "-m worker", "gunicorn"):
        assert name in running

    honcho.process.send_signal(signal.SIGTERM)
    wait_until(lambda: not honcho.running(), 30.0, lambda: f"honcho ended\n{honcho.output}")
    assert honcho.process.returncode == 143
    assert "SIGKILL" not in honcho.output, honcho.output
    wait_until(lambda: not honcho.processes(), 10.0, lambda: f"all ended: {honcho.processes()}")
    assert get(honcho.port, "/healthz") is None
    assert list(honcho.temporary.iterdir()) == []


def test_gateway_and_worker_wait_for_a_late_redis(start: Callable[..., Honcho]) -> None:
    honcho = start("gateway", "worker")
    wait_until(lambda: "worker.1 started" in honcho.output, 20.0, lambda: honcho.output)
    checks = "asyncio.run(RegistryStore"
    wait_until(  # both have asked in vain at least once
        lambda: not honcho.running() or sum(checks in line for line in honcho.processes().values()) >= 2,
        20.0,
        lambda: str(honcho.processes()),
    )
    assert honcho.running(), honcho.output
    arguments = ["--bind", "127.0.0.1", "--port", str(honcho.redis_port), "--save", "", "--appendonly", "no"]
    redis = subprocess.Popen([find_server(), *arguments], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: ready(honcho), 60.0, lambda: f"ready\n{honcho.output}")
        honcho.process.send_signal(signal.SIGTERM)
        wait_until(lambda: not honcho.running(), 30.0, lambda: f"honcho ended\n{honcho.output}")
        ours = {redis.pid}
        wait_until(lambda: set(honcho.processes()) <= ours, 10.0, lambda: f"left: {honcho.processes()}")
    finally:
        redis.terminate()
        redis.wait()
