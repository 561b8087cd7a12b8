"""``gateway.admission.dns_rebinding``: what a tricked browser sends is refused, what people type is not."""

from __future__ import annotations

import pytest

from gateway.admission.dns_rebinding import RebindingGuard
from shared.settings import build

PLAIN = RebindingGuard(build())
OPEN = RebindingGuard(build({"allowedHosts": ["*"], "allowedOrigins": ["*"]}))
NAMED = RebindingGuard(
    build(
        {
            "host": "gw.internal",
            "allowedHosts": ["Mcp.Example", "exact.example:8443"],
            "allowedOrigins": ["https://App.example/", "https://other.example:8443"],
        }
    )
)


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:4000",
        "127.0.0.1",
        "127.0.0.1:4000",
        "[::1]",
        "[::1]:4000",
        "192.168.1.20:4000",
        "[fe80::1]:80",
        "10.0.0.1",
    ],
)
def test_loopback_names_and_addresses_cannot_be_rebound(host: str) -> None:
    assert PLAIN.refusal(host, None) is None


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "evil.example",
        "evil.example:4000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "evil.example@localhost",
        "localhost/evil",
        "localhost:80:80",
        "localhost, evil.example",
        "127.0.0.1:80@evil.example",
        "evil.example/localhost",
        "[",
        "[::1",
        ":4000",
        "1",
        "0x7f000001",
        "mcp.example",
        "*",
    ],
)
def test_any_other_host_is_refused_with_the_cure(host: str | None) -> None:
    refusal = PLAIN.refusal(host, None)
    assert refusal is not None
    assert repr(host) in refusal
    assert "GATEWAY_ALLOWED_HOSTS" in refusal


@pytest.mark.parametrize("host", ["mcp.example", "MCP.example:99", "gw.internal", "gw.internal:4000", "localhost:1"])
def test_configured_hosts_are_let_in_on_any_port(host: str) -> None:
    assert NAMED.refusal(host, None) is None


@pytest.mark.parametrize(
    ("host", "allowed"), [("exact.example:8443", True), ("exact.example", False), ("exact.example:80", False)]
)
def test_a_host_configured_with_a_port_is_let_in_on_that_port(host: str, allowed: bool) -> None:
    assert (NAMED.refusal(host, None) is None) is allowed


@pytest.mark.parametrize("host", ["sub.mcp.example", "mcp.example.evil.example", "xmcp.example"])
def test_a_configured_host_stands_for_itself_only(host: str) -> None:
    assert NAMED.refusal(host, None) is not None


@pytest.mark.parametrize("origin", ["http://localhost:6274", "http://127.0.0.1:6274", "HTTP://LOCALHOST:6274"])
def test_the_inspectors_pages_are_let_in(origin: str) -> None:
    assert PLAIN.refusal("localhost", origin) is None


@pytest.mark.parametrize("host", ["localhost:4000", "127.0.0.1:4000", "[::1]:4000", "LocalHost:4000"])
def test_pages_of_the_gateways_own_are_let_in(host: str) -> None:
    assert PLAIN.refusal(host, f"http://{host}") is None
    assert PLAIN.refusal(host, f"http://{host}", "same-origin") is None
    assert PLAIN.refusal(host, f"http://{host}", "cross-site") is not None


@pytest.mark.parametrize(
    ("site", "accepted"),
    [(None, True), ("none", True), ("same-origin", True), ("same-site", False), ("cross-site", False), ("x", False)],
)
def test_requests_of_foreign_pages_that_name_no_origin_are_refused(site: str | None, accepted: bool) -> None:
    assert (PLAIN.refusal("localhost", None, site) is None) is accepted


def test_what_is_listed_for_mcp_is_not_listed_for_the_admin_api_and_a_star_means_nothing_there() -> None:
    settings = build({"allowedOrigins": ["*", "http://a.example"], "adminOrigins": ["*", "http://b.example"]})
    admin = RebindingGuard(settings, settings.access.admin_origins, any_origin=False)
    assert admin.refusal("localhost", "http://b.example") is None
    for origin in ("http://a.example", "http://evil.example", "null", "*"):
        refusal = admin.refusal("localhost", origin)
        assert refusal is not None and "GATEWAY_ADMIN_ORIGINS" in refusal


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "https://evil.example",
        "http://localhost.evil.example",
        "http://localhost@evil.example",
        "file://localhost",
        "chrome-extension://localhost",
        "localhost",
        "http://192.168.1.20",
        "https://app.example",
        "http://localhost:3000",
        "https://127.0.0.1:8443",
        "http://[::1]:3000",
    ],
)
def test_pages_from_elsewhere_are_refused_with_the_cure(origin: str) -> None:
    refusal = PLAIN.refusal("localhost", origin)
    assert refusal is not None
    assert "GATEWAY_ALLOWED_ORIGINS" in refusal


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://app.example", True),
        ("HTTPS://APP.example", True),
        ("http://app.example", False),
        ("https://app.example:8443", False),
        ("https://other.example:8443", True),
        ("https://other.example", False),
        ("https://app.example.evil.example", False),
    ],
)
def test_configured_origins_are_compared_whole(origin: str, allowed: bool) -> None:
    assert (NAMED.refusal("localhost", origin) is None) is allowed


def test_a_good_origin_does_not_excuse_a_bad_host() -> None:
    assert PLAIN.refusal("evil.example", "http://localhost") is not None
    assert PLAIN.refusal("evil.example", "http://evil.example") is not None


def test_a_star_lets_everybody_in() -> None:
    assert OPEN.refusal("evil.example", "https://evil.example") is None
    assert OPEN.refusal("x", "null") is not None  # every page in a sandbox has this one


def test_binding_everywhere_is_no_host_name() -> None:
    for host in ("0.0.0.0", "::"):
        assert RebindingGuard(build({"host": host})).refusal("evil.example", None) is not None


def test_a_second_look_gives_the_same_verdict_also_when_very_many_were_seen() -> None:
    guard = RebindingGuard(build())
    for _ in range(2):
        for number in range(1500):
            assert guard.refusal(f"h{number}.evil.example", None) is not None
            assert guard.refusal("localhost", "http://localhost:6274") is None
            assert guard.refusal("localhost", f"http://o{number}.evil.example") is not None
    assert guard.refusal("127.0.0.1", None) is None
