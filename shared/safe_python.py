"""How the gateway's own programs are started in Python."""

from __future__ import annotations

import sys

SAFE_PYTHON = (sys.executable, "-P")
"""The interpreter. ``-P`` keeps the current folder off the import path, so that a file ``worker.py`` of the user is not
imported instead of the package ``worker``."""
