"""Families as text, in Prometheus' text format 0.0.4. Pure.

Written by hand: ``prometheus_client`` builds an object for each sample and takes four times as long, which counts with
thousands of upstreams. The tests read the text with its parser, and with ``promtool`` where there is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from operator import attrgetter

from shared.metrics.families import AT_ONCE, Family, Sample

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_labels = attrgetter("labels")
_IN_LABELS = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_IN_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})


def exposition(families: Iterable[Family]) -> bytes:
    """Return the text. Families without samples, and private ones, are left out."""
    return b"".join(pieces(families))


def pieces(families: Iterable[Family]) -> Iterator[bytes]:
    """Yield the text of ``AT_ONCE`` samples each, so that others can have a turn in between."""
    for family in sorted(families, key=lambda one: one.name):
        if not family.samples or family.private:
            continue
        name = f"{family.name}_total" if family.kind == "counter" else family.name
        yield f"# HELP {name} {family.text.translate(_IN_HELP)}\n# TYPE {name} {family.kind}\n".encode()
        samples = sorted(family.samples, key=_labels)
        for start in range(0, len(samples), AT_ONCE):
            lines: list[str] = []
            for sample in samples[start : start + AT_ONCE]:
                labels = ",".join(map(_label, family.labels, sample.labels))
                if family.kind == "histogram":
                    lines += _histogram(family, sample, labels)
                else:
                    shown = f"{{{labels}}}" if labels else ""
                    lines.append(f"{name}{shown} {_number(sample.value)}")
            yield "\n".join([*lines, ""]).encode("utf-8", "replace")


def _histogram(family: Family, sample: Sample, labels: str) -> list[str]:
    lines, total = [], 0
    start = f"{family.name}_bucket{{{labels}{',' if labels else ''}le="
    for limit, count in zip((*map(_number, family.limits), "+Inf"), sample.buckets, strict=False):
        total += count
        lines.append(f'{start}"{limit}"}} {total}')
    shown = f"{{{labels}}}" if labels else ""
    return [*lines, f"{family.name}_sum{shown} {_number(sample.value)}", f"{family.name}_count{shown} {total}"]


def _label(name: str, value: str) -> str:
    if '"' in value or "\\" in value or "\n" in value:
        value = value.translate(_IN_LABELS)
    return f'{name}="{value}"'


def _number(value: float) -> str:
    return repr(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
