"""How commands on this machine find a running gateway's Redis: by a private file for each port.

``gateway up`` writes the file and removes it at its end. ``gateway servers add ID -- COMMAND`` registers a command that
is run on this machine. With the file it registers through Redis and needs no token, as it would over HTTP: a user who
can read the file may run commands here anyway.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit


def _directory() -> Path:
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base) / "mcp-gateway" if base else Path(tempfile.gettempdir()) / f"mcp-gateway-{os.getuid()}"


def file_of(port: int) -> Path:
    """Return where the file of the gateway at this port is."""
    return _directory() / f"{port}.json"


def write(port: int, redis_url: str, prefix: str, admin_token: str = "", sealed: bool = False) -> None:
    """Write the file of a running gateway. Only this user can read it.

    ``sealed`` says that its fleet has a configured key, which is not written.

    The password stands in the file by itself as well, for people who use redis-cli.
    """
    directory = _directory()
    directory.mkdir(mode=0o700, exist_ok=True)
    found = directory.lstat()
    if found.st_uid != os.getuid() or not stat.S_ISDIR(found.st_mode):
        return  # another user made it, or a link that leads elsewhere: the gateway works without the file
    directory.chmod(0o700)
    remove(port)  # whatever is there may be a link, or readable for others
    descriptor = os.open(file_of(port), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w") as file:
        content = {
            "pid": os.getpid(),
            "redisUrl": redis_url,
            "redisPassword": unquote(urlsplit(redis_url).password or ""),
            "keyPrefix": prefix,
            "adminToken": admin_token,
            "sealed": "yes" if sealed else "",
        }
        json.dump(content, file)


def remove(port: int) -> None:
    """Remove the file of a gateway that stops."""
    file_of(port).unlink(missing_ok=True)


def _read_own(file: Path) -> dict[str, str]:
    """Return the content of a file that only this user can have written and can read. Raises ``OSError`` for others."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW)
    with os.fdopen(descriptor) as opened:
        about, around = os.fstat(descriptor), os.lstat(file.parent)
        if {about.st_uid, around.st_uid} != {os.getuid()} or (about.st_mode | around.st_mode) & 0o077:
            raise PermissionError(f"{file} is not private to this user")
        return dict(json.load(opened))


def read(url: str) -> dict[str, str] | None:
    """Return the file's content for the gateway at ``url``: ``redisUrl``, ``keyPrefix``, ``adminToken``, ``sealed``.

    Return ``None`` unless the gateway runs on this machine under this user.
    """
    parts = urlsplit(url)
    if parts.hostname not in ("127.0.0.1", "localhost", "::1") or parts.port is None:
        return None
    try:
        found = _read_own(file_of(parts.port))
        os.kill(int(found["pid"]), 0)
    except (OSError, ValueError, KeyError):
        return None
    words = {name: str(found[name]) for name in ("redisUrl", "keyPrefix")}
    return {**words, **{name: str(found.get(name) or "") for name in ("adminToken", "sealed")}}
