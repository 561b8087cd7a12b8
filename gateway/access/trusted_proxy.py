"""Callers whom a proxy in front has authenticated, and names in a header, or by the certificate that they have shown to
it. Pure.

The headers count only on connections that come from the proxy's addresses; from anybody else they are as if they were
not there.
"""

from __future__ import annotations

from collections.abc import Mapping

from gateway.access.client_certificate import ClientCertificate
from gateway.access.forwarded_certificate import ForwardedCertificates
from gateway.access.principal import Identity
from shared.access.methods import TrustedProxyMethod
from shared.networks import Networks

_MAX_NAME = 512


class TrustedProxy:
    """Reads whom the proxy names."""

    def __init__(self, method: TrustedProxyMethod) -> None:
        self._networks = Networks(method.addresses)
        self.user_header = method.user_header.lower()
        self._groups_header = method.groups_header.lower()
        self._certificate_header = method.certificate_header.lower()
        self._certificates = ForwardedCertificates(method)
        self.headers = frozenset(filter(None, (self.user_header, self._certificate_header)))
        """The headers that say who a caller is, in lower case."""
        self._roles = method.roles

    def identity(self, named: Mapping[str, list[str]], peer: str | None) -> Identity | None:
        """Return whom these headers name (``named`` has their values by lower-case names), or ``None`` if nobody, or if
        the connection is not the proxy's. ``peer`` is the address at its other end."""
        users = named.get(self.user_header, [])
        if len(users) != 1 or not users[0] or len(users[0]) > _MAX_NAME or not self.is_proxy(peer):
            return None
        if not users[0].isprintable():  # as bytes that are no UTF-8: whatever meets such a name would break
            return None
        groups = [one.strip() for value in named.get(self._groups_header, []) for one in value.split(",")]
        claims = {"user": users[0], "groups": [one for one in groups if one]}
        return Identity(f"proxy:{users[0]}", "user", claims, given=self._roles)

    def forwards(self, peer: str | None) -> bool:
        """Whether a peer is the proxy, and names the certificates of its clients: its own is nobody's then."""
        return bool(self._certificate_header) and self.is_proxy(peer)

    def certificate(self, named: Mapping[str, list[str]]) -> ClientCertificate | None:
        """Return the certificate that the proxy's client has shown to it, or ``None``. ``forwards`` was asked."""
        values = named.get(self._certificate_header, [])
        return self._certificates.read(",".join(values)) if any(values) else None

    def is_proxy(self, peer: str | None) -> bool:
        """Whether the address at the other end of a connection is the proxy's."""
        return self._networks.has(peer)
