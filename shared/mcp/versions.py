"""Protocol versions and the two eras to which they belong.

*Legacy*: an ``initialize`` handshake, sessions, requests from the server. *Modern*: stateless, each request carries
version and capabilities in ``_meta``. Versions are an enumerated set and are never compared as strings.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

LEGACY_VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
MODERN_VERSIONS = ("2026-07-28",)
DRAFT_OF_THE_FIRST = "2024-10-07"
"""The version before the first that was published. Upstreams that speak it are spoken to as in the first one."""
LATEST_LEGACY = LEGACY_VERSIONS[-1]
LATEST_MODERN = MODERN_VERSIONS[-1]
DEFAULT_WITHOUT_HEADER = "2025-03-26"
"""The version of a legacy request without a version header (2025-06-18, basic/transports)."""


class Era(enum.IntEnum):
    """One of the two eras of the protocol."""

    LEGACY = 0
    MODERN = 1

    @property
    def word(self) -> str:
        """The era's name as kept in Redis and shown to users."""
        return "modern" if self else "legacy"


def negotiate_legacy(requested: str) -> str:
    """Return the version in the answer to ``initialize``: the requested one if the gateway speaks it, else its
    latest."""
    return requested if requested in LEGACY_VERSIONS else LATEST_LEGACY


def other_version(error: Mapping[str, Any]) -> str | None:
    """Return the version in which to send ``initialize`` again after this JSON-RPC error, or ``None`` if it is about
    something else: the newest that the server names (2025-11-25, lifecycle, "Error Handling"), else the first one."""
    data = error.get("data")
    supported = data.get("supported") if isinstance(data, dict) else None
    if isinstance(supported, list):
        spoken = [one for one in (DRAFT_OF_THE_FIRST, *LEGACY_VERSIONS) if one in supported]
        return spoken[-1] if spoken else None
    said = str(error.get("message")).lower()
    return LEGACY_VERSIONS[0] if "protocol" in said and "version" in said else None


def at_least(version: str, minimum: str) -> bool:
    """Whether a legacy ``version`` is ``minimum`` or newer. Unknown versions count as older than all others."""
    return version in LEGACY_VERSIONS and LEGACY_VERSIONS.index(version) >= LEGACY_VERSIONS.index(minimum)
