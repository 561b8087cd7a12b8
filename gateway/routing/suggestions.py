"""Which known names are close to an unknown one. Pure, and bounded: anybody can ask for any name, and upstreams choose
what is known.

Comparing two names as ``difflib`` does takes up to a millisecond for long ones of few letters. So only those that have
most letters in common are compared, and not to their ends.
"""

from __future__ import annotations

import difflib
import heapq
from collections.abc import Iterable
from itertools import islice

_AMONG = 2000
"""How many names are looked at, in 2 ms."""
_COMPARED = 20
_LETTERS = 64
_MOST = 3
_ALIKE = 0.6


def close_to(name: str, known: Iterable[str]) -> list[str]:
    """Return up to three known names that are close to ``name``, the closest first."""
    short = name[:_LETTERS]
    letters = set(short)
    likely = heapq.nsmallest(_COMPARED, islice(known, _AMONG), lambda one: _distance(letters, len(short), one))
    ratios = ((difflib.SequenceMatcher(None, one[:_LETTERS], short).ratio(), one) for one in likely)
    found = heapq.nlargest(_MOST, (pair for pair in ratios if pair[0] >= _ALIKE))
    return [one for _, one in found]


def _distance(letters: set[str], size: int, other: str) -> int:
    """Return how different two names are at least: in letters, and in length."""
    return len(letters.symmetric_difference(other[:_LETTERS])) + abs(size - min(len(other), _LETTERS)) // 2
