"""Callers whom a proxy in front has authenticated, and names in a header. Pure.

The header counts only on connections that come from the proxy's addresses; from anybody else it is as if it were not
there.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

from gateway.access.principal import Identity
from shared.access.methods import TrustedProxyMethod

_MAX_NAME = 512


class TrustedProxy:
    """Reads whom the proxy names."""

    def __init__(self, method: TrustedProxyMethod) -> None:
        self._networks = [ipaddress.ip_network(one, strict=False) for one in method.addresses]
        self.user_header = method.user_header.lower()
        self._groups_header = method.groups_header.lower()
        self._roles = method.roles

    def identity(self, named: Mapping[str, list[str]], peer: str | None) -> Identity | None:
        """Return whom these headers name (``named`` has their values by lower-case names), or ``None`` if nobody, or if
        the connection is not the proxy's. ``peer`` is the address at its other end."""
        users = named.get(self.user_header, [])
        if len(users) != 1 or not users[0] or len(users[0]) > _MAX_NAME or not self._is_proxy(peer):
            return None
        groups = [one.strip() for value in named.get(self._groups_header, []) for one in value.split(",")]
        claims = {"user": users[0], "groups": [one for one in groups if one]}
        return Identity(f"proxy:{users[0]}", "user", claims, given=self._roles)

    def _is_proxy(self, peer: str | None) -> bool:
        try:
            address = ipaddress.ip_address((peer or "").partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)
