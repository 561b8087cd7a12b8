"""What a process loads at its start and never needs would cost memory and time in each of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fleet import ROOT

BEGUN = {
    "supervisor": "sys.argv = ['gateway', 'up', '-p0', '--redis-url=redis://127.0.0.1:1']; import gateway.__main__",
    "front end": "from gateway.supervisor import gunicorn_conf; gunicorn_conf.on_starting(None)",
    "worker": "os.environ['GATEWAY_SETTINGS_FD'] = 'none'; import worker.__main__",
}
"""How processes begin, up to where they would need something."""
_EVERYWHERE = ("opentelemetry.sdk", "psutil", "mcp", "celpy", "rich")
UNNEEDED = {
    "supervisor": ("aiohttp", "gunicorn", "uvloop", "worker"),
    "front end": ("cryptography.fernet", "worker"),
    "worker": ("aiohttp", "jwt", "gunicorn", "sqlite3", "cryptography.x509", "gateway"),
}
"""Packages that serve features that are off by default, the command line, or the other kind of process."""


@pytest.mark.parametrize("process", UNNEEDED)
def test_a_process_loads_nothing_that_it_does_not_need(process: str) -> None:
    script = f"import atexit, os, sys; atexit.register(lambda: print(*sys.modules)); {BEGUN[process]}"
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    loaded = ended.stdout.split()
    assert {"redis", "shared.settings"} <= set(loaded), ended.stderr
    found = [name for name in (*_EVERYWHERE, *UNNEEDED[process]) if name in loaded]
    assert not found, f"a {process} imports {', '.join(found)}"
