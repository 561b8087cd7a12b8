"""``gateway.admission.prefix``: what stands before the gateway's paths, and never another origin."""

from __future__ import annotations

import pytest

from gateway.admission.prefix import TrustedPrefix, public_prefix
from shared.networks import Networks


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


PROXIES = Networks(["10.0.0.0/8"])


@pytest.mark.parametrize(
    ("public_url", "values", "peer", "prefix"),
    [
        ("", ["/gw"], "10.1.2.3", "/gw"),
        ("", ["/gw/"], "::ffff:10.1.2.3", "/gw"),
        ("", ["/gw"], "192.0.2.1", ""),
        ("", ["/gw"], None, ""),
        ("", ["/gw", "/other"], "10.1.2.3", ""),
        ("", ["//evil.example"], "10.1.2.3", ""),
        ("", [], "10.1.2.3", ""),
        ("https://h.test/x", ["/gw"], "10.1.2.3", ""),
    ],
)
def test_a_prefix_that_decides_something_comes_from_a_trusted_proxy(
    public_url: str, values: list[str], peer: str | None, prefix: str
) -> None:
    assert TrustedPrefix(public_url, PROXIES).forwarded(values, peer) == prefix


@pytest.mark.parametrize(
    ("public_url", "before", "peer", "fits"),
    [
        ("https://h.test/gw/", "/gw", "192.0.2.1", True),
        ("https://h.test/gw/", "/other", "10.1.2.3", False),
        ("", "/gw", "10.1.2.3", True),
        ("", "/gw", "192.0.2.1", False),
        ("", "/../gw", "10.1.2.3", False),
    ],
)
def test_a_prefix_that_clients_repeat_is_the_gateways_own_or_passed_by_a_trusted_proxy(
    public_url: str, before: str, peer: str, fits: bool
) -> None:
    assert TrustedPrefix(public_url, PROXIES).fits(before, peer) is fits
