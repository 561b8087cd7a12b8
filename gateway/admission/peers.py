"""Who is at the other end of a connection, where the connection itself says it: a client certificate, or a proxy that
has authenticated its client. Heads of requests that take the ordinary lane are told here; ``listener.heads`` does it on
the express lane, which carries no request that a proxy may have marked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.access.client_certificate import Certificates
from gateway.access.trusted_proxy import TrustedProxy
from gateway.admission.request_head import RequestHead


class Peers:
    """``proxy`` and ``certificates`` are ``None`` where these methods are not used."""

    def __init__(self, proxy: TrustedProxy | None = None, certificates: Certificates | None = None) -> None:
        self.proxy = proxy
        self.certificates = certificates

    def introduce(self, head: RequestHead, named: Mapping[str, list[str]], remote: str | None, transport: Any) -> None:
        """Note in ``head`` what its connection says. ``named`` are its headers by lower-case name, ``remote`` the
        address at the other end."""
        if self.proxy is not None:
            head.identity = self.proxy.identity(named, remote)
            if self.proxy.forwards(remote):
                head.certificate = self.proxy.certificate(named)
                return
        if self.certificates is not None:
            head.certificate = self.certificates.on(transport)

    def name(self, named: Mapping[str, list[str]], remote: str | None, transport: Any) -> bool:
        """Whether a connection says who is at its other end."""
        if self.proxy is not None:
            if self.proxy.identity(named, remote) is not None:
                return True
            if self.proxy.forwards(remote):
                return self.proxy.certificate(named) is not None
        return self.certificates is not None and self.certificates.on(transport) is not None
