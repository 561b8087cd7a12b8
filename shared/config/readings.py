"""What becomes of an entry while it is read, and values in the forms in which people write them. Pure."""

from __future__ import annotations

import re
from typing import Any

from msgspec import Struct, field

from shared.models import UpstreamSpec

Said = list[tuple[str, str]]
_DOLLAR = re.compile(r"(?:.*\s)?\$[A-Z_][A-Z0-9_]*")
_MAX_EXACT = 2**53
_RUNS = re.compile(r"(?:.*\s)?\$\(.+\)")


class Reading(Struct):
    """What became of an entry: its ``spec``, or ``off`` (why the file does not want it). The spec of an entry with
    ``problems`` is there to be shown, not to be run."""

    path: str
    problems: Said = field(default_factory=list)
    warnings: Said = field(default_factory=list)
    mended: Said = field(default_factory=list)
    spec: UpstreamSpec | None = None
    off: str = ""

    def problem(self, key: str, text: str) -> None:
        """Note why the entry cannot be run."""
        self.problems.append((f"{self.path}.{key}" if key else self.path, text))

    def warn(self, key: str, text: str) -> None:
        """Note what of the entry has no effect."""
        self.warnings.append((f"{self.path}.{key}", text))

    def mend(self, key: str, text: str) -> None:
        """Note what was taken for something else than what is written."""
        self.mended.append((f"{self.path}.{key}", text))


def text_map(value: Any, key: str, what: str, reading: Reading) -> dict[str, str]:
    """Return a map of texts, which may be written as a list or as lines. ``what`` it must be is said if it is none."""
    if isinstance(value, str) and value.strip():
        value = [line for line in value.splitlines() if line.strip()]
    if isinstance(value, list):
        value = dict(_pair(one, ":" if key.endswith("headers") else "=") for one in value)
    if not isinstance(value, dict):
        reading.problem(key, f"must be an object of {what}")
        return {}
    kept = {str(name): one for name, one in value.items() if one is not None}
    found = texts(list(kept.values()), key, reading)
    if found is None:
        reading.problem(key, f"must be an object of {what}")
        return {}
    return dict(zip(kept, found, strict=True))


def _pair(one: Any, separator: str) -> tuple[str, Any]:
    """Return the name and the value in an item of a list: ``NAME=value`` (Docker), ``Name: value``, or an object."""
    if isinstance(one, dict) and ("name" in one or "key" in one):
        return str(one.get("name", one.get("key"))), one.get("value")
    name, _, text = str(one).partition(separator)
    return (name.strip(), text.strip()) if separator == ":" else (name, text)


def warn_of_dollars(values: dict[str, str], key: str, reading: Reading) -> None:
    """Warn of values that look like references of another client, and have none of their values."""
    for name, value in values.items():
        if _DOLLAR.fullmatch(value):
            reading.warn(f"{key}.{name}", "is used as it is written: there is no environment variable of that name")
        elif _RUNS.fullmatch(value):
            reading.warn(f"{key}.{name}", "is used as it is written: programs are run by ${exec:PROGRAM} only")


def texts(values: list[Any], key: str, reading: Reading) -> list[str] | None:
    """Return values as texts: numbers and booleans as JSON writes them. ``None`` if one is no such value."""
    found = []
    for value in values:
        if value is None:
            reading.mend(key, "a null is left out")
        elif isinstance(value, bool):
            found.append("true" if value else "false")
        elif isinstance(value, float) and value.is_integer() and abs(value) < _MAX_EXACT:
            found.append(str(int(value)))  # as JavaScript writes 1e3 and 8080.0
        elif isinstance(value, str | int | float):
            found.append(str(value))
        elif hasattr(value, "isoformat"):  # YAML and TOML know dates
            found.append(value.isoformat())
        else:
            return None
    return found


def is_text_map(value: Any) -> bool:
    """Whether a value is an object whose keys are texts."""
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)
