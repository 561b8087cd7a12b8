"""``worker.transports.http_reach``: the URLs that a configured one stands for."""

from __future__ import annotations

import pytest

from worker.transports.http_reach import urls_to_try

STREAMABLE, SSE = ("/mcp", False), ("/sse", True)
"""Of each HTTP transport: the usual path, and whether it is tried first."""


@pytest.mark.parametrize(
    ("url", "usual", "expected"),
    [
        ("http://h", STREAMABLE, ["http://h", "http://h/mcp"]),
        ("http://h/", STREAMABLE, ["http://h/", "http://h/mcp"]),
        ("https://h:8443/", STREAMABLE, ["https://h:8443/", "https://h:8443/mcp"]),
        ("http://h", SSE, ["http://h/sse", "http://h"]),
        ("http://h/", SSE, ["http://h/sse", "http://h/"]),
        ("http://h/mcp", STREAMABLE, ["http://h/mcp"]),
        ("http://h/mcp/", STREAMABLE, ["http://h/mcp/"]),
        ("http://h/events", SSE, ["http://h/events"]),
        ("http://h?key=1", STREAMABLE, ["http://h?key=1", "http://h/mcp?key=1"]),
        ("http://me:pw@[::1]:80/", STREAMABLE, ["http://me:pw@[::1]:80/", "http://me:pw@[::1]:80/mcp"]),
    ],
)
def test_only_an_origin_stands_for_the_usual_path_too(url: str, usual: tuple[str, bool], expected: list[str]) -> None:
    assert urls_to_try(url, *usual) == expected
