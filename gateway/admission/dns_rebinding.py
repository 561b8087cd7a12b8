"""Origin and Host checks against DNS rebinding (2026-07-28, streamable-http, "Security & Endpoint").

A browser that was tricked into reaching the gateway names the attacker's host. Loopback names and IP literals cannot be
the product of rebinding and are accepted. Other host names must be configured (``allowedHosts``), and so must browser
origins that are not on loopback (``allowedOrigins``).
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from shared.settings import Settings

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_CACHE = 1024


class RebindingGuard:
    """Checks Host and Origin headers. Decisions are remembered for up to 1024 distinct values of each header."""

    def __init__(self, settings: Settings) -> None:
        self._hosts = {host.lower() for host in settings.access.allowed_hosts}
        self._origins = {origin.lower().rstrip("/") for origin in settings.access.allowed_origins}
        if settings.service.host not in ("0.0.0.0", "::", ""):
            self._hosts.add(settings.service.host.lower())
        self._seen_hosts: dict[str | None, bool] = {}
        self._seen_origins: dict[str, bool] = {}

    def refusal(self, host: str | None, origin: str | None) -> str | None:
        """Return why a request with these headers is refused (HTTP 403), or ``None`` if it is accepted."""
        good = self._seen_hosts.get(host)
        if good is None:
            good = self._host(host)
            if len(self._seen_hosts) < _CACHE:
                self._seen_hosts[host] = good
        if not good:
            return f"Host {host!r} is not allowed; add it to allowedHosts (GATEWAY_ALLOWED_HOSTS)"
        if origin is None:
            return None
        good = self._seen_origins.get(origin)
        if good is None:
            good = self._origin(origin)
            if len(self._seen_origins) < _CACHE:
                self._seen_origins[origin] = good
        return None if good else f"Origin {origin!r} is not allowed; add it to allowedOrigins (GATEWAY_ALLOWED_ORIGINS)"

    def _host(self, host: str | None) -> bool:
        if host is None:
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
        if "*" in self._origins or origin.lower() in self._origins:
            return True
        try:
            parts = urlsplit(origin.lower())
            return parts.scheme in ("http", "https") and (parts.hostname or "") in _LOOPBACK
        except ValueError:
            return False


def _name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""
