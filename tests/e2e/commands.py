"""Commands as people run them, on a terminal or not, what they say when they fail, and what is no gateway."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

from tests.e2e.test_up import ROOT, environment, run
from tests.fleet import PYTHON

Answers = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def answering(answers: Answers) -> AsyncIterator[str]:
    """Something on a free port that is no gateway; its URL."""
    runner = web.ServerRunner(web.Server(answers), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def fails(*arguments: str, code: int = 1) -> str:
    """What a command says that fails as commands do: in one line."""
    status, text = await run(*arguments)
    assert status == code and "Traceback" not in text, text
    (line,) = [line for line in text.splitlines() if line.startswith("error: ")]
    assert text.endswith(f"{line}\n"), text
    return line


async def on_terminal(*arguments: str) -> tuple[asyncio.subprocess.Process, int]:
    """A command whose stderr is a terminal; that terminal's other end."""
    terminal, stderr = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        PYTHON, "-m", "gateway", *arguments,
        cwd=ROOT, env=environment(), stdout=asyncio.subprocess.PIPE, stderr=stderr,
    )  # fmt: skip
    os.close(stderr)
    return process, terminal


def told(terminal: int) -> str:
    """All that a command that has ended said on its terminal."""
    said = b""
    with contextlib.suppress(OSError):  # EIO: nobody is left to write
        while chunk := os.read(terminal, 65536):
            said += chunk
    os.close(terminal)
    return said.decode()
