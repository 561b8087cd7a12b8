"""Who is let in at a front end: checks of hosts and origins, credentials, limits."""

from __future__ import annotations

import asyncio

from gateway.access.api_keys import ApiKeys
from gateway.access.client_certificate import Certificates
from gateway.access.limits import Limits
from gateway.access.trusted_proxy import TrustedProxy
from gateway.admission.authentication import Authentication
from gateway.admission.dns_rebinding import RebindingGuard
from gateway.admission.peers import Peers
from gateway.admission.prefix import TrustedPrefix
from gateway.admission.principals import Everybody, Principals
from gateway.admission.suspects import Suspects
from gateway.fleet.registry_view import RegistryView
from gateway.front_end.telemetry import FrontEndTelemetry
from gateway.streams.open_streams import OpenStreams
from shared.access.methods import ApiKeyMethod, ClientCertificateMethod, TrustedProxyMethod
from shared.access.rules import AccessRules
from shared.egress import Egress
from shared.models import now_s
from shared.networks import Networks
from shared.registry.api_keys import KeyStore
from shared.registry.store import RegistryStore
from shared.settings import Settings
from shared.tasks import spawn


class FrontEndAccess:
    """Makes and holds it. ``rules`` are those of now. ``keys`` is ``None`` where no API keys are accepted,
    ``authentication`` where everybody is let in."""

    def __init__(
        self,
        settings: Settings,
        store: RegistryStore,
        id: str,
        rules: AccessRules,
        telemetry: FrontEndTelemetry,
        registry: RegistryView,
        streams: OpenStreams,
    ) -> None:
        self.rules = rules
        self._registry = registry
        self._streams = streams
        self.guard = RebindingGuard(settings)
        self.prefix, self.peers = _of_connections(settings, rules)
        self.suspects = Suspects(settings.clients.max_wrong_credentials_per_peer)
        key_method = rules.method(ApiKeyMethod)
        self.keys = ApiKeys(KeyStore(store), key_method, self._revoked) if key_method is not None else None
        self.limits = Limits(rules, store, id, telemetry.tallies.limited)
        self.authentication: Authentication | None = None
        if rules.authentication or rules.roles or rules.limits or rules.audit:
            self.authentication = Authentication(
                rules,
                self.keys,
                self._catch_up_keys,
                self.guard.owns,
                self.suspects,
                self.limits,
                telemetry.audit,
                telemetry.tallies.authentications,
                Egress(settings.upstreams.egress_allow, settings.upstreams.egress_deny),
            )
        self.principals: Principals = self.authentication or Everybody()

    async def _catch_up_keys(self) -> None:
        """Wait until this front end knows the API keys that Redis holds now."""
        await self._registry.catch_up()
        if self.keys is not None:
            await self.keys.settled()

    def _revoked(self, principal: str) -> None:
        """Forget a principal whose key was revoked, and close its streams."""
        if self.authentication is not None:
            self.authentication.revoked(principal)
        self._streams.end_expired(now_s())

    def run(self) -> list[asyncio.Task[None]]:
        """Begin to count by the limits. Return the tasks that do."""
        return [spawn(self.limits.run(), "limits")] if self.authentication is not None else []

    async def load_keys(self) -> None:
        """Take the API keys from Redis. Raises ``RegistryUnavailable``."""
        if self.keys is not None:
            await self.keys.load(self._registry.place[0])


def _of_connections(settings: Settings, rules: AccessRules) -> tuple[TrustedPrefix, Peers]:
    """Return what is believed of a connection and of the proxies that it may come from."""
    proxied, certified = rules.method(TrustedProxyMethod), rules.method(ClientCertificateMethod)
    proxies = Networks((*settings.service.trusted_proxies, *(proxied.addresses if proxied is not None else ())))
    prefix = TrustedPrefix(settings.service.public_url, proxies)
    proxy = TrustedProxy(proxied) if proxied is not None else None
    forwards = proxy.forwards if proxy is not None else None
    certificates = Certificates(certified, forwards) if certified is not None else None
    asks = bool(rules.authentication and prefix)
    return prefix, Peers(proxy, certificates, prefix if asks else None)
