"""What a gateway with a Redis of its own keeps between two runs: a private directory for each gateway.

``default_path`` says where, by what identifies the gateway: its configuration file, else its name and port. One process
at a time uses a directory: it holds ``lock``, and so does its Redis, which may outlive a killed gateway for a moment.
``redis/`` has the data of ``embedded_redis``.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import re
from pathlib import Path

from msgspec import structs

from shared.errors import StartError
from shared.settings import Settings

_log = logging.getLogger(__name__)
_LOCK, _REDIS = "lock", "redis"
_OURS = frozenset((_LOCK, _REDIS, "lost+found"))
_ENDING_S = 10.0
"""How long the Redis of a gateway that was killed may take to end."""
_CURE = "start this one with --ephemeral, or with a --state-dir of its own"


def default_path(config: Path | None, name: str, port: int) -> Path | None:
    """Return the directory of the gateway that this file, or this name and port, identify.

    Return ``None`` if nothing does (no file, and any free port), or if the user has no home. The base is
    ``$XDG_STATE_HOME``, which counts only if it is absolute (XDG Base Directory Specification), or ``~/.local/state``.
    """
    if config is not None:
        whole = os.path.abspath(config)  # links are not followed: the one that a name leads to may change
        own = f"{_plain(Path(whole).stem)}-{hashlib.sha256(os.fsencode(whole)).hexdigest()[:12]}"
    elif port:
        own = f"{_plain(name)}-{port}"
    else:
        return None
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    if not base.is_absolute():
        try:
            base = Path.home() / ".local" / "state"
        except RuntimeError:
            return None
    return base / "mcp-gateway" / own


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")[:60] or "gateway"


def with_default(settings: Settings, config: Path | None) -> Settings:
    """Return settings that name a state directory, unless they name one, want none, or have a Redis of their own.

    A default that cannot be made costs the memory and not the start: that is logged.
    """
    service = settings.service
    if service.ephemeral or service.state_dir or settings.registry.redis_url:
        return settings
    path = default_path(config, service.name, service.port)
    if path is None:
        return settings
    try:
        _make(path)
    except (OSError, StartError) as error:
        _log.warning("nothing is kept for the next start, --state-dir names another place: %s", error)
        return settings
    return structs.replace(settings, service=structs.replace(service, state_dir=str(path)))


def _make(path: Path) -> None:
    """Make the directory, private to this user. Raises ``OSError``, or ``StartError`` if it is somebody else's."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_uid != os.getuid():
        raise StartError(f"the state directory {path} belongs to another user; {_CURE}")
    foreign = sorted(set(os.listdir(path)) - _OURS)
    if foreign and not (path / _LOCK).exists():
        raise StartError(f"the state directory {path} has other files in it ({foreign[0]}, …); name one that has not")
    path.chmod(0o700)


class StateDirectory:
    """One gateway's directory, while the gateway runs."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock: int | None = None

    @property
    def redis(self) -> Path:
        """Where Redis keeps its data."""
        return self.path / _REDIS

    @property
    def lock(self) -> int:
        """The open file that holds the lock; a child that inherits it holds the lock too."""
        assert self._lock is not None
        return self._lock

    async def open(self) -> None:
        """Make the directory and take its lock. Raises ``StartError``, which names the cure."""
        try:
            _make(self.path)
            self.redis.mkdir(mode=0o700, exist_ok=True)
            self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            await self._take()
            os.truncate(self.lock, 0)
            os.pwrite(self.lock, json.dumps({"pid": os.getpid()}).encode(), 0)
        except OSError as error:
            self.close()
            raise StartError(
                f"the state directory {self.path} cannot be used ({error.strerror or error}); {_CURE}"
            ) from error
        except BaseException:
            self.close()
            raise

    async def _take(self) -> None:
        deadline = asyncio.get_running_loop().time() + _ENDING_S
        while True:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                    raise
            else:
                return
            pid = self._holder()
            lives = _lives(pid)
            if lives or asyncio.get_running_loop().time() > deadline:
                who = f"another gateway (pid {pid})" if lives else "the Redis of a gateway that has ended"
                raise StartError(f"{who} uses the state directory {self.path}; stop that one, or {_CURE}")
            await asyncio.sleep(0.05)

    def _holder(self) -> int | None:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            return int(json.loads(os.pread(self.lock, 4096, 0))["pid"])
        return None

    def close(self) -> None:
        """Give the lock up."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _lives(pid: int | None) -> bool:
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
