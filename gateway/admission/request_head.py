"""What the head of a request says, as far as admission needs it.

``listener.heads`` reads heads for the express lane, ``listener.routes`` those of aiohttp's requests.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from gateway.access.client_certificate import ClientCertificate
from gateway.access.dpop import Proof
from gateway.access.principal import Identity, Principal
from gateway.admission.dns_rebinding import RebindingGuard, foreign_site
from gateway.admission.routing_headers import RoutingHeaders
from gateway.sessions.session import ClientSession
from shared.connections import HOP_BY_HOP, OURS
from shared.mcp.jsonrpc import Meta
from shared.mcp.versions import LEGACY_VERSIONS, Era
from shared.tracing.context import BAGGAGE, PARENT, STATE, Context, of_headers

SESSION_HEADER = "Mcp-Session-Id"


def is_json(*content_types: str) -> bool:
    """Whether there is one ``Content-Type``, and it is JSON. A web page can send some others without asking first
    (Fetch standard, "CORS-safelisted request-header"); of two, readers take different ones."""
    if len(content_types) != 1:
        return False
    kind = content_types[0].partition(";")[0].strip().lower()
    return kind in ("application/json", "application/json-rpc", "text/json") or (
        kind.startswith("application/") and kind.endswith("+json")
    )


_KNOWN = HOP_BY_HOP | OURS | {"authorization", "x-api-key", "accept-encoding", "user-agent"}
"""Headers that are about the client's own connection, and are passed to no upstream."""


class RequestHead(Struct, gc=False):
    """One request's head.

    ``endpoint`` is the name in ``/servers/{name}``, or empty for ``/mcp``. ``refusal`` is the code and the text of the
    error if Host, Origin or Content-Type are not accepted, or ``None``. ``session`` is the session id, or ``None``;
    ``authorization`` the credentials, or ``None``; neither is in the ``repr``. ``era`` is set where the transport
    decides the era. ``has_body``: whether a JSON-RPC message follows. ``resource`` is the canonical URI of the endpoint
    (RFC 9728). ``identity`` is whom a trusted proxy names, or ``None``; ``certificate`` is that of the connection, or
    ``None``. ``proof`` is what is in ``DPoP`` (RFC 9449), or
    ``None``. ``found`` and ``principal`` are the session and the principal that were admitted last with a head of the
    same bytes, or ``None``. ``others`` are all other headers, with names in lower case, for upstreams to which some of
    them are passed. ``trace`` is the W3C trace context in the headers, or ``None``. ``waited_s`` is how long admission
    had to wait for something, where the head belongs to one request alone; ``peer`` is to whom its connection is
    counted there, or empty. ``agreed`` is the ``_meta`` of a call that agreed with the headers, or ``None``.
    """

    headers: RoutingHeaders
    endpoint: str = ""
    refusal: tuple[str, str] | None = None
    session: str | None = None
    authorization: str | None = None
    era: Era | None = None
    has_body: bool = True
    resource: str = ""
    identity: Identity | None = None
    certificate: ClientCertificate | None = None
    proof: Proof | None = None
    found: ClientSession | None = None
    principal: Principal | None = None
    others: tuple[tuple[str, str], ...] = ()
    trace: Context | None = None
    waited_s: float = 0.0
    peer: str = ""
    agreed: Meta | None = None

    def __repr__(self) -> str:
        return f"RequestHead(endpoint={self.endpoint!r}, headers={self.headers!r}, era={self.era!r})"

    @classmethod
    def read(
        cls,
        named: Mapping[str, list[str]],
        guard: RebindingGuard,
        endpoint: str = "",
        has_body: bool = True,
        path: str = "/mcp",
    ) -> RequestHead:
        """Return the head that consists of these headers; ``named`` has each header's values by its lower-case name.

        ``path`` is that of the endpoint.
        """
        hosts, origins, sessions = (named.get(name, []) for name in ("host", "origin", SESSION_HEADER.lower()))
        site = foreign_site(named["sec-fetch-site"]) if "sec-fetch-site" in named else None
        foreign = guard.refusal(hosts[0] if hosts else None, origins[0] if origins else None, site)
        refusal = None if foreign is None else ("forbidden", foreign)
        if has_body and refusal is None and not is_json(*named.get("content-type", ())):
            refusal = "content_type", "a request needs the one header 'Content-Type: application/json'"
        headers = RoutingHeaders.read(named)
        credentials = named.get("authorization") or [f"Bearer {key}" for key in named.get("x-api-key", ())]
        if len(credentials) > 1 and refusal is None:
            refusal = "invalid_request", "more than one Authorization header"
        resource = guard.base(hosts[0] if hosts else "") + path
        return cls(
            headers,
            endpoint,
            refusal,
            (sessions[0] or None) if sessions else None,  # a client may have the header, and nothing to fill it with
            credentials[0] if credentials else None,
            has_body=has_body,
            resource=resource,
            proof=Proof(tuple(named["dpop"])) if "dpop" in named else None,
            others=tuple((name, ", ".join(values)) for name, values in named.items() if name not in _KNOWN),
            trace=of_headers(named[PARENT], named.get(STATE, []), named.get(BAGGAGE, [])) if PARENT in named else None,
        )

    @property
    def names_modern_version(self) -> bool:
        """Whether there is a version header and it names no version of the handshake era. An empty one is none: a
        client has not filled it in yet."""
        version = self.headers.version
        return version is not None and version != "" and version not in LEGACY_VERSIONS
