"""Methods of the handshake era that are about a client's session: opening it, subscriptions, the log level."""

from __future__ import annotations

import asyncio

from gateway.admission.caller import Caller
from gateway.admission.request_head import RequestHead
from gateway.calls.events import Answered
from gateway.fleet.dispatch import Dispatcher
from gateway.fleet.outgoing import Outgoing
from gateway.fleet.own_lists import OwnLists
from gateway.protocol import answers
from gateway.protocol.answers import Answer
from gateway.protocol.extensions import declared_upwards
from gateway.protocol.initialize import read_initialize
from gateway.protocol.offers import Offers
from gateway.protocol.outgoing_requests import OutgoingRequests
from gateway.protocol.plans import Effect, Plan
from gateway.sessions.session import ClientSession
from gateway.sessions.table import SessionTable
from gateway.streams.subscriptions import StreamSubscriptions
from gateway.telemetry.observer import ABANDONED
from shared.errors import Refused
from shared.mcp import jsonrpc
from shared.mcp.jsonrpc import Message, Params
from shared.mcp.methods import LOG_LEVELS
from shared.rpc.framing import too_long


class SessionMethods:
    """Plans them, as ``methods.Methods`` does all others."""

    def __init__(
        self,
        offers: Offers,
        dispatcher: Dispatcher,
        subscriptions: StreamSubscriptions,
        sessions: SessionTable,
        own_lists: OwnLists,
        requests: OutgoingRequests,
    ) -> None:
        self._offers = offers
        self._dispatcher = dispatcher
        self._subscriptions = subscriptions
        self._sessions = sessions
        self._own_lists = own_lists
        self._requests = requests

    def initialize(self, message: Message, params: Params, caller: Caller, head: RequestHead, fresh: bool) -> Plan:
        """Open a session. Over HTTP+SSE the stream has opened it already: note what its client says of itself."""
        facts = read_initialize(message)

        async def run() -> Answer:
            session = caller.session
            capabilities = declared_upwards(facts.capabilities, caller.view.scope.group is not None)
            if session is None:
                endpoint = caller.view.endpoint
                session = await self._sessions.open(
                    facts.version, caller.principal.id, endpoint, capabilities, facts.client_info, peer=head.peer
                )
            else:
                session.version, session.capabilities = facts.version, capabilities
                session.client_info, session.initialized = facts.client_info, True
                await self._sessions.save(session)
            answer = answers.result(bytes(message.id), self._offers.initialize(caller.view, facts.version))
            answer.session = session.sid
            return answer

        return Effect(run)

    def subscribe(self, message: Message, params: Params, caller: Caller, head: RequestHead, fresh: bool) -> Plan:
        """Plan ``resources/subscribe``. Updates come on the session's standing stream."""
        uri, session = _uri_and_session(params, caller)

        async def run() -> Answer:
            failed = await self._subscriptions.subscribe(session, uri, self._own_lists.view_of(session, caller.view))
            if failed:
                return answers.error(bytes(message.id), failed, caller.era, -32603)
            return answers.result(bytes(message.id), b"{}")

        return Effect(run)

    def unsubscribe(self, message: Message, params: Params, caller: Caller, head: RequestHead, fresh: bool) -> Plan:
        uri, session = _uri_and_session(params, caller)

        async def run() -> Answer:
            await self._subscriptions.unsubscribe(session, uri)
            return answers.result(bytes(message.id), b"{}")

        return Effect(run)

    def set_level(self, message: Message, params: Params, caller: Caller, head: RequestHead, fresh: bool) -> Plan:
        """Plan ``logging/setLevel``: it is sent to groups that log, on upstream sessions that belong to this client.

        On upstream sessions that clients share, the worker sets the level that a call needs, and filters log messages
        for each client.
        """
        level = jsonrpc.text(jsonrpc.few_members(message.params).get("level", jsonrpc.ABSENT), "level")
        if level not in LOG_LEVELS:
            raise Refused("invalid_params", f"params.level must be one of {', '.join(LOG_LEVELS)}")
        session = caller.session
        told: list[Outgoing] = []
        for group in caller.view.groups.values() if session is not None else ():
            route = group.any_route()
            if route.binds and any("logging" in replica.record.capabilities for replica in group.replicas):
                told.append(self._requests.make(message, bytes(message.params), params, caller, route, head))

        async def run() -> Answer:
            if session is not None:
                await self._subscriptions.set_level(session, level)
            # A group that cannot be reached logs at its own level; that is no error for the client.
            await asyncio.gather(*map(self._send_and_forget, told), return_exceptions=True)
            return answers.result(bytes(message.id), b"{}")

        return Effect(run)

    async def _send_and_forget(self, call: Outgoing) -> None:
        """Send a request whose answer is not needed."""
        in_flight, event = await self._dispatcher.send(call)
        in_flight.unwanted = True  # an answer in chunks is not read
        if isinstance(event, Answered):
            self._dispatcher.answered(in_flight, event)
            if event.stream is not None:
                in_flight.refuse_body()
        else:
            self._dispatcher.complete(in_flight, ABANDONED)


def _uri_and_session(params: Params, caller: Caller) -> tuple[str, ClientSession]:
    uri = jsonrpc.text(params.uri, "uri")
    if caller.session is None:
        raise Refused("invalid_request", "a subscription belongs to a session: send initialize first")
    if too_long(uri):
        raise Refused("invalid_params", "params.uri is too long")
    return uri, caller.session
