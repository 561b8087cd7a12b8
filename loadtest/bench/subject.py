"""The gateway under test, started as a user starts it: ``gateway up --config FILE --port 0``, defaults otherwise."""

from __future__ import annotations

import contextlib
import http.client
import json
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loadtest import wire
from loadtest.bench import accounting
from loadtest.bench.children import ChildFailed, ChildProcess, running
from loadtest.wire import Answer, Request

COMMAND = str(Path(sys.executable).with_name("gateway"))
_START_S = 60.0


def exchange(port: int, request: Request, timeout_s: float = 60.0) -> tuple[int, dict[str, str], bytes]:
    """One request on a connection of its own: status, headers (names in lower case), body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request(request.method, request.path, request.body or None, request.headers)
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


def ask(port: int, request: Request) -> Answer:
    """The JSON-RPC answer to one request."""
    _, headers, body = exchange(port, request)
    return wire.read(headers.get("content-type", ""), body)


def open_session(port: int) -> str:
    """A legacy session, ready for calls; its id."""
    _, headers, body = exchange(port, wire.initialize())
    if (sid := headers.get("mcp-session-id")) is None:
        raise ChildFailed(f"initialize gave no session: {body[:200]!r}")
    exchange(port, wire.notice("notifications/initialized", sid))
    return sid


def config(upstreams: dict[str, dict[str, Any]], **settings: Any) -> dict[str, Any]:
    """A configuration."""
    return {"gateway": {"logLevel": "warning", **settings}, "mcpServers": upstreams}


def http_upstream(port: int, era: str, tools: int, path: str, **options: Any) -> dict[str, Any]:
    """An entry for an upstream of ``upstream_http``."""
    return {"type": "http", "url": f"http://127.0.0.1:{port}/{era}/{tools}/{path}", **options}


def stdio_upstream(name: str) -> dict[str, Any]:
    """An entry for ``upstream_stdio``."""
    root = str(Path(__file__).resolve().parents[2])
    return {"command": sys.executable, "args": ["-m", "loadtest.bench.upstream_stdio", name], "cwd": root}


@dataclass(frozen=True)
class Subject:
    """A running gateway. ``pids``: all of its processes, with those of a Redis that was given to it."""

    child: ChildProcess
    port: int
    pids: tuple[int, ...]

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        """One request to the admin API."""
        data = b"" if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        status, _, said = exchange(self.port, Request(data, headers, f"/admin/v1/{path}", method))
        if status >= 400:
            raise ChildFailed(f"{method} {path}: HTTP {status}: {said[:300]!r}")
        return json.loads(said) if said else None

    def memory_bytes(self) -> int:
        """Of all of its processes."""
        return accounting.memory_bytes(self.pids)


def wait_connected(port: int, wanted: int, within_s: float, token: str) -> None:
    """Wait until so many upstreams are registered, and all connected. Raises ``ChildFailed``."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = Request(b"", headers, "/admin/v1/servers", "GET")
    deadline = time.monotonic() + within_s
    while True:
        servers = json.loads(exchange(port, request)[2])
        missing = [one for one in servers if one["status"] != "connected"]
        if len(servers) == wanted and not missing:
            return
        if time.monotonic() > deadline:
            raise ChildFailed(f"{len(servers)} of {wanted} upstreams known, not connected: {missing[:2]}")
        time.sleep(0.1 if wanted < 100 else 0.5)


@contextlib.contextmanager
def gateway(
    folder: Path,
    configuration: dict[str, Any],
    *arguments: str,
    redis: tuple[str, int] | None = None,
    connected_within_s: float = 30.0,
    token: str = "",
    variables: Mapping[str, str] | None = None,
) -> Iterator[Subject]:
    """A gateway with this configuration, all upstreams connected. ``redis``: URL and pid of one that is not its own;
    ``token`` is the admin token, if the configuration has one; ``variables`` are of its environment."""
    number = len(list(folder.glob("gateway-*.json")))
    file = folder / f"gateway-{number}.json"
    file.write_text(json.dumps(configuration))
    command = [COMMAND, "up", "--config", str(file), "--port", "0", "--ephemeral", *arguments]
    if redis:
        command += ["--redis-url", redis[0]]
    logs = folder / "logs"  # not beside the configuration, whose folder the gateway watches
    logs.mkdir(exist_ok=True)
    with running(command, logs / f"gateway-{number}.err", variables) as child:
        url = child.line_with("MCP endpoint", _START_S).split()[-1]
        port = urlsplit(url).port
        assert port is not None
        wait_connected(port, len(configuration["mcpServers"]), connected_within_s, token)
        pids = (*accounting.tree(child.pid), *([redis[1]] if redis else []))
        yield Subject(child, port, pids)
