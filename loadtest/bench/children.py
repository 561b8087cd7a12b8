"""Child processes of a benchmark run. Each ends with the run: on return, on Ctrl-C, and (Linux) on ``kill -9`` of it.

They stand in sessions of their own, so that Ctrl-C reaches the run alone, which ends them in reverse order.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_STOP_S = 30.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class ChildFailed(RuntimeError):
    """A child ended, or did not say what it should in time; the message has its last words."""


def _die_with_parent() -> None:
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def clean_environment() -> dict[str, str]:
    """Ours without ``GATEWAY_*`` and ``OTEL_*``: what is measured has its default configuration."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GATEWAY_", "OTEL_"))}
    return {**kept, "PYTHONUNBUFFERED": "1"}


class ChildProcess:
    """One child with its standard output read on demand; with ``logged``, that is in ``log`` as well, however much."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path | None = None,
        variables: Mapping[str, str] | None = None,
        logged: bool = False,
    ) -> None:
        self.name = " ".join(command[1:])
        self._log = open(log, "ab") if log else None  # noqa: SIM115 - closed in stop
        self._said = b""
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**clean_environment(), **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=self._log if logged else subprocess.PIPE,
            stderr=self._log or subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        if self.process.stdout is not None:
            os.set_blocking(self.process.stdout.fileno(), False)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def step_back(self) -> None:
        """Let it have only the CPU that nobody else wants (Linux): it stands for something on another machine."""
        if sys.platform == "linux":
            os.sched_setscheduler(self.pid, os.SCHED_IDLE, os.sched_param(0))
            with contextlib.suppress(OSError):  # a session is scheduled as a group (sched(7), autogroup)
                Path(f"/proc/{self.pid}/autogroup").write_text("19")

    @property
    def said(self) -> str:
        """Its output so far."""
        assert self.process.stdout is not None
        while True:
            chunk = self.process.stdout.read(65536)
            if not chunk:
                return self._said.decode("utf-8", "replace")
            self._said += chunk

    def line_with(self, words: str, within_s: float = 30.0) -> str:
        """Wait for a complete line of output that contains ``words``. Raises ``ChildFailed``."""
        assert self.process.stdout is not None
        deadline = time.monotonic() + within_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while True:
                ended = self.process.poll() is not None
                for line in self.said.splitlines(keepends=True):
                    if words in line and line.endswith("\n"):
                        return line.strip()
                if ended or time.monotonic() > deadline:
                    why = "it ended" if ended else f"not within {within_s:g} s"
                    raise ChildFailed(f"{self.name}: no {words!r} ({why}): {self.said[-500:]}")
                selector.select(0.05)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL for the ones that stay."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        if self._log:
            self._log.close()


@contextlib.contextmanager
def running(
    command: Sequence[str],
    log: Path | None = None,
    variables: Mapping[str, str] | None = None,
    logged: bool = False,
) -> Iterator[ChildProcess]:
    """A child for the length of a ``with`` block, with these ``variables`` beside ours."""
    child = ChildProcess(command, log, variables, logged)
    try:
        yield child
    finally:
        child.stop()


@contextlib.contextmanager
def server(module: str, *arguments: str) -> Iterator[tuple[ChildProcess, int]]:
    """``python -m loadtest.bench.MODULE`` that prints ``port N`` when it listens; the child and its port."""
    with running([sys.executable, "-m", f"loadtest.bench.{module}", *arguments]) as child:
        yield child, int(child.line_with("port ").split()[1])
