"""Patterns, and the spellings of a URI that may mean the same to a server."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shared.access import patterns
from shared.mcp.listings import Kind


@pytest.mark.parametrize(
    ("uri", "also"),
    [
        ("file:///public/../etc/passwd", "file:///etc/passwd"),
        ("file:///public/%2e%2e/etc", "file:///etc"),
        ("file:///public/%252e%252e/etc", "file:///etc"),
        ("file:///public\\..\\etc", "file:///etc"),
        ("file:////etc", "file:///etc"),
        ("FILE:///etc", "file:///etc"),
        ("notes://public/../secret", "notes://secret"),
        ("notes:public/../secret", "notes:secret"),
        ("https://HOST/./x", "https://host/x"),
    ],
)
def test_a_uri_is_known_in_every_spelling(uri: str, also: str) -> None:
    found = patterns.spellings(uri)
    assert found[0] == uri and also in found


@pytest.mark.parametrize("uri", ["memo://common", "file:///a/b", "x", "", "a:", "https://host/a?b=c#d", "memo://a/1.5"])
def test_a_plain_uri_has_one_spelling(uri: str) -> None:
    assert patterns.spellings(uri) == (uri,)


@pytest.mark.parametrize(
    ("pattern", "covers"),
    [("*", True), ("a/*", True), ("*/*", True), ("tools:a/*", False), ("a/b*", False), ("b/*", False), ("*/x", False)],
)
def test_what_is_about_everything_of_a_group(pattern: str, covers: bool) -> None:
    assert patterns.read(pattern).covers("a") is covers


@given(st.text("ab*/", min_size=1, max_size=8), st.text("ab/\n", max_size=10))
def test_stars_stand_for_any_characters(pattern: str, text: str) -> None:
    stars = "".join(".*" if one == "*" else re.escape(one) for one in pattern)
    expected = re.compile(f"g/{stars}", re.S).fullmatch(f"g/{text}") is not None
    assume(not pattern.startswith("/") and not pattern.endswith("/"))
    assert patterns.read(f"g/{pattern}").matches(Kind.TOOLS, "g", text) == expected


@pytest.mark.parametrize("pattern", ["g/*a*a*a*a*b", "g/*a*b*a*b*c*d", "*/*a*a*a*a*a*a"])
def test_no_text_takes_more_than_its_length_to_be_compared(pattern: str) -> None:
    """By trying all places of each star this would take days."""
    found = patterns.read(pattern)
    for text in ("a" * 16_000 + "/", "ab" * 8000 + "/"):
        found.matches(Kind.TOOLS, "g", text)
