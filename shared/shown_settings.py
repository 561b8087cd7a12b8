"""The settings that a process goes by, as they may be shown: in a file's units, without secrets. Pure."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from shared.connections import MASK, mask_url
from shared.knobs import Knob
from shared.settings import KNOBS, Settings


class ShownSetting(Struct, rename="camel"):
    """One setting. ``value`` and ``default`` are as in a file (durations in milliseconds), a secret is masked.
    ``given``: whether it has another value than the default. ``source`` says where that comes from: ``file``,
    ``variable`` or ``flag``; ``gateway`` where the gateway itself chose it, as it does the address of a Redis that it
    starts."""

    key: str
    section: str
    variable: str
    value: Any
    default: Any
    given: bool
    description: str
    source: str = ""


def shown(settings: Settings) -> list[ShownSetting]:
    """Return all settings, in the order of docs/settings.md."""
    found = []
    for knob in KNOBS.values():
        value = getattr(getattr(settings, knob.section), knob.field)
        given = value != knob.default
        found.append(
            ShownSetting(
                knob.key,
                knob.section,
                knob.variable,
                _plain(knob, value),
                _plain(knob, knob.default),
                given,
                knob.description,
                settings.sources.get(knob.key, "gateway") if given else "",
            )
        )
    return found


def _plain(knob: Knob, value: Any) -> Any:
    """Return a value as JSON has it, and as it may be seen."""
    if knob.secret:
        return MASK if value else ""
    if knob.milliseconds:
        return round(value * 1000, 3)
    if isinstance(value, str) and "://" in value and ("@" in value or knob.field == "redis_url"):
        return mask_url(value)
    return msgspec.to_builtins(value)
