"""Text that is almost JSON: lone surrogates and byte order marks, which many programs write. Pure."""

from __future__ import annotations

import re

BOM = b"\xef\xbb\xbf"
"""A byte order mark in UTF-8. RFC 8259 section 8.1: a reader may ignore it."""
_PAIR_OR_HALF = re.compile(
    rb"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
_HALF = 6
"""The length of an escape of one half, ``\\ud83d``, in bytes."""


def without_lone_surrogates(body: bytes) -> bytes:
    r"""Return ``body`` with each escape of half a surrogate pair replaced by ``\ufffd``; the same object if none is.

    ``"\ud83d"`` is allowed by the grammar of JSON but stands for no character (RFC 8259 section 8.2).
    """
    if b"\\ud" not in body and b"\\uD" not in body:
        return body
    found = _PAIR_OR_HALF.sub(lambda one: b"\\ufffd" if len(one[0]) == _HALF else one[0], body)
    return body if found == body else found
