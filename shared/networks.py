"""Whose address is in which of some networks: those of proxies in front, which are believed. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable


class Networks:
    """Addresses and networks (``10.0.0.0/8``). Raises ``ValueError`` for an entry that is neither."""

    def __init__(self, entries: Iterable[str]) -> None:
        self._networks = [ipaddress.ip_network(one, strict=False) for one in entries]

    def __bool__(self) -> bool:
        return bool(self._networks)

    def has(self, peer: str | None) -> bool:
        """Whether the address at the other end of a connection is in one of them. An IPv4 address that was mapped into
        IPv6 is the same address."""
        try:
            address = ipaddress.ip_address((peer or "").partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)


def check_networks(entries: Iterable[str]) -> Iterable[str]:
    """Return entries that are addresses or networks. Raises ``ValueError`` for one that is neither."""
    Networks(entries)
    return entries
