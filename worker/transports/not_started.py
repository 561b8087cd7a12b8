"""Why a command cannot be started, in words for people. Counterpart: ``shared.cures``, which says what helps.

The operating system says "no such file" whether it is the command that is missing, the folder to start it in, or the
interpreter that the first line of a script names. So this looks which one it is.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

_SHOWN = 12
"""How many folders of ``PATH`` are named."""


def why_not(error: Exception, command: str, folder: str | None, environment: Mapping[str, str]) -> str:
    """Return why ``command`` could not be started in ``folder`` with ``environment``."""
    if not isinstance(error, OSError):
        return str(error)
    if folder is not None and not os.path.isdir(folder):
        return f"there is no folder {folder!r} (cwd) on this worker's host"
    if folder is not None and not os.access(folder, os.X_OK):
        return f"the folder {folder!r} (cwd) may not be entered"
    place = _place(command, folder, environment)
    if place is None:
        if "/" in command:
            return f"there is no such file: {command!r}"
        searched = list(dict.fromkeys(one for one in environment.get("PATH", os.defpath).split(os.pathsep) if one))
        more = f" and {len(searched) - _SHOWN} more" if len(searched) > _SHOWN else ""
        return f"command not found in PATH ({', '.join(searched[:_SHOWN])}{more})"
    if place.is_dir():
        return f"{str(place)!r} is a folder, not executable"
    if not os.access(place, os.X_OK):
        return f"{str(place)!r} is not executable"
    first = _first_line(place)
    if first.startswith(b"#!") and first.endswith(b"\r\n"):
        return "its first line ends as lines do on Windows: save the file with the line ends of Unix"
    interpreter = _interpreter(first)
    if interpreter and not os.path.exists(interpreter):
        return f"the interpreter that its first line names is not there: {interpreter!r}"
    if error.errno == errno.ENOEXEC:
        return "the file is neither a program of this machine nor a script that names its interpreter (#!)"
    return str(error)


def _place(command: str, folder: str | None, environment: Mapping[str, str]) -> Path | None:
    """Return the file that ``command`` means, ``None`` if there is none."""
    if "/" in command:
        found = Path(folder or ".", command)
        return found if found.exists() else None
    path = environment.get("PATH", os.defpath)
    which = shutil.which(command, path=path) or shutil.which(command, mode=os.F_OK, path=path)
    return Path(which) if which is not None else None


def _first_line(place: Path) -> bytes:
    try:
        with place.open("rb") as file:
            return file.readline(512)
    except OSError:
        return b""


def _interpreter(line: bytes) -> str:
    """Return the program that the first line of a script names, or an empty text."""
    words = line.removeprefix(b"#!").split() if line.startswith(b"#!") else []
    return words[0].decode("utf-8", "surrogateescape") if words else ""
