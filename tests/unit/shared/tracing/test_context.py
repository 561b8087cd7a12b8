"""The W3C trace context: what is one, and what is none."""

from __future__ import annotations

import pytest
from msgspec import Raw

from shared.tracing.context import Context, of_headers, of_meta, read

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("parent", "sampled"),
    [
        (GOOD, True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-ff", True),
        (f"00-{TRACE}-{SPAN}-02", False),
        (f"cc-{TRACE}-{SPAN}-01", True),  # a later version is read as far as this one goes
        (f"cc-{TRACE}-{SPAN}-01-what-comes-then", True),
    ],
)
def test_what_is_a_context(parent: str, sampled: bool) -> None:
    assert read(parent) == Context(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "parent",
    [
        "",
        GOOD[:-1],
        GOOD + "0",
        GOOD + "-more",
        GOOD.upper(),
        GOOD.replace("-", "_"),
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"cc-{TRACE}-{SPAN}-01.more",
        f"cc-{TRACE}-{SPAN}-01-" + "x" * 300,
        GOOD + "\n",
        f"00-{TRACE[:-1]}١-{SPAN}-01",  # a digit, and none of these
    ],
)
def test_what_is_none(parent: str) -> None:
    assert read(parent, "a=1", "b=2") is None


def test_what_goes_along_is_bounded_and_printable() -> None:
    found = read(GOOD, "a=1", "b=2")
    assert found is not None and (found.state, found.baggage) == ("a=1", "b=2")
    for state, baggage in (("x" * 513, "x" * 4097), ("a=1\r\nX: y", "b\x00"), ("é", "\x7f")):
        assert read(GOOD, state, baggage) == Context(TRACE, SPAN, True)


def test_headers() -> None:
    assert of_headers([f" {GOOD} "], ["a=1", "b=2"], []) == Context(TRACE, SPAN, True, "a=1,b=2")
    assert of_headers([], ["a=1"], []) is None
    assert of_headers([GOOD, GOOD], [], []) is None, "which of them?"


@pytest.mark.parametrize("raw", [b"", b"7", b"null", b"{}", b'"x"', b'"\\ud800"', b"["])
def test_meta_of_any_kind(raw: bytes) -> None:
    assert of_meta(Raw(raw), Raw(b'"a=1"'), Raw(b"")) is None
    assert of_meta(Raw(b'"%b"' % GOOD.encode()), Raw(raw), Raw(raw)) in (
        Context(TRACE, SPAN, True),
        Context(TRACE, SPAN, True, "x", "x"),
    )
