"""From a plan to an answer: sending what is planned, and ending a call exactly once, whoever writes its answer."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Raw, Struct

from gateway.calls.events import Answered, Event, Failure, Resumed
from gateway.calls.in_flight import InFlight
from gateway.fleet.dispatch import Dispatcher
from gateway.fleet.outgoing import Exact, Outgoing
from gateway.protocol import answers
from gateway.protocol.answers import Answer
from gateway.protocol.plans import OneOf
from gateway.sessions.session import ClientSession
from gateway.telemetry.observer import ABANDONED
from shared.errors import CallError, NotDelivered, OutcomeUnknown, Refused
from shared.mcp import jsonrpc
from shared.mcp.versions import Era
from shared.rpc.framing import COPIED

_NOT_FOUND = (-32002, -32602)
"""How servers of either era say that they do not know a resource."""


class Started(Struct, gc=False):
    """A call whose answer is still to come, or comes in chunks; ``event`` is its first event, ``id`` the JSON of the
    client's request id."""

    id: bytes
    era: Era
    in_flight: InFlight
    event: Event


class Carrier:
    """See the module."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.begin: Callable[[Outgoing], InFlight | None] = dispatcher.begin
        """Sends a call if that needs no waiting, else returns ``None``. Raises ``CallError``."""

    async def carry(self, plan: Outgoing | OneOf, begun: InFlight | None = None) -> Answer | Started:
        """Send what is planned, or go on with what was ``begun`` for it. Raises ``CallError``; asyncio's cancel
        passes as ``Abandoned``."""
        if isinstance(plan, Outgoing):
            return await self._one(plan, begun)
        failed: CallError | None = None
        for call in plan.calls:
            try:
                reply = await self._one(call)
            except (NotDelivered, Refused) as error:
                if isinstance(error, Refused) and not isinstance(call.affinity, Exact):
                    raise
                failed = error  # somebody else may know it
                continue
            if not isinstance(reply, Answer) or reply.rpc_code not in _NOT_FOUND:
                return reply
        if failed is not None:
            raise failed
        return plan.unknown

    async def _one(self, call: Outgoing, begun: InFlight | None = None) -> Answer | Started:
        in_flight, event = await self._dispatcher.send(call, begun)
        if call.listed_name:
            in_flight.readdress = readdress(call.name, call.listed_name)
        if type(event) is Answered and event.stream is None:
            return self.answer(call.id, Era(call.era), in_flight, event)
        return Started(call.id, Era(call.era), in_flight, event)

    # ---- the end of a call

    def answer(self, id: bytes, era: Era, in_flight: InFlight, event: Answered) -> Answer:
        """End a call with the answer that came whole."""
        self._dispatcher.answered(in_flight, event)
        if event.is_error:
            return answers.error(id, event.body, era)
        if in_flight.readdress is not None:
            return answers.result(id, in_flight.readdress(event.body))
        if len(event.body) > COPIED:
            before, after = jsonrpc.around(id)
            return Answer((before, event.body, after))
        return Answer((b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (id, event.body),))

    def answer_in_chunks(self, in_flight: InFlight, event: Answered) -> None:
        """End a call whose answer is being written as it comes."""
        self._dispatcher.answered(in_flight, event)

    def fail(self, id: bytes, era: Era, in_flight: InFlight, event: Failure) -> Answer:
        """End a call that failed after its stream had begun: it cannot be sent again."""
        self._dispatcher.complete(in_flight, event.code)
        failed = OutcomeUnknown(
            event.code,
            f"upstream {in_flight.replica.id!r}: {event.message}",
            {**event.data, "upstream": in_flight.replica.id},
        )
        return answers.failure(failed, id, era)

    def leave(self, in_flight: InFlight) -> None:
        """End a call for a client that is gone; what becomes of the call itself is its era's rule."""
        self._dispatcher.complete(in_flight, ABANDONED)
        in_flight.client_left("the client closed the response")

    def discard(self, in_flight: InFlight) -> None:
        """End a call that was begun for a request, unless somebody took it over."""
        self._dispatcher.discard(in_flight)

    def adopt(self, in_flight: InFlight, resumed: Resumed, session: ClientSession) -> None:
        """Go on with a call of ``session`` that another front end, or another request, began."""
        in_flight.call.name = resumed.upstream_name
        in_flight.call.principal = session.principal
        self._dispatcher.adopt(in_flight)
        in_flight.register(session, resumed.request)
        if resumed.listed_name:
            in_flight.readdress = readdress(resumed.upstream_name, resumed.listed_name)


def readdress(upstream_uri: str, listed_uri: str) -> Callable[[bytes], bytes]:
    """Return what lets ``contents[].uri`` of a result say the URI that the client asked for."""

    def apply(result: bytes) -> bytes:
        try:
            parts = jsonrpc.members(result)
            contents = msgspec.json.decode(parts["contents"], type=list[dict[str, Raw]])
            for one in contents:
                if "uri" in one and msgspec.json.decode(one["uri"]) == upstream_uri:
                    one["uri"] = Raw(msgspec.json.encode(listed_uri))
        except (KeyError, Refused, msgspec.DecodeError, RecursionError):
            return result  # no contents: an upstream that asks for input, or its own nonsense
        parts["contents"] = Raw(msgspec.json.encode(contents))
        return jsonrpc.assemble(parts)

    return apply
