"""Which requests may use the admin API.

Where ``GATEWAY_ADMIN_TOKEN`` is set, every request needs it as a bearer token. Where callers are authenticated, the
credentials of a principal whose roles give admin rights do as well: ``read`` for what changes nothing. Without either,
a gateway that listens on loopback takes requests from loopback.

Registering an upstream that runs a command on the worker's host, or uses its files or sockets, needs the token *and*
``allowStdioRegistration``. Without a token, the command line of the user who started the gateway registers such an
upstream through Redis instead (``cli.state``).
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import re
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from aiohttp import web

from gateway.access.principal import Principal
from gateway.admission.dns_rebinding import RebindingGuard
from gateway.admission.http_requests import principal_of, read_head
from gateway.admission.peers import Peers
from gateway.admission.principals import Principals
from gateway.http.bodies import peer_of
from shared.access.rules import AccessRules
from shared.egress import Egress
from shared.errors import CallError, ConfigError
from shared.loopback import is_loopback_host
from shared.models import UpstreamSpec
from shared.settings import Settings

_log = logging.getLogger(__name__)
_HOLD_S, _MANY_HELD = 0.5, 100
"""How long the answer to a wrong token is held back; and while so many are, the answer to the right one as well: else
who guesses would know by the time alone, and not wait."""
_OF_PROXIES = re.compile(
    r"forwarded|via|x-(?:forwarded|original|envoy|proxy|azure|appengine|accel|amzn|arr|cloud|haproxy|nginx|rewrite|ssl"
    r"|traefik|varnish|vercel)(?:-.*)?|x-(?:host|scheme|url-scheme|request-start|queue-start)|front-end-https"
    r"|(?:cdn|cf|cloudfront|fly|fastly|ngrok|tailscale|ssl-client|wl-proxy)-.*"
    r"|.*(?:client|real|connecting|user|remote|source|peer)-?(?:ip|addr|port)",
    re.IGNORECASE,
)
"""Names of headers that proxies add."""
_LOG_EVERY_S = 10.0


PRINCIPAL = web.RequestKey("principal", str)
"""The key of a request under which stands who sent it, once that is known."""
_SENDER = web.RequestKey("sender", Principal)
RIGHTS = web.RequestKey("rights", str)
"""The key of a request that may be answered, under which stands what its sender may do: ``read`` or ``write``."""


class AdminRights:
    """Decides whether a request may use the admin API."""

    def __init__(
        self,
        settings: Settings,
        rules: AccessRules | None = None,
        principals: Principals | None = None,
        guard: RebindingGuard | None = None,
        peers: Peers | None = None,
        rules_of: Callable[[], AccessRules] | None = None,
    ) -> None:
        """``principals`` find out who is behind a request, if the ``rules`` say how callers are authenticated;
        ``rules_of`` returns the rules of now."""
        self._rules_of = rules_of
        self._authenticated = rules is not None and bool(rules.authentication)
        self._principals = principals
        self._guard = guard or RebindingGuard(settings)
        self._peers = peers or Peers()
        self._access = settings.access
        self._host = settings.service.host
        self._egress = Egress(settings.upstreams.egress_allow, settings.upstreams.egress_deny)
        self._refused = 0
        self._logged_at = -_LOG_EVERY_S
        self._held = 0

    def has_token(self, request: web.Request) -> bool:
        """Whether the request carries the admin token."""
        token = self._access.admin_token
        scheme, _, sent = request.headers.get("Authorization", "").partition(" ")
        same = hmac.compare_digest(sent.encode("utf-8", "surrogateescape"), token.encode())
        return bool(token) and scheme.lower() == "bearer" and same  # RFC 9110 section 11.1: in any case

    @property
    def needed(self) -> str:
        """What a refused request would have needed."""
        if self._authenticated:
            return "the admin API needs 'Authorization: Bearer …' with GATEWAY_ADMIN_TOKEN, or a role with admin rights"
        return "the admin API needs 'Authorization: Bearer GATEWAY_ADMIN_TOKEN' here"

    async def may(self, request: web.Request) -> bool:
        """Whether the request may be answered at all. Where there is a token, every request needs it, or rights that a
        role gives: a proxy on this machine that adds no header of its own looks like a user of this machine."""
        if len(request.headers.getall("Authorization", ())) > 1:
            return False  # a proxy in front may have looked at the other one
        if self._access.admin_token and self.has_token(request):
            if self._held > _MANY_HELD:
                await asyncio.sleep(_HOLD_S)
            request[PRINCIPAL] = "admin token"
            request[RIGHTS] = "write"
            return True
        if self._authenticated:
            request[RIGHTS] = admin = await self._admin_of(request)
            return admin == "write" or (admin == "read" and request.method in ("GET", "HEAD"))
        if self._access.admin_token:
            return False
        if any(map(_OF_PROXIES.fullmatch, request.headers)):
            return False
        try:
            peer = ipaddress.ip_address(request.remote or "")
        except ValueError:
            return False
        request[RIGHTS] = "write"
        return peer.is_loopback and is_loopback_host(self._host)

    async def _admin_of(self, request: web.Request) -> str:
        """Return the rights that the roles of the principal behind a request give."""
        assert self._principals is not None
        try:
            head = read_head(request, self._guard, self._peers, peer_of(request.transport))
            found = await principal_of(head, self._principals)
        except CallError:
            return "none"
        request[PRINCIPAL] = found.id
        request[_SENDER] = found
        return found.admin

    def last(self, request: web.Request) -> bool:
        """Whether the rights of a request that is still being answered are what they were: its credentials are neither
        revoked nor over, and no rules have changed."""
        sender = request.get(_SENDER)
        if sender is None:
            return True
        return sender.lasts(time.time()) and (self._rules_of is None or sender.rules is self._rules_of())

    async def slow_down(self, request: web.Request) -> None:
        """Log that a request was refused, and hold the answer to a wrong token back, so that tokens cannot be guessed
        quickly."""
        self._refused += 1
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now - self._logged_at >= _LOG_EVERY_S:
            _log.warning(
                "admin API: %d requests without the right token, the last from %s", self._refused, request.remote
            )
            self._refused, self._logged_at = 0, now
        if "Authorization" in request.headers:
            self._held += 1  # also if the client does not wait
            loop.call_later(_HOLD_S, self._release)
            await asyncio.sleep(_HOLD_S)

    def _release(self) -> None:
        self._held -= 1

    def may_run_commands(self, request: web.Request) -> bool:
        """Whether the request may register an upstream that runs a command, or uses files or sockets, of this host."""
        return self.has_token(request) and self._access.allow_stdio_registration

    def check_registration(self, request: web.Request, spec: UpstreamSpec) -> None:
        """Raise ``CallError`` (``forbidden``) unless the request may register this upstream, and ``ConfigError`` if
        nobody may."""
        for member in ("url", "spec_url", "proxy"):
            url = getattr(spec.connection, member, "")
            refused = url and self._egress.refusal_of_host(urlsplit(url).hostname or "")
            if refused:
                raise ConfigError([(f"connection.{member.removesuffix('_url')}", refused)])
        does = spec.connection.touches_host()
        if does and not self.may_run_commands(request):
            raise CallError(
                "forbidden",
                f"registering this {spec.transport} upstream over HTTP {does}: it needs GATEWAY_ADMIN_TOKEN and "
                "allowStdioRegistration (GATEWAY_ALLOW_STDIO_REGISTRATION=true); or use the configuration file",
            )
