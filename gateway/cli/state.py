"""How commands on this machine find a running gateway's Redis: a private file per port, removed when it stops.

``gateway servers add ID -- COMMAND`` runs a command on this machine. Whoever can read the file could run it
anyway, so it goes to the registry directly and needs no token; over HTTP it would.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from urllib.parse import urlsplit


def _directory() -> Path:
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base) / "mcp-gateway" if base else Path(tempfile.gettempdir()) / f"mcp-gateway-{os.getuid()}"


def _file(port: int) -> Path:
    return _directory() / f"{port}.json"


def write(port: int, redis_url: str, prefix: str) -> None:
    """Note a running gateway; readable by this user only."""
    directory = _directory()
    directory.mkdir(mode=0o700, exist_ok=True)
    if directory.stat().st_uid != os.getuid():
        return  # somebody else's: do without
    directory.chmod(0o700)
    descriptor = os.open(_file(port), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"pid": os.getpid(), "redisUrl": redis_url, "keyPrefix": prefix}, file)


def remove(port: int) -> None:
    """It stops."""
    _file(port).unlink(missing_ok=True)


def _read_own(file: Path) -> dict[str, str]:
    """A file that this user wrote and nobody else may read or have put there. Raises ``OSError`` for any other."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor) as opened:
        about, around = os.fstat(descriptor), os.lstat(file.parent)
        if {about.st_uid, around.st_uid} != {os.getuid()} or (about.st_mode | around.st_mode) & 0o077:
            raise PermissionError(f"{file} is not private to this user")
        return dict(json.load(opened))


def read(url: str) -> dict[str, str] | None:
    """The note of the gateway at ``url``, if it runs on this machine under this user."""
    parts = urlsplit(url)
    if parts.hostname not in ("127.0.0.1", "localhost", "::1") or parts.port is None:
        return None
    try:
        found = _read_own(_file(parts.port))
        os.kill(int(found["pid"]), 0)
    except (OSError, ValueError, KeyError):
        return None
    return {"redisUrl": str(found["redisUrl"]), "keyPrefix": str(found["keyPrefix"])}
