"""One namespace out of many groups. Pure.

A name is listed bare while only one group has it. When two groups offer a name, the group registered first keeps the
bare name, and the other entry is listed as ``{group}__{name}``. The bare name stays reserved while its group is
registered, even if the group is down, so that a call never silently reaches another group.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from shared.models import Naming

MAX_COMPOSED = 64
"""The longest composed name; clients and models commonly refuse longer ones (2026-07-28, tools, "Tool Names")."""


def compose(group: str, name: str, separator: str) -> str:
    """Return ``{group}__{name}``, shortened with a hash if it would exceed ``MAX_COMPOSED``."""
    full = f"{group}{separator}{name}"
    if len(full) <= MAX_COMPOSED:
        return full
    return f"{full[: MAX_COMPOSED - 9]}_{hashlib.sha256(full.encode()).hexdigest()[:8]}"


def compose_uri(group: str, uri: str, separator: str) -> str:
    """Return a URI marked with its group, with the same scheme: ``file:///a`` of ``docs`` is ``file://docs__/a``."""
    scheme, found, rest = uri.partition("://")
    return f"{scheme}://{group}{separator}{rest}" if found else f"{group}{separator}{uri}"


def split(name: str, is_uri: bool, separator: str) -> tuple[str, str] | None:
    """Return (group, upstream's name) of a composed name, or ``None`` if the name is not composed.

    The first separator is the right one: group names do not end with the characters that the separator begins with.
    """
    scheme, found, rest = name.partition("://") if is_uri else ("", "", name)
    group, marked, own = (rest if found else name).partition(separator)
    if not marked:
        return None
    return group, f"{scheme}://{own}" if found else own


def assign(
    groups: Iterable[tuple[str, Iterable[str]]], naming: Naming, separator: str, are_uris: bool = False
) -> dict[str, tuple[str, str]]:
    """Return (group, upstream's name) by listed name. ``groups`` are in registration order, with their names in order.

    A changed URI loses its meaning outside the gateway. So URIs are composed only at a collision, and
    ``naming: prefix`` does not apply to them.
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
        while composed in listed:  # an upstream's name looks like this composed one: add a hash to make it unique
            digest = hashlib.sha256(f"{group}\0{name}\0{attempt}".encode()).hexdigest()[:8]
            composed = f"{composed[: MAX_COMPOSED - 9]}_{digest}"
            attempt += 1
        listed[composed] = (group, name)
    return listed
