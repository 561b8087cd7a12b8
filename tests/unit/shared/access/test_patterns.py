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


@pytest.mark.parametrize(
    ("pattern", "group", "name", "about"),
    [
        ("a/*", "a/b", "x", False),
        ("a/b*", "a/b", "x", False),
        ("a/*", "a", "b/x", True),
        ("a/b/*", "a/b", "x", True),
        ("a/b/x", "a/b", "x", True),
        ("a*/x", "a/b", "x", True),
        ("*/x", "a/b", "x", True),
        ("*", "a/b", "x", True),
        ("*x", "a/b", "x", None),
        ("notes/file:///a/*", "notes", "file:///a/b", True),
        ("notes/file:///a/*", "notes/file:", "//b/c", False),
    ],
)
def test_a_group_is_meant_by_its_whole_name(pattern: str, group: str, name: str, about: bool | None) -> None:
    """Names of groups may have slashes: who may use ``a`` may not use ``a/b`` for that."""
    if about is None:
        with pytest.raises(ValueError, match="names no group"):
            patterns.read(pattern)
        return
    found = patterns.read(pattern)
    assert found.matches(Kind.RESOURCES, group, name) is about
    assert found.matches_call("tools/call", group, name) is about
    assert not found.covers("a/b") or pattern in ("*", "a/b/*")
    assert about is False or found.may_concern(group)
    assert found == patterns.read(pattern), "rules that are read again are compared"


def test_a_pattern_takes_little_time_to_be_read_however_many_slashes_it_has() -> None:
    assert len(patterns.read("*/" * 2000 + "x").ways) <= 130
    with pytest.raises(ValueError, match="longer than"):
        patterns.read("a/" * 100_000 + "x")


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
