"""Patterns, and the spellings of a URI that may mean the same to a server."""

from __future__ import annotations

import pytest

from shared.access import patterns


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
