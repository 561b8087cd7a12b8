"""Where a gateway is: the URL that a user gives, and the addresses that follow from it. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from shared.errors import ConfigError

_ENDPOINT = re.compile(r"(?P<before>.*?)(?:/servers/(?P<group>[^/]+))?/(?:mcp|sse)")


class Address(NamedTuple):
    """The address of a gateway.

    ``base`` is its origin, with the path that a reverse proxy puts before the gateway's paths. ``group`` is the group
    whose endpoint the URL named, or ``None``.
    """

    base: str
    group: str | None = None

    @property
    def endpoint(self) -> str:
        """The URL of the MCP endpoint: that of the group, or of the whole gateway without a group."""
        return f"{self.base}/mcp" if self.group is None else f"{self.base}/servers/{quote(self.group, safe='')}/mcp"


def parse(url: str) -> Address:
    """Return the address that ``url`` stands for. Raises ``ConfigError``.

    The URL may be the gateway's, or that of an endpoint as a user copies it from a client's configuration
    (``…/mcp``, ``…/servers/NAME/mcp``, ``…/sse``).
    """
    try:
        parts = urlsplit(url.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # an invalid port or IPv6 address
        usable = False
    if not usable:
        raise ConfigError(f"{url!r} is no URL of a gateway; give it as http://HOST:PORT with --url or GATEWAY_URL")
    path, group = parts.path.rstrip("/"), None
    found = _ENDPOINT.fullmatch(path)
    if found is not None:
        path, group = found["before"], found["group"]
    return Address(f"{parts.scheme}://{parts.netloc}{path}", unquote(group) if group else None)
