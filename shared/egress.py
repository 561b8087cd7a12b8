"""Where upstreams may be: which addresses the gateway connects to. Pure.

Addresses at which no MCP server is, and which lead to what must not be reached, are refused by default: link-local
addresses with the metadata services of clouds among them, multicast, unspecified and broadcast ones. ``egressAllow``
and ``egressDeny`` say otherwise. The resolved address is what counts, at each new connection, so a name cannot be made
to mean another address later (DNS rebinding).

What a server names (its authorization server, that one's endpoints) may also not be *nearer* than the server itself:
one on the internet names nothing in a private network, and nothing on this machine.
"""

from __future__ import annotations

import ipaddress
import unicodedata
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from urllib.parse import unquote

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        ("100.100.100.200", "fd00:ec2::254", "fd20:ce::254", "192.0.0.192", "168.63.129.16"),
    )
)
"""Metadata services of clouds outside the link-local range (Alibaba, AWS, Google, Oracle, Azure)."""
_NAMES = (
    *("metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal"),
    *("metadata.tencentyun.com", "metadata.platformequinix.com", "metadata.packet.net", "rancher-metadata"),
)
_TRANSLATED = tuple(
    (ipaddress.IPv6Network(network), shifts)
    for network, shifts in (
        ("64:ff9b::/96", (0,)),  # NAT64 (RFC 6052)
        ("2002::/16", (80,)),  # 6to4 (RFC 3056)
        ("::/96", (0,)),  # IPv4-compatible (RFC 4291 section 2.5.5.1)
        ("::ffff:0:0:0/96", (0,)),  # SIIT (RFC 2765)
        ("2001::/32", (64,)),  # Teredo: its server (RFC 4380); its client is told apart below
    )
)
"""IPv6 networks in which IPv4 addresses are reached, and how many bits stand behind these."""
_NAT64_LOCAL = ipaddress.IPv6Network("64:ff9b:1::/48")
"""Prefixes of NAT64 of a network's own, of any length (RFC 8215)."""
_TEREDO = ipaddress.IPv6Network("2001::/32")
_ISATAP = (0x00005EFE, 0x02005EFE)
"""Bits 64 to 95 of an address with an IPv4 address behind them, in any network (RFC 5214)."""
ANYWHERE, PRIVATE, THIS_MACHINE = range(3)
"""How near an address is: on the internet, in a private network, on this machine."""
_NEAR = ("on the internet", "in a private network", "on this machine")
_DOTS = str.maketrans(dict.fromkeys("\u3002\uff0e\uff61", "."))
"""What else is a dot in a host name (RFC 3490 section 3.1)."""


class Egress:
    """The rules of one gateway. Entries of ``allow`` and ``deny`` are addresses, networks, host names or patterns with
    ``*``; the more specific default gives way to ``allow``, and ``deny`` wins over both. Raises ``ValueError`` for an
    entry that is none of these."""

    def __init__(self, allow: Iterable[str] = (), deny: Iterable[str] = ()) -> None:
        self._allow, self._deny = _Rules(allow), _Rules(deny)

    def refusal_of_host(self, host: str, nearest: int = THIS_MACHINE) -> str:
        """Return why a host as it is written in a URL is refused, or an empty text. Names are not resolved."""
        plain = _as_resolved(host)
        address = _address(plain)
        if address is not None:
            return self.refusal_of_address(address, nearest=nearest)
        if self._deny.has_name(plain):
            return f"{host} is refused (egressDeny)"
        if plain in _NAMES and not self._allow.has_name(plain):
            return f"{host} is a metadata service; allow it with egressAllow if it is meant"
        return ""

    def refusal_of_address(self, address: Address | str, host: str = "", nearest: int = THIS_MACHINE) -> str:
        """Return why an address is refused, or an empty text. ``host`` is the name that was resolved to it, ``nearest``
        how near it may be."""
        found = _address(address) if isinstance(address, str) else address
        if found is None:
            return f"{address} is no address"
        shown = f"{host} is {found}, which" if host and host != str(found) else str(found)
        for one in (found, *_inner(found)):
            if self._deny.has_address(one):
                return f"{shown} is refused (egressDeny)"
            kind = _never_a_server(one) or _too_near(one, nearest)
            if kind and not self._allow.has_address(one) and not (host and self._allow.has_name(host.lower())):
                return f"{shown} is {kind}; allow it with egressAllow if it is meant"
        return ""


