"""The settings that one upstream can have for itself, written in its entry, instead of the gateway's.

Counterpart: ``worker.ownership.inventory``, which applies them where an upstream is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import structs

from shared.errors import ConfigError
from shared.former_names import FORMER
from shared.knobs import converted, suggestion
from shared.settings import KNOBS, Settings, build

OWN = (
    "requestTimeout",
    "requestTimeoutMax",
    "maxResultBytes",
    "connectTimeout",
    "startTimeout",
    "stdioStartTimeout",
    "probeTimeout",
    "stopTimeout",
    "reconnectMin",
    "reconnectMax",
    "maxConnections",
    "maxPending",
    "maxConcurrency",
    "concurrency",
    "maxQueueWait",
    "healthCheckInterval",
    "healthCheckTimeout",
    "unhealthyAfter",
    "healthyAfter",
    "refreshInterval",
    "maxEntries",
    "maxCatalogBytes",
    "maxEntryBytes",
    "listTimeout",
    "hedge",
)
"""The settings that one upstream can have for itself, written in its entry."""


def now(key: str) -> str:
    """Return what a setting is called now; an earlier release may have called it something else."""
    return FORMER.get(key, key)


def check_own(own: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what is wrong with the settings that an entry has for itself, as (key, message)."""
    problems = [(key, f"is no setting of one upstream{suggestion(key, OWN)}") for key in own if now(key) not in OWN]
    if own and not problems:
        try:
            build(own)
        except ConfigError as error:
            problems = [(path.removeprefix("gateway."), text) for path, text in error.problems]
    return problems


def for_upstream(settings: Settings, own: Mapping[str, Any]) -> Settings:
    """Return the settings as they apply to one upstream. ``own`` are those of its entry, as in a file; unknown ones,
    which a newer release may have written, are ignored."""
    changed: dict[str, dict[str, Any]] = {}
    if "startTimeout" in own:  # an upstream is reached in one way, so it has one time to start
        own = {"stdioStartTimeout": own["startTimeout"], **own}
    for written, value in own.items():
        key = now(written)
        if key in OWN and key in KNOBS:  # what is an object of its own is for front ends
            knob = KNOBS[key]
            changed.setdefault(knob.section, {})[knob.field] = converted(knob, value, from_text=False)
    sections = {name: structs.replace(getattr(settings, name), **fields) for name, fields in changed.items()}
    return structs.replace(settings, **sections) if sections else settings
