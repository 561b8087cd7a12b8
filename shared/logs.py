"""How a process of the fleet logs: one line an event on stderr, with time, level, process and logger."""

from __future__ import annotations

import logging
import sys


def configure(process: str, level: str) -> None:
    """Send this process' logs to stderr. ``process`` names it in each line (``worker 3f2a``)."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"%(asctime)s %(levelname)-7s {process} %(name)s: %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # It logs each change that it sees; in a file beside the configuration that is a change.
    logging.getLogger("watchfiles").setLevel(max(root.level, logging.WARNING))
