"""One namespace out of many groups. Pure.

A name is listed bare while only one group has it. When two groups offer a name, the group that had it first keeps the
bare name, and the other entry is listed as ``{group}__{name}``: the one that was registered first, or the other one if
the first added the name later. The bare name stays reserved while its group is registered, even if the group is down,
so that a call never silently reaches another group. A name that begins like the composed names of another group is
never listed bare.

Groups are called as people like, but models take tools only by ``^[a-zA-Z0-9_-]{1,64}$``. So what is composed is made
of *labels*: the parts with ``_`` for every other character (``label``, ``labels``).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping

from gateway.routing.steps import Steps, at_once
from shared.choices import Naming

MAX_COMPOSED = 64
"""The longest composed name; clients and models commonly refuse longer ones (2026-07-28, tools, "Tool Names")."""
GIVEN = float("-inf")
"""Since when a group has a name that a person gave to its entry: before all others, and the name is listed as it is."""
_LONGEST, _LONGEST_GROUP, _MOST_WAYS = 16 * 1024, 256, 16
"""Nothing that is listed has a longer name, no group either, or a name with more separators that leads anywhere."""
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_OTHER = re.compile(r"[^A-Za-z0-9_-]+")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def label(text: str) -> str:
    """Return ``text`` as part of a composed name. One without any letter of its own left is told by a hash."""
    if _PLAIN.fullmatch(text):
        return text
    found = _OTHER.sub("_", text).strip("_")
    return found or f"x{_hash(text)}"


def labels(texts: Iterable[str]) -> dict[str, str]:
    """Return the label of each of these texts. Those that would be labelled alike, or like another text, get a hash."""
    known = list(texts)
    if all(_PLAIN.fullmatch(text) for text in known):
        return {text: text for text in known}
    users: dict[str, list[str]] = {}
    for text in known:
        users.setdefault(label(text), []).append(text)
    return {
        text: text if text == short else f"{short}_{_hash(text)}" if len(users[short]) > 1 else short
        for text in known
        for short in (label(text),)
    }


def compose(group: str, name: str, separator: str) -> str:
    """Return ``{group}__{name}``, shortened with a hash if it would exceed ``MAX_COMPOSED``. Both are labels."""
    full = f"{group}{separator}{name}"
    if len(full) <= MAX_COMPOSED:
        return full
    return f"{full[: MAX_COMPOSED - 9]}_{_hash(full)}"


def compose_uri(group: str, uri: str, separator: str) -> str:
    """Return a URI marked with its group's label, with the same scheme: ``file:///a`` of ``docs`` is
    ``file://docs__/a``."""
    scheme, found, rest = uri.partition("://")
    return f"{scheme}://{group}{separator}{rest}" if found else f"{group}{separator}{uri}"


def splits(name: str, is_uri: bool, separator: str) -> Iterator[tuple[str, str]]:
    """Yield what a composed name may be made of: (group or its label, upstream's name or its label).

    There are several ways if a part has the separator in it. Of a name that consists of separators only the first ways
    are tried: whoever asks for it, or lists it, may not make us try all of them.
    """
    if len(name) > _LONGEST:
        return
    scheme, found, rest = name.partition("://") if is_uri else ("", "", name)
    text = rest if found else name
    at = text.find(separator)
    ways = 0
    while 0 <= at <= _LONGEST_GROUP and ways < _MOST_WAYS:
        ways += 1
        own = text[at + len(separator) :]
        yield text[:at], f"{scheme}://{own}" if found else own
        at = text.find(separator, at + 1)


def _is_of_another(name: str, group: str, of_groups: Mapping[str, str], are_uris: bool, separator: str) -> bool:
    """Whether a name begins like the composed names of another group."""
    if separator not in name:
        return False
    return any(of_groups.get(called.casefold(), group) != group for called, _ in splits(name, are_uris, separator))


def assign(
    groups: Iterable[tuple[str, Mapping[str, float]]], naming: Naming, separator: str, are_uris: bool = False
) -> dict[str, tuple[str, str]]:
    """Return what ``assigning`` returns, at once."""
    return at_once(assigning(groups, naming, separator, are_uris))


def assigning(
    groups: Iterable[tuple[str, Mapping[str, float]]], naming: Naming, separator: str, are_uris: bool = False
) -> Steps[dict[str, tuple[str, str]]]:
    """Return (group, upstream's name) by listed name, in steps. ``groups`` are in registration order, each with its
    names in order, and since when the group has had each.

    A changed URI loses its meaning outside the gateway. So URIs are composed only at a collision, and
    ``naming: prefix`` does not apply to them.
    """
    ordered = list(groups)
    holders: dict[str, tuple[float, int]] = {}
    for place, (_, names) in enumerate(ordered):
        for name, since in names.items():
            if name not in holders or (since, place) < holders[name]:
                holders[name] = since, place
        yield
    listed: dict[str, tuple[str, str]] = {}
    collided: list[tuple[str, str]] = []
    short = labels(group for group, _ in ordered)
    of_groups = {one.casefold(): group for group in reversed(short) for one in (group, short[group])}
    for place, (group, names) in enumerate(ordered):
        for name, since in names.items():
            if since == GIVEN:
                listed[name] = (group, name)
                continue
            taken = holders[name][1] != place or _is_of_another(name, group, of_groups, are_uris, separator)
            if taken or (naming is Naming.PREFIX and not are_uris):
                collided.append((group, name))
            else:
                listed[name] = (group, name)
        yield
    if not collided:
        return listed
    by_group = labels(group for group, _ in ordered)
    affected = {group for group, _ in collided}
    own = {} if are_uris else {group: labels(names) for group, names in ordered if group in affected}
    for group, name in collided:
        marked = by_group[group]
        composed = compose_uri(marked, name, separator) if are_uris else compose(marked, own[group][name], separator)
        attempt = 0
        while composed in listed:  # an upstream's name looks like this composed one: add a hash to make it unique
            digest = _hash(f"{group}\0{name}\0{attempt}")
            composed = f"{composed[: MAX_COMPOSED - 9]}_{digest}"
            attempt += 1
        listed[composed] = (group, name)
        yield
    return listed
