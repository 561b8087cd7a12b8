"""Which requests may use the admin API.

A gateway that listens on loopback takes requests from loopback without a token. All other requests need
``GATEWAY_ADMIN_TOKEN`` as a bearer token. Registering an upstream that runs a command on the worker's host, or uses its
files or sockets, needs the token *and* ``allowStdioRegistration``. Without a token, the command line of the user who
started the gateway registers such an upstream through Redis instead (``cli.state``).
"""

from __future__ import annotations

import hmac
import ipaddress

from aiohttp import web

from shared.errors import CallError
from shared.loopback import is_loopback_host
from shared.models import UpstreamSpec
from shared.settings import Settings


class AdminRights:
    """Decides whether a request may use the admin API."""

    def __init__(self, settings: Settings) -> None:
        self._access = settings.access
        self._host = settings.service.host

    def has_token(self, request: web.Request) -> bool:
        """Whether the request carries the admin token."""
        token = self._access.admin_token
        sent = request.headers.get("Authorization", "").removeprefix("Bearer ")
        return bool(token) and hmac.compare_digest(sent.encode("utf-8", "surrogateescape"), token.encode())

    def may(self, request: web.Request) -> bool:
        """Whether the request may be answered at all."""
        if self.has_token(request):
            return True
        # Behind a reverse proxy on this machine every client has a loopback address; these headers show the proxy.
        if any(name in request.headers for name in ("Forwarded", "X-Forwarded-For", "X-Real-Ip")):
            return False
        try:
            peer = ipaddress.ip_address(request.remote or "")
        except ValueError:
            return False
        return peer.is_loopback and is_loopback_host(self._host)

    def check_registration(self, request: web.Request, spec: UpstreamSpec) -> None:
        """Raise ``CallError`` (``forbidden``) unless the request may register this upstream."""
        does = spec.connection.touches_host()
        if does and not (self.has_token(request) and self._access.allow_stdio_registration):
            raise CallError(
                "forbidden",
                f"registering this {spec.transport} upstream over HTTP {does}: it needs GATEWAY_ADMIN_TOKEN and "
                "allowStdioRegistration (GATEWAY_ALLOW_STDIO_REGISTRATION=true); or use the configuration file",
            )
