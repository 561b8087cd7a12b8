"""One setting: its names, its type, and a value of it from a file, a variable or a flag. Pure.

Counterpart: ``shared.settings``, which has them all.
"""

from __future__ import annotations

import difflib
import typing
from collections.abc import Collection
from typing import Any

import msgspec
from msgspec import Struct

from shared.choices import SWITCHED, YAML_SWITCHES


class Knob(Struct, frozen=True):
    """The names and the type of one setting. ``key`` is camelCase, with a dot where it stands in an object of its own;
    ``variable`` starts with ``GATEWAY_``."""

    section: str
    field: str
    key: str
    variable: str
    type: Any
    default: Any
    description: str
    milliseconds: bool
    secret: bool


def _camel(snake: str) -> str:
    head, *rest = snake.split("_")
    return head + "".join(word.capitalize() for word in rest)


def knobs_of(settings: type[Struct], nested: Collection[str]) -> dict[str, Knob]:
    """Return the knob of each field of each section of ``settings`` by its key. The ``nested`` sections are objects of
    their own in a file."""
    found: dict[str, Knob] = {}
    for section in msgspec.structs.fields(settings):
        if section.name == "sources":
            continue
        hints = typing.get_type_hints(section.type, include_extras=True)
        for field in msgspec.structs.fields(section.type):
            milliseconds = field.name.endswith("_s")
            stem = field.name[:-2] if milliseconds else field.name
            own = stem.removeprefix(section.name + "_")
            hint = hints[field.name]
            meta = hint.__metadata__[0]
            knob = Knob(
                section=section.name,
                field=field.name,
                key=f"{section.name}.{_camel(own)}" if section.name in nested else _camel(stem),
                variable="GATEWAY_" + stem.upper(),
                type=hint,
                default=field.default,
                description=meta.description or "",
                milliseconds=milliseconds,
                secret=field.name in ("admin_token", "access_rules", "secret"),
            )
            found[knob.key] = knob
    return found


def converted(knob: Knob, value: Any, from_text: bool) -> Any:
    """Return ``value`` as the knob's Python type. Raises ``msgspec.ValidationError`` or ``ValueError``."""
    plain = typing.get_args(knob.type)[0]
    if from_text and isinstance(value, str) and typing.get_origin(plain) is tuple:
        value = [part.strip() for part in value.split(",") if part.strip()]
    if plain is bool and isinstance(value, str) and value.lower() in YAML_SWITCHES:
        value = SWITCHED[value.lower()]
    if knob.milliseconds:
        number = msgspec.convert(value, float, strict=not from_text)
        return msgspec.convert(number / 1000.0, knob.type)
    return checked(knob, msgspec.convert(value, knob.type, strict=not from_text))


def checked(knob: Knob, value: Any) -> Any:
    """Return ``value`` if the knob's own check accepts it. The check raises ``ValueError``."""
    check = (knob.type.__metadata__[0].extra or {}).get("check")
    return value if check is None else check(value)


def suggestion(word: str, known: typing.Iterable[str]) -> str:
    """Return `` (did you mean X?)`` or an empty string, for error messages about unknown keys."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]!r}?)" if close else ""
