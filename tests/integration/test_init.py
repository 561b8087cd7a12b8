"""``python -m gateway.init``: the first process of a container."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fleet import PYTHON, eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the first process of a container of Linux")
# As the first process of a container, what loses its parent becomes its child: here the kernel is asked for that.
ADOPTS = """
import ctypes, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
from gateway import init
sys.exit(init.main())
"""

LOSES_A_CHILD = """
import os, time
if os.fork() == 0:
    os.fork()
    os._exit(0)
os.wait()
open("done", "w")
time.sleep(60)
"""


def test_the_exit_code_is_that_of_the_command() -> None:
    assert subprocess.run([PYTHON, "-m", "gateway.init", "--version"], capture_output=True).returncode == 0
    assert subprocess.run([PYTHON, "-m", "gateway.init", "nothing"], capture_output=True).returncode == 2


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_a_process_that_lost_its_parent_does_not_stay_as_a_zombie(tmp_path: Path) -> None:
    stub = tmp_path / "gateway" / "__main__.py"
    stub.parent.mkdir()
    (stub.parent / "__init__.py").write_text("")
    stub.write_text(LOSES_A_CHILD)
    source = (Path(__file__).resolve().parents[2] / "gateway" / "init.py").read_text()
    (stub.parent / "init.py").write_text(source)
    process = await asyncio.create_subprocess_exec(
        PYTHON, "-c", ADOPTS, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}
    )
    try:
        await eventually(lambda: (tmp_path / "done").exists() and len(_children(process.pid)) == 1, 20.0, "reaped")
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 128 + signal.SIGTERM
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
