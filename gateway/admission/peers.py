"""Who is at the other end of a connection, where the connection itself says it: a client certificate, or a proxy that
has authenticated its client. Heads of requests that take the ordinary lane are told here; ``listener.heads`` does it on
the express lane, which carries no request that a proxy may have marked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.access.client_certificate import Certificates
from gateway.access.trusted_proxy import TrustedProxy
from gateway.admission.prefix import HEADER, TrustedPrefix
from gateway.admission.request_head import RequestHead


class Peers:
    """``proxy`` and ``certificates`` are ``None`` where these methods are not used, ``prefix`` where no header can say
    one."""

    def __init__(
        self,
        proxy: TrustedProxy | None = None,
        certificates: Certificates | None = None,
        prefix: TrustedPrefix | None = None,
    ) -> None:
        self.proxy = proxy
        self.certificates = certificates
        self._prefix = prefix

    @property
    def headers(self) -> frozenset[str]:
        """The headers, in lower case, that say something of the client if a proxy has sent them."""
        found = self.proxy.headers if self.proxy is not None else frozenset()
        return found | {HEADER.lower()} if self._prefix is not None else found

    def prefix(self, named: Mapping[str, list[str]], remote: str | None) -> str:
        """Return the path below which the client sees the gateway, or an empty text."""
        return "" if self._prefix is None else self._prefix.forwarded(named.get(HEADER.lower(), ()), remote)

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
