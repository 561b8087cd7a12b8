"""Inputs for fuzzing: the lines of a corpus as they are, then changed at random, the same in every run."""

from __future__ import annotations

import ast
import os
import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
ROUNDS = int(os.environ.get("FUZZ_ROUNDS", "20000"))
SEED = int(os.environ.get("FUZZ_SEED", "0"))
_MOST_BYTES = 20_000


def corpus(name: str) -> list[bytes]:
    """Return the inputs in one file of the corpus: a bytes literal of Python a line."""
    lines = (CORPUS / f"{name}.txt").read_text("utf-8").splitlines()
    return [ast.literal_eval(line) for line in lines if line.startswith("b")]


def _change(rng: random.Random, data: bytes, others: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    at = rng.randrange(len(data) + 1)
    to = min(len(data), at + rng.choice((1, 1, 2, 4, 8, 30)))
    match rng.randrange(10):
        case 0:
            return data[:at] + data[to:]
        case 1:
            return data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
        case 2 | 3:
            return data[:at] + rng.choice(words) + data[at:]
        case 4:
            return data[:at] + rng.choice(words) + data[to:]
        case 5:
            return data[:to] + data[at:to] * rng.choice((1, 1, 2, 40)) + data[to:]
        case 6:
            other = rng.choice(others)
            return data[:at] + other[rng.randrange(len(other) + 1) :]
        case 7:
            found = rng.choice(words)  # one word of the language for another
            return data.replace(found, rng.choice(words), 1)
        case 8:
            return data[:at] + data[at:to].swapcase() + data[to:]
        case _:
            return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :] if at < len(data) else data


def inputs(name: str, words: Sequence[bytes], rounds: int | None = None) -> Iterator[bytes]:
    """Yield the corpus ``name``, then ``rounds`` inputs made from it. ``words`` are what means something there."""
    rng = random.Random(zlib.crc32(name.encode()) + SEED)
    known = corpus(name)
    yield from known
    for _ in range(ROUNDS if rounds is None else rounds):
        data = rng.choice(known)
        for _ in range(rng.choice((1, 1, 2, 3, 6))):
            data = _change(rng, data, known, words)[:_MOST_BYTES]
        yield data


def pieces(rng: random.Random, data: bytes) -> list[bytes]:
    """Return ``data`` cut at random."""
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 1, 2, 5, 30))))
    return [data[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


def fuzz(name: str, words: Sequence[bytes], check: Callable[[bytes], None], rounds: int | None = None) -> None:
    """Call ``check`` with each input. What it raises is a finding, and is told with the line for the corpus."""
    for data in inputs(name, words, rounds):
        try:
            check(data)
        except BaseException as error:
            if not isinstance(error, Exception):
                raise
            raise AssertionError(f"{error!r:.500}; for tests/fuzz/corpus/{name}.txt:\n{data!r}") from error
