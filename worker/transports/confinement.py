"""Under which user a stdio child runs, and within which limits of the system (``stdioUser``, ``stdioMax…``).

Counterpart: ``worker.launcher``, which is run in between only if one of these settings is set.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from shared.errors import ConfigError
from shared.handover import socket_with
from shared.settings import UpstreamSettings
from worker import launcher


class _User(NamedTuple):
    uid: int
    gid: int
    name: str
    home: str


def _user(text: str) -> _User:
    """Return the user of a name or a uid. Raises ``ConfigError``."""
    import pwd  # not on Windows

    if os.geteuid() != 0:
        raise ConfigError(f"stdioUser {text!r}: only root can run children under another user; this worker is not root")
    try:
        found = pwd.getpwuid(int(text)) if text.isdecimal() else pwd.getpwnam(text)
    except KeyError:
        if not text.isdecimal():
            raise ConfigError(f"stdioUser {text!r}: there is no such user on this machine") from None
        return _User(int(text), int(text), text, "/")
    return _User(found.pw_uid, found.pw_gid, found.pw_name, found.pw_dir)


def check_user(settings: UpstreamSettings) -> None:
    """Raise ``ConfigError`` if children cannot run under ``stdioUser`` here."""
    if settings.stdio_user:
        _user(settings.stdio_user)


@contextlib.contextmanager
def launching(
    settings: UpstreamSettings,
    command: Sequence[str],
    environment: Mapping[str, str],
    marks: Mapping[str, str],
    contained: bool = False,
) -> Iterator[tuple[Sequence[str], Mapping[str, str], tuple[int, ...]]]:
    """While a child is started: the command to run, its environment, and the descriptors to pass.

    ``environment`` is for the child; ``marks`` are the variables by which its processes are found, from the beginning.
    ``contained``: the command makes a container, which has the limits itself (``sandbox``). podman and docker need more
    than a server may, and podman of an ordinary user gains the right to map users by a program with the setuid bit.
    Raises ``ConfigError``.
    """
    limits = {
        "RLIMIT_DATA": settings.stdio_max_memory,
        "RLIMIT_NOFILE": settings.stdio_max_files,
        "RLIMIT_NPROC": settings.stdio_max_processes,
    }
    limits = {name: value for name, value in limits.items() if value and not contained}
    if not settings.stdio_user and not limits:
        yield command, {**environment, **marks}, ()
        return
    orders: dict[str, object] = {"limits": limits, "uid": None, "gid": None, "environment": {**environment, **marks}}
    if settings.stdio_user:
        user = _user(settings.stdio_user)
        orders |= {"uid": user.uid, "gid": user.gid, "newPrivileges": contained}
    with socket_with(json.dumps(orders).encode()) as theirs:
        program = [sys.executable, "-I", "-S", launcher.__file__, str(theirs.fileno())]
        yield [*program, *command], marks, (theirs.fileno(),)


def of_the_user(settings: UpstreamSettings, environment: Mapping[str, str]) -> dict[str, str]:
    """Return ``environment`` as it fits the user under which children run: the user's own home and name, and nothing
    that belongs to the user of the gateway (``XDG_*``). Raises ``ConfigError``."""
    if not settings.stdio_user:
        return dict(environment)
    user = _user(settings.stdio_user)
    kept = {name: value for name, value in environment.items() if not name.startswith("XDG_")}
    return {**kept, "HOME": user.home, "USER": user.name, "LOGNAME": user.name}
