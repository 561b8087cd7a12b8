"""Long work in steps, so that a front end can do something else between them. Pure.

A function with steps is a generator that yields nothing, many times, and returns its result. Who has no reason to wait
runs it at once; ``fleet.registry_view`` gives others a turn after each few milliseconds.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
Steps = Generator[None, None, T]
_MANY = 500
"""Of so many things, each a few microseconds of work, a step is made."""


def at_once(steps: Steps[T]) -> T:
    """Take all steps, and return the result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def chunks(things: Iterable[T], size: int = _MANY) -> Iterator[list[T]]:
    """Yield the things in lists of at most ``size``, one for each step."""
    chunk: list[T] = []
    for thing in things:
        chunk.append(thing)
        if len(chunk) >= size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
