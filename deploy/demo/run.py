"""``make run``: the demo upstreams on free ports, and ``gateway up`` in front of them. Ctrl-C stops all.

Nothing is kept for the next start. Arguments are passed on to ``gateway up`` (``--port 0``, ``--workers 2``, …).
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> int:
    """Start, wait, stop."""
    environment = dict(os.environ, DEMO_PYTHON=sys.executable)
    children = []
    for variable, role in (
        ("DEMO_SEARCH_1", "search"),
        ("DEMO_SEARCH_2", "search"),
        ("DEMO_WEATHER", "weather"),
    ):
        port = free_port()
        environment[variable] = str(port)
        command = [sys.executable, str(HERE / "servers.py"), role, str(port)]
        children.append(subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True))
    up = [sys.executable, "-m", "gateway", "up", "--config", str(HERE / "gateway.yaml"), "--ephemeral", *sys.argv[1:]]
    gateway = subprocess.Popen(up, env=environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the gateway hears it too, and drains
    signal.signal(signal.SIGTERM, lambda *_: gateway.terminate())
    try:
        return gateway.wait()
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait()


if __name__ == "__main__":
    sys.exit(main())
