"""Arguments of calls as an audit log may show them. Pure.

What looks like a secret is replaced, by its name or by its form, and what an operator names by a JSON pointer
(RFC 6901, with ``*`` for any member or index).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

HIDDEN = "***"
_NAMES = re.compile(
    r"passw(or)?d|passphrase|secret|token|api[_-]?key|apikey|authorization|credential|cookie|private[_-]?key|session[_-]?id"
    r"|card[_-]?number",
    re.IGNORECASE,
)
_WHOLE_NAMES = re.compile(r"(pin|ssn|cvv|iban|auth|pwd|key)", re.IGNORECASE)
_VALUES = re.compile(
    r"\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*"  # JWT
    r"|\b(?:Bearer|Basic)\s+[\w.~+/=-]{8,}"
    r"|\bgwk_[\w-]{20,}|\bgh[pousr]_\w{20,}|\bgithub_pat_\w{20,}|\bsk-[\w-]{16,}|\bxox[abprs]-[\w-]{8,}"
    r"|\bAKIA[0-9A-Z]{16}\b|\bAIza[\w-]{30,}|\bglpat-[\w-]{16,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)"
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)",
    re.DOTALL,
)
_MAX_DEPTH = 32


def redacted(value: Any, pointers: Sequence[tuple[str, ...]] = (), depth: int = 0) -> Any:
    """Return ``value`` (decoded JSON) without what looks like a secret, and without what ``pointers`` lead to."""
    if any(not pointer for pointer in pointers):
        return HIDDEN
    if depth > _MAX_DEPTH:
        return HIDDEN
    if isinstance(value, dict):
        return {name: _member(name, inner, pointers, depth) for name, inner in value.items()}
    if isinstance(value, list):
        return [redacted(inner, _under(pointers, str(at)), depth + 1) for at, inner in enumerate(value)]
    return _VALUES.sub(HIDDEN, value) if isinstance(value, str) else value


def _member(name: str, value: Any, pointers: Sequence[tuple[str, ...]], depth: int) -> Any:
    if _WHOLE_NAMES.fullmatch(name) or (_NAMES.search(name) and not _is_count(name, value)):
        return HIDDEN
    return redacted(value, _under(pointers, name), depth + 1)


def _is_count(name: str, value: Any) -> bool:
    """Whether a name such as ``max_tokens`` or ``pinned`` only contains the word."""
    return isinstance(value, int | float | bool) and not re.search(r"passw|card", name, re.IGNORECASE)


def _under(pointers: Sequence[tuple[str, ...]], name: str) -> list[tuple[str, ...]]:
    return [pointer[1:] for pointer in pointers if pointer[0] in (name, "*")]


def read_pointer(text: str) -> tuple[str, ...]:
    """Return the steps of a JSON pointer. Raises ``ValueError``."""
    if not text.startswith("/"):
        raise ValueError(f"{text!r} is no JSON pointer: it begins with /")
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in text[1:].split("/"))
