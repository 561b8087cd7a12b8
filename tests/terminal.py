"""Commands on a pseudo-terminal, for what they do only where a person sits in front of them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import re
import signal
import termios
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.fleet import PYTHON, eventually
from tests.machine import scaled

ROOT = Path(__file__).resolve().parent.parent
CTRL_C = "\x03"


class Terminal:
    """A command whose stdin, stdout and stderr are one terminal. ``output`` is what is on its screen."""

    def __init__(self, process: asyncio.subprocess.Process, master: int) -> None:
        self.process = process
        self.output = ""
        self._master = master
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(master, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: nobody has the terminal open any more
            data = b""
        if data:
            self.output += data.decode(errors="replace").replace("\r\n", "\n")
        else:
            self._loop.remove_reader(self._master)

    def types(self, text: str) -> None:
        """Press these keys."""
        os.write(self._master, text.encode())

    async def says(self, pattern: str, within_s: float = 20.0) -> str:
        """Wait until the screen shows this; its first group."""
        try:
            await eventually(
                lambda: re.search(pattern, self.output) or self.process.returncode is not None, within_s, f"{pattern!r}"
            )
        except AssertionError as error:
            raise AssertionError(f"{error}; the screen has {self.output[-8000:]!r}") from None
        await asyncio.sleep(0)
        found = re.search(pattern, self.output)
        assert found, self.output
        return found.group(found.lastindex or 0)

    async def ended(self, within_s: float = 20.0) -> int:
        """Its exit code."""
        return await asyncio.wait_for(self.process.wait(), scaled(within_s))

    def close(self) -> None:
        """Hang up."""
        self._loop.remove_reader(self._master)
        os.close(self._master)


def _take_terminal() -> None:
    """Run in the child: make stdin its controlling terminal, so that Ctrl-C is a signal to it. What a shell starts in
    the background ignores that signal, and so would all of its children."""
    import fcntl

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@asynccontextmanager
async def on_terminal(*arguments: str | Path, **extra: str) -> AsyncIterator[Terminal]:
    """Run ``gateway ARGUMENTS`` on a terminal of 200 columns, or of ``COLUMNS``; it is ended in any case.

    What runs the tests may have a width of its own in the environment (pytest-xdist says 80): the command is not told.
    """
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (50, int(extra.pop("COLUMNS", "200"))))
    sized = ("COLUMNS", "LINES")
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_") and name not in sized}
    process = await asyncio.create_subprocess_exec(
        PYTHON, "-m", "gateway", *map(str, arguments), cwd=ROOT, env={**kept, "TERM": "xterm", **extra},
        stdin=slave, stdout=slave, stderr=slave, start_new_session=True, preexec_fn=_take_terminal,
    )  # fmt: skip
    os.close(slave)
    terminal = Terminal(process, master)
    try:
        yield terminal
    finally:
        if process.returncode is None:
            process.terminate()
            with contextlib.suppress(TimeoutError):
                await terminal.ended(30.0)
        if process.returncode is None:
            process.kill()
            await process.wait()
        terminal.close()
