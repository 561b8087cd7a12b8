from __future__ import annotations

import pytest

from gateway.cli import address
from gateway.cli.address import Address
from shared.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "base", "group"),
    [
        ("http://127.0.0.1:4000", "http://127.0.0.1:4000", None),
        ("http://127.0.0.1:4000/", "http://127.0.0.1:4000", None),
        (" http://127.0.0.1:4000/mcp\n", "http://127.0.0.1:4000", None),
        ("http://127.0.0.1:4000/mcp/", "http://127.0.0.1:4000", None),
        ("http://127.0.0.1:4000/sse", "http://127.0.0.1:4000", None),
        ("https://gateway.test/tools/mcp", "https://gateway.test/tools", None),
        ("https://gateway.test/tools/", "https://gateway.test/tools", None),
        ("http://[::1]:4000/servers/search/mcp", "http://[::1]:4000", "search"),
        ("http://127.0.0.1:4000/tools/servers/a%2Fb/mcp?x=1", "http://127.0.0.1:4000/tools", "a/b"),
        ("http://127.0.0.1:4000/servers/mcp", "http://127.0.0.1:4000/servers", None),
        ("http://127.0.0.1:4000/mcpx", "http://127.0.0.1:4000/mcpx", None),
    ],
)
def test_an_endpoint_s_url_is_as_good_as_the_gateway_s(url: str, base: str, group: str | None) -> None:
    assert address.parse(url) == Address(base, group)


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:4000", "localhost:4000", "ftp://x", "http://", "http://x:port", "http://["]
)
def test_what_is_no_url_is_said_with_the_cure(url: str) -> None:
    with pytest.raises(ConfigError, match=r"http://HOST:PORT"):
        address.parse(url)


def test_the_endpoint_is_that_of_the_group() -> None:
    assert Address("http://x").endpoint == "http://x/mcp"
    assert Address("http://x", "a/b c").endpoint == "http://x/servers/a%2Fb%20c/mcp"
