"""``worker.transports.not_started``: what of a command is missing, with real files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from worker.transports.not_started import why_not

PATH = {"PATH": f"/usr/bin{os.pathsep}/bin"}


def _why(command: str, folder: str | None = None, environment: dict[str, str] = PATH) -> str:
    """Start it, and return why that is not possible."""
    with pytest.raises(OSError) as caught:
        subprocess.Popen([command], cwd=folder, env=environment)
    return why_not(caught.value, command, folder, environment)


def _file(path: Path, text: str, mode: int) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing")
    assert _why("no-such-command") == "command not found in PATH (/usr/bin, /bin)"
    assert _why(missing) == f"there is no such file: {missing!r}"
    assert _why("true", folder=missing) == f"there is no folder {missing!r} (cwd) on this worker's host"
    script = _file(tmp_path / "script", "#!/no/such/python -x\n", 0o755)
    assert _why(script) == "the interpreter that its first line names is not there: '/no/such/python'"
    assert _why("script", environment={"PATH": str(tmp_path)}).startswith("the interpreter")


def test_what_cannot_be_run_is_named(tmp_path: Path) -> None:
    plain = _file(tmp_path / "plain", "#!/bin/sh\n", 0o644)
    assert _why(plain) == f"{plain!r} is not executable"
    assert _why("plain", environment={"PATH": str(tmp_path)}) == f"{plain!r} is not executable"
    assert _why(str(tmp_path)) == f"{str(tmp_path)!r} is a folder, not executable"
    assert "line ends of Unix" in _why(_file(tmp_path / "windows", "#!/bin/sh\r\nexit\r\n", 0o755))
    assert "neither a program" in _why(_file(tmp_path / "words", "hello\n", 0o755))


def test_a_long_path_is_cut_and_other_errors_are_as_they_are() -> None:
    folders = os.pathsep.join(f"/p{number}" for number in range(40))
    assert "/p11 and 28 more)" in _why("no-such-command", environment={"PATH": folders})
    assert why_not(ValueError("odd"), "x", None, {}) == "odd"
    assert why_not(OSError(24, "Too many open files"), "true", None, PATH) == "[Errno 24] Too many open files"
