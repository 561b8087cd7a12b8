"""The launcher: the program that becomes a stdio child which runs under another user, or with limits.

It reads what to do from an inherited socket, takes the limits and the user, and executes the command in its own place,
so pid, session and pipes are those of the child. It runs with an environment of its own: as it may still be root, no
variable of an entry (``LD_PRELOAD``) must have an effect on it.

Run as ``python -I -S worker/launcher.py FD COMMAND ARGUMENT…``. Imports only the standard library. Counterpart:
``worker.transports.confinement``.
"""

from __future__ import annotations

import ctypes
import json
import os
import socket
import sys
import warnings  # noqa: F401  # os.execvpe imports it when it runs, where the user may not read Python's own files
from typing import Any

_PR_SET_NO_NEW_PRIVS = 38


def _confine(orders: dict[str, Any]) -> None:
    import resource  # not on Windows, where this module is imported for its path

    for name, value in orders["limits"].items():
        which = getattr(resource, name)
        hard = resource.getrlimit(which)[1]
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (most, most))
    if orders["uid"] is not None:
        os.setgroups([])
        os.setgid(orders["gid"])
        os.setuid(orders["uid"])
        if sys.platform == "linux" and not orders["newPrivileges"]:  # no program with the setuid bit leads back
            ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def main() -> None:
    """Become the child. Exit code 127 if that is not possible."""
    with socket.socket(fileno=int(sys.argv[1])) as theirs:
        orders = json.loads(b"".join(iter(lambda: theirs.recv(65536), b"")))
    command = sys.argv[2:]
    try:
        _confine(orders)
        os.execvpe(command[0], command, orders["environment"])
    except (OSError, ValueError) as error:
        print(f"cannot start {command[0]!r}: {error}", file=sys.stderr)
        sys.exit(127)


if __name__ == "__main__":
    main()
