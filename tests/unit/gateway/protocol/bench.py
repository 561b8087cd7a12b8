"""``Methods`` over a front end without sockets: what a request means, and what comes of it."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from gateway.admission.caller import Caller
from gateway.admission.request_head import RequestHead
from gateway.admission.routing_headers import RoutingHeaders
from gateway.fleet.known_tasks import KnownTasks
from gateway.fleet.outgoing import Outgoing
from gateway.fleet.own_lists import OwnLists
from gateway.protocol.answers import Answer
from gateway.protocol.carrying import Carrier, Started
from gateway.protocol.methods import Methods
from gateway.protocol.offers import Offers
from gateway.protocol.plans import Effect, OneOf, Plan
from gateway.routing.policy import ViewPolicy
from gateway.sessions.session import ClientSession
from gateway.streams.subscriptions import StreamSubscriptions
from gateway.telemetry.counters import Counters
from shared.errors import Refused
from shared.mcp.versions import Era
from shared.registry.records import UpstreamRecord
from shared.settings import build
from tests.unit.builders import record, tool
from tests.unit.gateway.fakes import ADA, KEY, Front, request

ANNOTATED = tool(
    "where", inputSchema={"type": "object", "properties": {"r": {"type": "string", "x-mcp-header": "Region"}}}
)
LEGACY, MODERN = Era.LEGACY, Era.MODERN
VERSIONS = {LEGACY: "2025-11-25", MODERN: "2026-07-28"}
OFFERED: dict[str, Any] = {"prompts": ["ask"], "resources": ["file:///r", "urn:r"], "templates": ["db://{t}/{+id}"]}


class Subscriptions:
    """What methods ask of ``StreamSubscriptions``: it notes what sessions want, and agrees to all but one URI."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, str, str]] = []

    async def subscribe(self, session: ClientSession, uri: str, view: Any) -> bytes:
        """Note it."""
        self.noted.append(("subscribe", session.sid, uri))
        return b'{"code":-32002,"message":"no"}' if uri == "no:such" else b""

    async def unsubscribe(self, session: ClientSession, uri: str) -> None:
        """Note it."""
        self.noted.append(("unsubscribe", session.sid, uri))

    async def set_level(self, session: ClientSession, level: str) -> None:
        """Note it."""
        self.noted.append(("level", session.sid, level))


class Bench:
    """``Methods`` over these upstreams; without any, over two groups that offer the same."""

    def __init__(self, *given: UpstreamRecord, policy: ViewPolicy | None = None, max_in_flight: int = 100) -> None:
        both = (
            record("a", sequence=1, tools=["echo", ANNOTATED], capabilities={"completions": {}}, **OFFERED),
            record("b", sequence=2, tools=["echo"], capabilities={"completions": {}}, **OFFERED),
        )
        settings = build({"pageSize": 2, "redisUrl": "unix:///nowhere"})
        self.counters = Counters()
        self.front = Front(
            *(given or both), settings=settings, observer=self.counters, policy=policy, max_in_flight=max_in_flight
        )
        self.carrier = Carrier(self.front.dispatcher)
        self.subscriptions = Subscriptions()
        self.own_lists = OwnLists(self.front.registry, self.front.dispatcher, settings.routing)
        self.methods = Methods(
            Offers("unit", "9.9"),
            self.front.dispatcher,
            cast(StreamSubscriptions, self.subscriptions),
            self.front.sessions,
            KEY,
            self.own_lists,
            KnownTasks(KEY, self.front.registry),
        )

    def caller(self, era: Era = LEGACY, endpoint: str = "", session: ClientSession | None = None) -> Caller:
        """Somebody who was admitted."""
        return Caller(ADA, era, VERSIONS[era], self.front.registry.views.of(endpoint, ADA.policy_class), session)

    def plan(
        self,
        method: str,
        params: str = "",
        era: Era = LEGACY,
        endpoint: str = "",
        session: ClientSession | None = None,
        headers: dict[str, str] | None = None,
        fresh: bool = True,
    ) -> Plan:
        """The plan, as a lane asks for it after the registry was asked for news."""
        head = RequestHead(RoutingHeaders(parameters=tuple((headers or {}).items())))
        return self.methods.plan(*request(method, params), self.caller(era, endpoint, session), head, fresh)

    def sent(self, method: str, params: str = "", era: Era = LEGACY, endpoint: str = "", **options: Any) -> Outgoing:
        """The one request that is planned for an upstream."""
        plan = self.plan(method, params, era, endpoint, **options)
        assert isinstance(plan, Outgoing)
        return plan

    async def carried(self, method: str, params: str = "", era: Era = LEGACY, **options: Any) -> Answer | Started:
        """What comes of a request that is for an upstream."""
        plan = self.plan(method, params, era, **options)
        assert isinstance(plan, Outgoing | OneOf)
        return await self.carrier.carry(plan)

    async def answer(self, method: str, params: str = "", era: Era = LEGACY, **options: Any) -> Answer:
        """The whole answer of a request that is for an upstream."""
        answer = await self.carried(method, params, era, **options)
        assert isinstance(answer, Answer)
        return answer

    def result(self, method: str, params: str = "", era: Era = LEGACY, endpoint: str = "", **options: Any) -> Any:
        """The result of a request that is answered at once."""
        plan = self.plan(method, params, era, endpoint, **options)
        assert isinstance(plan, Answer)
        return result_of(plan)

    def refused(self, method: str, params: str = "", era: Era = LEGACY, endpoint: str = "", **options: Any) -> str:
        """The code of a refusal."""
        with pytest.raises(Refused) as caught:
            plan = self.plan(method, params, era, endpoint, **options)
            if isinstance(plan, OneOf):
                plan.calls()
        return caught.value.code

    async def done(self, method: str, params: str = "", **options: Any) -> Answer:
        """The answer of what takes time."""
        plan = self.plan(method, params, **options)
        assert isinstance(plan, Effect)
        return await plan.run()


def result_of(answer: Answer) -> Any:
    assert (answer.rpc_code, answer.status) == (0, 200)
    body = json.loads(answer.whole)
    assert (body["jsonrpc"], body["id"]) == ("2.0", "q")
    return body["result"]


def session_of(sid: str = "s", endpoint: str = "") -> ClientSession:
    return ClientSession(sid, "2025-11-25", "ada", endpoint)
