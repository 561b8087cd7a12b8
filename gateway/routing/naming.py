"""One namespace out of many groups. Pure.

A name is listed bare while only one group has it. When two groups offer it, the group registered first keeps the bare
name, the other is listed as ``{group}__{name}``. The bare name stays reserved while its group is registered, even when
that group is down, so that a call never silently hits another group.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from shared.models import Naming

MAX_NAME = 64
"""Longest composed name; clients and models commonly refuse more (2026-07-28, tools, "Tool Names")."""


def compose(group: str, name: str, separator: str) -> str:
    """``group__name``, shortened with a hash when it would exceed ``MAX_NAME``."""
    full = f"{group}{separator}{name}"
    if len(full) <= MAX_NAME:
        return full
    return f"{full[: MAX_NAME - 9]}_{hashlib.sha256(full.encode()).hexdigest()[:8]}"


def compose_uri(group: str, uri: str, separator: str) -> str:
    """A URI marked with its group, keeping its scheme: ``file:///a`` of ``docs`` is ``file://docs__/a``."""
    scheme, found, rest = uri.partition("://")
    return f"{scheme}://{group}{separator}{rest}" if found else f"{group}{separator}{uri}"


def split(name: str, is_uri: bool, separator: str) -> tuple[str, str] | None:
    """(group, own name) of a composed name, or ``None``. Group names do not end like the separator begins."""
    scheme, found, rest = name.partition("://") if is_uri else ("", "", name)
    group, marked, own = (rest if found else name).partition(separator)
    if not marked:
        return None
    return group, f"{scheme}://{own}" if found else own


def assign(
    groups: Iterable[tuple[str, Iterable[str]]], naming: Naming, separator: str, are_uris: bool = False
) -> dict[str, tuple[str, str]]:
    """Listed name → (group, own name), for groups in registration order with their names in order.

    URIs keep their meaning only as they are: they are composed at a collision, never merely for ``naming: prefix``.
    """
    ordered = [(group, list(names)) for group, names in groups]
    listed: dict[str, tuple[str, str]] = {}
    collided: list[tuple[str, str]] = []
    for group, names in ordered:
        for name in names:
            if (naming is Naming.PREFIX and not are_uris) or name in listed:
                collided.append((group, name))
            else:
                listed[name] = (group, name)
    for group, name in collided:
        composed = compose_uri(group, name, separator) if are_uris else compose(group, name, separator)
        attempt = 0
        while composed in listed:  # somebody's own name looks like our composed one: make ours unmistakable
            digest = hashlib.sha256(f"{group}\0{name}\0{attempt}".encode()).hexdigest()[:8]
            composed = f"{composed[: MAX_NAME - 9]}_{digest}"
            attempt += 1
        listed[composed] = (group, name)
    return listed
