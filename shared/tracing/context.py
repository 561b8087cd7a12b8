"""The W3C trace context (``traceparent``, ``tracestate``) and baggage, as they come from outside. Pure.

W3C Trace Context, level 1, sections 3.2 and 3.3; W3C Baggage, section 3.3. A context that is not valid counts as none:
a trace of the gateway's own begins then, and nothing of what was sent goes on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
from msgspec import Raw, Struct

PARENT, STATE, BAGGAGE = "traceparent", "tracestate", "baggage"
"""The names as headers, and in ``_meta`` (SEP-414)."""
_PARENT = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16
_PRINTABLE = re.compile(r"[\t\x20-\x7e]*", re.ASCII)
_MAX_PARENT = 256
_MAX_STATE = 512
"""The characters of ``tracestate`` that have to be passed on (section 3.3.1.5). A longer one is left out."""
_MAX_BAGGAGE = 4096
"""A longer baggage is left out: it travels in the head of a frame."""


class Context(Struct, frozen=True, gc=False):
    """What came with a request: ids in hexadecimal, whether its trace is sampled, and what goes along."""

    trace_id: str
    span_id: str
    sampled: bool
    state: str = ""
    baggage: str = ""

    @property
    def parent(self) -> str:
        """The ``traceparent`` that says the same."""
        return written(self.trace_id, self.span_id, self.sampled)


def written(trace_id: str, span_id: str, sampled: bool) -> str:
    """Return a ``traceparent``."""
    return f"00-{trace_id}-{span_id}-{'01' if sampled else '00'}"


def read(parent: str, state: str = "", baggage: str = "") -> Context | None:
    """Return the context that these texts are, or ``None`` if ``parent`` is not valid."""
    found = _PARENT.fullmatch(parent) if len(parent) <= _MAX_PARENT else None
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if trace_id == _NO_TRACE or span_id == _NO_SPAN or (more and version == "00"):
        return None
    return Context(
        trace_id, span_id, bool(int(flags, 16) & 1), _bounded(state, _MAX_STATE), _bounded(baggage, _MAX_BAGGAGE)
    )


def of_headers(parents: Sequence[str], states: Sequence[str], baggage: Sequence[str]) -> Context | None:
    """Return the context in the values of three headers. A ``traceparent`` that is there twice is not valid."""
    if len(parents) != 1:
        return None
    return read(parents[0].strip(), ",".join(states), ",".join(baggage))


def of_meta(parent: Raw, state: Raw, baggage: Raw) -> Context | None:
    """Return the context in the JSON of three members of ``_meta``."""
    return read(_text(parent), _text(state), _text(baggage)) if parent else None


def _bounded(text: str, limit: int) -> str:
    return text if len(text) <= limit and _PRINTABLE.fullmatch(text) else ""


def _text(raw: Raw) -> str:
    """Return the string in ``raw``, or an empty one if there is none, or something else."""
    try:
        return msgspec.json.decode(raw, type=str) if raw else ""
    except msgspec.DecodeError:
        return ""
