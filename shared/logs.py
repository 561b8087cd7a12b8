"""How a process of the fleet logs: one line for each event on stderr, with time, level, process and logger."""

from __future__ import annotations

import logging
import sys


def configure(process: str, level: str) -> None:
    """Send this process's logs to stderr. ``process`` names the process in each line (``worker 3f2a``)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)-7s {process} %(name)s: %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # watchfiles logs each change that it sees. A log file in the configuration's folder changes with each such line.
    logging.getLogger("watchfiles").setLevel(max(root.level, logging.WARNING))
