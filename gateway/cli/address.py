"""Where a gateway is: the URL that a user gives, and the addresses that are made of it. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from shared.errors import ConfigError

_ENDPOINT = re.compile(r"(?P<before>.*?)(?:/servers/(?P<group>[^/]+))?/(?:mcp|sse)")


class Address(NamedTuple):
    """A gateway's ``base`` (its origin, and the path before its own where a reverse proxy adds one), and the ``group``
    whose endpoint the URL named, if it named one."""

    base: str
    group: str | None = None

    @property
    def endpoint(self) -> str:
        """The MCP endpoint: the gateway's, or that of the group."""
        return f"{self.base}/mcp" if self.group is None else f"{self.base}/servers/{quote(self.group, safe='')}/mcp"


def parse(url: str) -> Address:
    """The address that ``url`` stands for. An endpoint's URL (``…/mcp``, ``…/servers/NAME/mcp``, ``…/sse``), as a user
    copies it from a client's configuration, is as good as the gateway's own. Raises ``ConfigError``."""
    try:
        parts = urlsplit(url.strip())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an IPv6 address that is none
        usable = False
    if not usable:
        raise ConfigError(f"{url!r} is no URL of a gateway; give it as http://HOST:PORT with --url or GATEWAY_URL")
    path, group = parts.path.rstrip("/"), None
    found = _ENDPOINT.fullmatch(path)
    if found is not None:
        path, group = found["before"], found["group"]
    return Address(f"{parts.scheme}://{parts.netloc}{path}", unquote(group) if group else None)
