"""The first process of a container without one (Kubernetes): it starts ``gateway``, passes signals on, and reaps the
processes that have lost their parent, as those that stdio servers leave behind::

    python -P -m gateway.init worker

Its exit code is that of the command; 128 and the number of the signal if one ended it.
"""

from __future__ import annotations

import os
import signal
import sys

from shared.safe_python import SAFE_PYTHON

_PASSED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


def main() -> int:
    """Run ``gateway`` with the arguments of this process until it ends."""
    command = [*SAFE_PYTHON, "-m", "gateway", *sys.argv[1:]]
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED)  # none is lost before there is somebody to pass it to
    child = os.posix_spawn(sys.executable, command, os.environ, setsigmask=())
    for which in _PASSED:
        signal.signal(which, lambda number, _: _pass(child, number))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED)
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _pass(child: int, number: int) -> None:
    try:
        os.kill(child, number)
    except ProcessLookupError:
        pass  # it has just ended


if __name__ == "__main__":
    sys.exit(main())
