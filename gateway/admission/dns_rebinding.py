"""Checks of Host, Origin and Fetch Metadata: which web pages may send requests.

Source: 2026-07-28, streamable-http, "Security & Endpoint".

A browser that was tricked into reaching the gateway names the attacker's host. Loopback names and IP literals cannot be
the product of rebinding and are accepted. Other host names must be configured (``allowedHosts``). A page of any origin,
also of another port of this machine, may send requests only if its origin is configured (``allowedOrigins`` for MCP,
``adminOrigins`` for the admin API) or is the gateway's own.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from urllib.parse import urlsplit

from shared.settings import Settings

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_CACHE = 1024
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::\d{0,5})?")
"""A host with or without a port (RFC 9110 section 7.2)."""
_OWN_SITES = frozenset((None, "same-origin", "none"))
"""Values of ``Sec-Fetch-Site`` of requests that no foreign page made (W3C Fetch Metadata)."""


class RebindingGuard:
    """Checks Host and Origin headers. Decisions are remembered for up to 1024 distinct values of each header."""

    def __init__(self, settings: Settings, origins: Iterable[str] | None = None, any_origin: bool = True) -> None:
        """``origins`` are those of pages that are accepted, by default ``allowedOrigins``.

        ``any_origin``: whether ``*`` among them means all.
        """
        listed = settings.access.allowed_origins if origins is None else origins
        self._hosts = {host.lower() for host in settings.access.allowed_hosts}
        self._origins = {origin.lower().rstrip("/") for origin in listed}
        if not any_origin:
            self._origins.discard("*")
        self._setting = "allowedOrigins" if origins is None else "adminOrigins"
        if settings.service.host not in ("0.0.0.0", "::", ""):
            self._hosts.add(settings.service.host.lower())
        self._public_url = settings.service.public_url.rstrip("/")
        self._scheme = settings.tls.scheme
        self._seen_hosts: dict[str | None, bool] = {}
        self._seen_origins: dict[str, bool] = {}

    def base(self, host: str, prefix: str = "") -> str:
        """Return the URL before the paths of endpoints: ``publicUrl``, or what the client has in ``Host`` and the
        prefix that a proxy names."""
        return self._public_url or f"{self._scheme}://{host.lower()}{prefix}"

    def owns(self, host: str) -> bool:
        """Whether the gateway is known to have this name, by its settings and not only by what a client says."""
        if self._public_url:
            return True
        name = _name(host)
        return name in _LOOPBACK or name in self._hosts or host.lower() in self._hosts

    def refusal(self, host: str | None, origin: str | None, site: str | None = None) -> str | None:
        """Return why a request with these headers is refused (HTTP 403), or ``None`` if it is accepted. ``site`` is the
        value of ``Sec-Fetch-Site``."""
        good = self._seen_hosts.get(host)
        if good is None:
            good = self._host(host)
            if len(self._seen_hosts) < _CACHE:
                self._seen_hosts[host] = good
        if not good:
            return f"Host {host!r} is not allowed; add it to allowedHosts (GATEWAY_ALLOWED_HOSTS)"
        if origin is None:
            return None if site in _OWN_SITES else "a request of another site's page needs an Origin that is allowed"
        good = self._seen_origins.get(origin)
        if good is None:
            good = self._origin(origin)
            if len(self._seen_origins) < _CACHE:
                self._seen_origins[origin] = good
        if good or (site in _OWN_SITES and _is_own(origin, host)):
            return None
        variable = "GATEWAY_ALLOWED_ORIGINS" if self._setting == "allowedOrigins" else "GATEWAY_ADMIN_ORIGINS"
        return f"Origin {origin!r} is not allowed; add it to {self._setting} ({variable})"

    def knows_host(self, host: str | None) -> bool:
        """Whether a request with this ``Host`` is for this gateway."""
        return self._host(host)

    def _host(self, host: str | None) -> bool:
        if host is None or not _HOST.fullmatch(host):
            return False
        if "*" in self._hosts or host.lower() in self._hosts:
            return True
        name = _name(host)
        if name in _LOOPBACK or name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _origin(self, origin: str) -> bool:
        lower = origin.lower()
        if not (lower.isascii() and lower.isprintable()):  # it goes back in a header
            return False
        return lower in self._origins or ("*" in self._origins and lower != "null")


def foreign_site(sites: Sequence[str | None]) -> str | None:
    """Return that value of ``Sec-Fetch-Site`` headers which says most against a request."""
    return next((site for site in sites if site not in _OWN_SITES), sites[0])


def _is_own(origin: str, host: str | None) -> bool:
    """Whether a page that the gateway itself served made the request."""
    scheme, _, place = origin.lower().partition("://")
    return scheme in ("http", "https") and host is not None and place == host.lower()


def _name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
