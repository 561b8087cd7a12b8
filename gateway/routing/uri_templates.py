"""Matching a URI against a URI template (RFC 6570), in time that is linear in both. Pure."""

from __future__ import annotations

import re

_EXPRESSION = re.compile(r"\{([^{}]*)\}")


def matches(template: str, uri: str) -> int | None:
    """Return how many literal characters of ``template`` the ``uri`` matches, or ``None`` when it does not match.

    Each literal is matched at its leftmost place, without backtracking. So the time is linear for any template that an
    upstream lists.
    """
    literals = _EXPRESSION.split(template)
    simple = [part[:1] not in "+#/.;?&" for part in literals[1::2]]
    texts = literals[::2]
    if len(texts) == 1:
        return len(template) if uri == template else None
    if not uri.startswith(texts[0]) or not uri.endswith(texts[-1]):
        return None
    at, end = len(texts[0]), len(uri) - len(texts[-1])
    if at > end:
        return None
    for index, text in enumerate(texts[1:]):
        last = index == len(texts) - 2
        found = end if last else uri.find(text, at, end)
        if found < at or (simple[index] and "/" in uri[at:found]):
            return None
        at = found + (0 if last else len(text))
    return sum(map(len, texts))
