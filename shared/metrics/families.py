"""Figures as values, and how those of several processes are added up. Pure.

A *family* is a metric with all its samples. A process writes its families down as a ``Snapshot``.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import msgspec
from msgspec import Struct, structs

Kind = Literal["counter", "gauge", "histogram"]
Merge = Literal["sum", "max", "own"]
"""What the families of several processes make together: the ``sum``; the ``max``, where all say the same; or each its
``own`` samples, which name the process and go with it."""
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""The upper limits of the buckets of every histogram of durations."""
AT_ONCE = 200
"""How many samples are worked on before others get a turn. They take a fraction of a millisecond."""
_MOST_BYTES = 64 * 1024 * 1024
"""The largest snapshot that is read."""


class Sample(Struct, array_like=True):
    """One series. ``value`` is the sum of a histogram's observations, and ``buckets`` has how many of them fell into
    each bucket, not added up; the last bucket has no upper limit."""

    labels: tuple[str, ...]
    value: float
    buckets: list[int] = []


class Family(Struct, array_like=True):
    """One metric. ``name`` is without the ``_total`` that counters get in the text. A ``private`` one is for the admin
    API alone, which asks who wants to know."""

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()
    samples: list[Sample] = []
    merge: Merge = "sum"
    limits: tuple[float, ...] = ()
    private: bool = False


class Snapshot(Struct, array_like=True):
    """The families of one process. ``process`` is ``frontend`` or ``worker``, ``id`` its id in the fleet."""

    process: str
    id: str
    pid: int
    families: list[Family]


def counter(name: str, text: str, labels: Sequence[str] = (), merge: Merge = "sum") -> Family:
    """Return a counter without samples."""
    return Family(name, "counter", text, tuple(labels), [], merge)


def gauge(name: str, text: str, labels: Sequence[str] = (), merge: Merge = "sum") -> Family:
    """Return a gauge without samples."""
    return Family(name, "gauge", text, tuple(labels), [], merge)


def histogram(name: str, text: str, labels: Sequence[str] = (), limits: Sequence[float] = BUCKETS_S) -> Family:
    """Return a histogram without samples."""
    return Family(name, "histogram", text, tuple(labels), [], "sum", tuple(limits))


def encode(snapshot: Snapshot) -> bytes:
    """Return the bytes of a snapshot."""
    return msgspec.msgpack.encode(snapshot)


def decode(raw: bytes) -> Snapshot | None:
    """Return a snapshot, or ``None`` for what is none, as half a file or that of another version."""
    try:
        return msgspec.msgpack.decode(raw, type=Snapshot)
    except (msgspec.DecodeError, msgspec.ValidationError):
        return None


def pack(snapshot: Snapshot) -> bytes:
    """Return a snapshot as it is kept in Redis."""
    return zlib.compress(encode(snapshot), 1)


def unpack(raw: bytes) -> Snapshot | None:
    """Return a snapshot that was packed, or ``None`` for what is none."""
    try:
        return decode(zlib.decompressobj().decompress(raw, _MOST_BYTES))
    except zlib.error:
        return None


class Sum:
    """The families of several processes as one list, ``families``."""

    def __init__(self) -> None:
        self._found: dict[str, Family] = {}
        self._series: dict[str, dict[tuple[str, ...], Sample]] = {}

    @property
    def families(self) -> list[Family]:
        """What was added so far."""
        return list(self._found.values())

    def adding(self, families: Iterable[Family]) -> Iterator[None]:
        """Add the families of one process. After ``AT_ONCE`` samples each it yields, so that others can have a turn."""
        for family in families:
            known = self._found.get(family.name)
            if known is None:
                known = self._found[family.name] = structs.replace(family, samples=[])
                self._series[family.name] = {}
            elif (known.kind, known.labels, known.limits) != (family.kind, family.labels, family.limits):
                continue  # of another version, while processes are replaced
            for start in range(0, len(family.samples), AT_ONCE):
                _add(self._series[family.name], known, family.samples[start : start + AT_ONCE])
                yield


def together(many: Iterable[Iterable[Family]]) -> list[Family]:
    """Return the families of several processes as one list."""
    total = Sum()
    for families in many:
        for _ in total.adding(families):
            pass
    return total.families


def _add(series: dict[tuple[str, ...], Sample], known: Family, samples: Iterable[Sample]) -> None:
    for sample in samples:
        mine = series.get(sample.labels)
        if mine is None:
            mine = series[sample.labels] = Sample(sample.labels, sample.value, list(sample.buckets))
            known.samples.append(mine)
        elif known.merge == "max":
            mine.value = max(mine.value, sample.value)
        else:
            mine.value += sample.value
            mine.buckets = [one + other for one, other in zip(mine.buckets, sample.buckets, strict=False)]


def of_the_past(families: Iterable[Family]) -> list[Family]:
    """Return what stays of a process that has ended: what it counted."""
    return [family for family in families if family.kind != "gauge" and family.merge == "sum"]


def with_label(name: str, value: str, families: Iterable[Family]) -> Iterator[Family]:
    """Yield the families with one more label, the same value for all samples."""
    for family in families:
        samples = [Sample((value, *sample.labels), sample.value, sample.buckets) for sample in family.samples]
        yield structs.replace(family, labels=(name, *family.labels), samples=samples)
