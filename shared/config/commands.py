"""What programs print that are named with ``${exec:PROGRAM ARGUMENTS}``: secrets of a vault or a password manager.

Only files that the administrator has given to the gateway may run programs, and only if the environment says so
(``GATEWAY_ALLOW_EXEC``): what is in a file cannot allow itself. There is no shell, and time and output are bounded.
"""

from __future__ import annotations

import contextlib
import os
import select
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping

MARK = "exec:"
WHY = "why:"
"""Before the name of a reference: the variable that says why the reference has no value."""
VARIABLE = "GATEWAY_ALLOW_EXEC"
_TIMEOUT_S = 10.0
_ALL_S = 30.0
"""How long all programs of a file may take together: until then the gateway does not start."""
_MAX_BYTES = 64 * 1024


class CommandOutputs(Mapping[str, str]):
    """The variables ``exec:COMMAND``. Their values are what the programs print, without space around it; each runs
    once. A program that fails is a variable that is not set."""

    def __init__(self, environment: Mapping[str, str], allowed: bool) -> None:
        """``allowed``: whether the file is one of the administrator's."""
        self._allowed = allowed and environment.get(VARIABLE, "").strip().lower() in ("1", "true", "yes", "on")
        self._environment = {name: value for name, value in environment.items() if not name.startswith("GATEWAY_")}
        self._found: dict[str, str | None] = {}
        self._why: dict[str, str] = {}
        self._left_s = _ALL_S

    def __getitem__(self, name: str) -> str:
        if name.startswith(WHY + MARK):
            return self._why[name.removeprefix(WHY + MARK)]
        if not name.startswith(MARK):
            raise KeyError(name)
        command = name.removeprefix(MARK)
        if command not in self._found:
            began = time.monotonic()
            try:
                self._found[command] = self._run(command)
            except (OSError, ValueError) as error:
                self._found[command] = None
                self._why[command] = (error.strerror if isinstance(error, OSError) else None) or str(error)
            self._left_s -= time.monotonic() - began
        found = self._found[command]
        if found is None:
            raise KeyError(name)
        return found

    def _run(self, command: str) -> str:
        """Return what a command prints. Raises ``ValueError`` that says why it does not count, or ``OSError``."""
        if not self._allowed:
            raise ValueError(f"it runs a program: allow that with {VARIABLE}=true in the gateway's environment")
        arguments = shlex.split(command)
        if not arguments:
            raise ValueError("it names no program")
        limit_s = min(_TIMEOUT_S, self._left_s)
        if limit_s <= 0:
            raise ValueError(f"the programs before it took all of {_ALL_S:g} s")
        with subprocess.Popen(
            arguments,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # it may hold what must not be in a log
            start_new_session=True,
        ) as process:
            try:
                output = _read(process, limit_s)
                code = process.wait(limit_s)
            except subprocess.TimeoutExpired as error:
                raise ValueError(f"it did not end within {limit_s:g} s") from error
            finally:
                with contextlib.suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
        if code:
            raise ValueError(f"it ended with exit code {code}")
        text = output.decode("utf-8").strip()
        if not text:
            raise ValueError("it printed nothing")
        return text

    def __iter__(self) -> Iterator[str]:
        return iter(())  # nobody can list them

    def __len__(self) -> int:
        return 0


def _read(process: subprocess.Popen[bytes], limit_s: float) -> bytes:
    assert process.stdout is not None
    deadline = time.monotonic() + limit_s
    output = b""
    while True:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not select.select([process.stdout], [], [], left_s)[0]:
            raise subprocess.TimeoutExpired(process.args, limit_s)
        chunk = os.read(process.stdout.fileno(), 65536)
        if not chunk:
            return output
        output += chunk
        if len(output) > _MAX_BYTES:
            raise ValueError(f"it printed more than {_MAX_BYTES // 1024} KiB")
