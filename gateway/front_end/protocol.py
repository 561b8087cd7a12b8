"""MCP at the endpoints of a front end: admitting, planning and carrying requests, and the transports of clients."""

from __future__ import annotations

from gateway.access.used_states import UsedStates
from gateway.admission.admit import Admission
from gateway.front_end.access import FrontEndAccess
from gateway.front_end.fleet import FrontEndFleet
from gateway.front_end.streams import FrontEndStreams
from gateway.front_end.telemetry import FrontEndTelemetry
from gateway.http.bodies import Bodies, BodyReader
from gateway.protocol.batches import Batches
from gateway.protocol.carrying import Carrier
from gateway.protocol.client_messages import ClientMessages
from gateway.protocol.endpoint import PostEndpoint
from gateway.protocol.http_sse import SseEndpoint
from gateway.protocol.large_bodies import LargeBodies
from gateway.protocol.legacy import SessionEndpoint
from gateway.protocol.methods import Methods
from gateway.protocol.offers import Offers
from gateway.protocol.serving import Serving
from gateway.protocol.tool_discovery import ToolDiscovery
from shared.registry.store import RegistryStore
from shared.registry.used_states import StateMarks
from shared.secrets import FleetKey
from shared.settings import Settings
from shared.version import VERSION


class FrontEndProtocol:
    """Makes and holds it. ``posts``, ``session_streams`` and ``sse`` answer HTTP requests of the ordinary lane,
    ``serving`` those of both lanes. ``reader`` reads bodies, ``bodies`` bounds what unfinished ones hold."""

    def __init__(
        self,
        settings: Settings,
        store: RegistryStore,
        key: FleetKey,
        id: str,
        telemetry: FrontEndTelemetry,
        fleet: FrontEndFleet,
        streams: FrontEndStreams,
        access: FrontEndAccess,
    ) -> None:
        calls, clients = settings.calls, settings.clients
        retry_ms = int(settings.sessions.stream_retry_s * 1000)
        registry, pool, sessions, standing = fleet.registry, fleet.pool, fleet.sessions, streams.standing
        methods = Methods(
            Offers(settings.service.name, VERSION),
            fleet.dispatcher,
            streams.subscriptions,
            sessions,
            key,
            fleet.own_lists,
            fleet.known_tasks,
            ToolDiscovery(fleet.dispatcher, fleet.search),
            UsedStates(StateMarks(store)),
        )
        self.serving = serving = Serving(
            Admission(access.principals, registry.views, sessions),
            access.principals,
            methods,
            Carrier(fleet.dispatcher, telemetry.elicitations),
            registry,
            sessions,
            fleet.own_lists,
            telemetry.audit,
            telemetry.traces,
        )
        messages = ClientMessages(fleet.dispatcher, pool, telemetry.elicitations)
        self.bodies = Bodies(clients, calls.max_body_bytes)
        self.reader = reader = BodyReader(self.bodies, calls.max_body_bytes)
        large = LargeBodies(clients.max_body_values)
        self.posts = PostEndpoint(serving, messages, Batches(serving, messages), standing, reader, large, retry_ms)
        self.session_streams = SessionEndpoint(serving, sessions, standing, pool, retry_ms)
        public_url = settings.service.public_url
        self.sse = SseEndpoint(serving, messages, sessions, standing, id, reader, large, public_url)