class _Rules:
    def __init__(self, entries: Iterable[str]) -> None:
        self._networks: list[Network] = []
        self._names: list[str] = []
        for entry in entries:
            text = entry.strip().lower().rstrip(".")
            try:
                self._networks.append(ipaddress.ip_network(text, strict=False))
            except ValueError:
                if not text or "/" in text or ":" in text:
                    raise ValueError(f"{entry!r} is no address, network or host name") from None
                self._names.append(text)

    def has_address(self, address: Address) -> bool:
        return any(address in network for network in self._networks)

    def has_name(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self._names)


def check_rules(entries: Iterable[str]) -> Iterable[str]:
    """Return entries of ``egressAllow`` or ``egressDeny``. Raises ``ValueError`` for one that cannot be understood."""
    _Rules(entries)
    return entries


def _address(text: str) -> Address | None:
    """Return the address that a host is, in any of the spellings that C libraries take (``0x7f.1``, ``2130706433``)."""
    bare = text.partition("%")[0].strip("[]")
    try:
        return ipaddress.ip_address(bare)
    except ValueError:
        pass
    parts = bare.split(".")
    if not 1 <= len(parts) <= 4:
        return None
    try:
        numbers = [_number(part) for part in parts]
    except ValueError:
        return None
    *first, last = numbers
    if any(one > 255 for one in first) or last >= 256 ** (5 - len(numbers)):
        return None
    value = last
    for place, one in enumerate(first):
        value += one << (24 - 8 * place)
    return ipaddress.IPv4Address(value)


def _number(text: str) -> int:
    if text.startswith("0x"):
        return int(text, 16)
    if not text.isdecimal():
        raise ValueError(text)
    return int(text, 8) if len(text) > 1 and text.startswith("0") else int(text)


_WORD = 0xFFFFFFFF
_SMALLEST = 0x10000
"""Below are ``::`` and ``::1``, which stand for themselves."""


def _inner(address: Address) -> Iterator[Address]:
    """Yield the IPv4 addresses that an IPv6 address may stand for."""
    if isinstance(address, ipaddress.IPv4Address) or int(address) < _SMALLEST:
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    value = int(address)
    for network, shifts in _TRANSLATED:
        if address in network:
            yield from (ipaddress.IPv4Address((value >> shift) & _WORD) for shift in shifts)
    if address in _TEREDO:
        yield ipaddress.IPv4Address(~value & _WORD)
    if (value >> 32) & _WORD in _ISATAP:
        yield ipaddress.IPv4Address(value & _WORD)
    if address in _NAT64_LOCAL:  # RFC 6052 section 2.2: bits 64 to 71 are left out
        without = (value >> 72 << 64) | (value & (1 << 64) - 1)
        for length in (48, 56, 64):
            yield ipaddress.IPv4Address((without >> (120 - 32 - length)) & _WORD)
        yield ipaddress.IPv4Address(value & _WORD)


def _as_resolved(host: str) -> str:
    """Return a host as resolvers and proxies may read it: wide digits, dots and percent signs as what they mean."""
    plain = unicodedata.normalize("NFKC", unquote(host.partition("%25")[0]).translate(_DOTS))
    return plain.lower().rstrip(".")


def nearness(address: Address | str) -> int:
    """Return how near an address is, in any spelling of ``_address``; ``ANYWHERE`` for what is none."""
    found = _address(address) if isinstance(address, str) else address
    return max(map(_nearness, (found, *_inner(found)))) if found is not None else ANYWHERE


def _nearness(address: Address) -> int:
    if address.is_loopback or address.is_unspecified:
        return THIS_MACHINE
    return ANYWHERE if address.is_global else PRIVATE


def _too_near(address: Address, nearest: int) -> str:
    near = _nearness(address)
    return f"{_NEAR[near]}, nearer than the server that names it" if near > nearest else ""


def _never_a_server(address: Address) -> str:
    if address in _METADATA:
        return "a metadata service"
    if address.is_link_local:
        return "a link-local address"
    if address.is_multicast:
        return "a multicast address"
    if address.is_unspecified or (isinstance(address, ipaddress.IPv4Address) and int(address) >> 24 == 0):
        return "no address of a server"
    if str(address) == "255.255.255.255":
        return "the broadcast address"
    return ""
