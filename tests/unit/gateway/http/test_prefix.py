"""``gateway.http.prefix``: what stands before the gateway's paths, and never another origin."""

from __future__ import annotations

import pytest

from gateway.http.prefix import public_prefix


@pytest.mark.parametrize(
    ("public_url", "forwarded", "prefix"),
    [
        ("", None, ""),
        ("", "/gw", "/gw"),
        ("", "/a/b.c/", "/a/b.c"),
        ("", "/", ""),
        ("", "gw", ""),
        ("", "//evil.example", ""),
        ("", "/a//b", ""),
        ("", "/../x", ""),
        ("", "/a?b", ""),
        ("", "/a b", ""),
        ("", "https://evil.example/", ""),
        ("https://h.test/mcp-gw/", None, "/mcp-gw"),
        ("https://h.test", "/other", ""),
        ("https://h.test/x", "/other", "/x"),
    ],
)
def test_a_prefix_is_a_path_on_the_same_origin(public_url: str, forwarded: str | None, prefix: str) -> None:
    assert public_prefix(public_url, forwarded) == prefix
