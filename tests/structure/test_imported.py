"""What a process loads at its start and never needs would cost memory and time in each of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.fleet import ROOT

UNNEEDED = {
    "worker.main": ("aiohttp", "jwt", "mcp", "gunicorn", "sqlite3", "cryptography.x509", "celpy", "gateway"),
    "gateway.app": ("mcp", "gunicorn", "celpy", "cryptography.fernet", "worker", "rich"),
}
"""Packages that serve features that are off by default, the command line, or the other kind of process."""


@pytest.mark.parametrize("process", UNNEEDED)
def test_a_process_loads_nothing_that_it_does_not_need(process: str) -> None:
    script = f"import sys, {process}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = [name for name in UNNEEDED[process] if name in loaded.split()]
    assert not found, f"{process} imports {', '.join(found)}"
