"""From a plan to an answer: sending what is planned, and ending a call exactly once.

Both lanes and all transports send calls of clients, and end them, through ``Carrier``.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Raw, Struct

from gateway.calls.events import Answered, CallEvent, Failure, Resumed
from gateway.calls.in_flight import InFlight
from gateway.fleet.dispatch import Dispatcher
from gateway.fleet.outgoing import Exact, Outgoing
from gateway.protocol import answers
from gateway.protocol.answers import Answer
from gateway.protocol.plans import OneOf
from gateway.routing.shut import Refusal
from gateway.sessions.session import ClientSession
from gateway.telemetry.elicitations import Elicitations
from gateway.telemetry.observer import ABANDONED
from shared.errors import CallError, NotDelivered, OutcomeUnknown, Refused
from shared.mcp import jsonrpc
from shared.mcp.versions import Era
from shared.rpc.framing import COPIED

_NOT_FOUND = (-32002, -32602)
"""The error codes by which servers of either era answer that they do not know a resource."""


class Started(Struct, gc=False):
    """A call whose answer is still to come, or comes in chunks.

    ``event`` is the call's first event, ``id`` the JSON of the client's request id.
    """

    id: bytes
    era: Era
    in_flight: InFlight
    event: CallEvent


class Carrier:
    """Sends planned calls, and ends them."""

    def __init__(self, dispatcher: Dispatcher, elicitations: Elicitations | None = None) -> None:
        """``elicitations`` notes questions to people, where there is an audit log."""
        self._dispatcher = dispatcher
        self.elicitations = elicitations
        self.begin: Callable[[Outgoing], InFlight | Refusal | None] = dispatcher.begin
        """See ``Dispatcher.begin``."""

    async def carry(self, plan: Outgoing | OneOf, begun: InFlight | None = None) -> Answer | Started:
        """Send what is planned, or go on with what was ``begun`` for it.

        Return the whole answer, or the call with its first event. Raises ``CallError``; ``asyncio.CancelledError``
        comes as ``Abandoned``.
        """
        if isinstance(plan, Outgoing):
            return await self._one(plan, begun)
        failed: CallError | None = None
        trace = ""
        calls = plan.calls()
        for call in calls:
            call.trace = trace
            try:
                reply = await self._one(call)
            except (NotDelivered, Refused) as error:
                if isinstance(error, Refused) and not isinstance(call.affinity, Exact):
                    raise
                failed = error  # another upstream may know the resource
                continue
            finally:
                trace = call.trace  # that of all of them
            if not isinstance(reply, Answer) or reply.rpc_code not in _NOT_FOUND or len(calls) == 1:
                return reply  # also that the only one that was asked does not know it, in its own words
        if failed is not None:
            raise failed
        return plan.unknown

    async def _one(self, call: Outgoing, begun: InFlight | None = None) -> Answer | Started:
        in_flight, event = await self._dispatcher.send(call, begun)
        if type(event) is Answered and event.stream is None:
            return self.answer(call.id, Era(call.era), in_flight, event)
        return Started(call.id, Era(call.era), in_flight, event)

    # ---- the end of a call

    def answer(self, id: bytes, era: Era, in_flight: InFlight, event: Answered) -> Answer:
        """End a call with an answer that came whole, and return the answer for the client."""
        self._dispatcher.answered(in_flight, event)
        if event.is_error:
            return answers.error(id, event.body, era)
        call = in_flight.call
        if self.elicitations is not None:
            self.elicitations.ended(call, event.body)
        if call.listed_name:
            return answers.result(id, readdressed(event.body, call.name, call.listed_name))
        if len(event.body) > COPIED:
            before, after = jsonrpc.around(id)
            return Answer((before, event.body, after))
        return Answer((b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (id, event.body),))

    def refused(self, id: bytes, era: Era, in_flight: InFlight, event: Failure) -> Answer | None:
        """End a call that was refused for want of room, if no other replica can take it, and return the error.

        The express lane asks: under overload, refusals must cost less than answers.
        """
        error = self._dispatcher.refused(in_flight, event)
        return None if error is None else answers.failure(error, id, era)

    def answer_in_chunks(self, in_flight: InFlight, event: Answered) -> None:
        """End a call whose answer comes in chunks, before the chunks are written."""
        self._dispatcher.answered(in_flight, event)

    def fail(self, id: bytes, era: Era, in_flight: InFlight, event: Failure) -> Answer:
        """End a call that failed after its first event, and return the error. Such a call is not sent again."""
        self._dispatcher.failed(in_flight, event)
        failed = OutcomeUnknown(
            event.code,
            f"upstream {in_flight.replica.id!r}: {event.message}",
            {**event.data, "upstream": in_flight.replica.id},
        )
        return answers.failure(failed, id, era)

    def leave(self, in_flight: InFlight) -> None:
        """End a call whose client is gone. The call's era decides whether the upstream's work is cancelled."""
        self._dispatcher.complete(in_flight, ABANDONED)
        in_flight.client_left("the client closed the response")

    def discard(self, in_flight: InFlight) -> None:
        """Cancel a call that was begun for a request and is still under way, because no request waits for it."""
        self._dispatcher.discard(in_flight)

    def adopt(self, in_flight: InFlight, resumed: Resumed, session: ClientSession) -> None:
        """Go on with a call of ``session`` that another request began, here or at another front end."""
        in_flight.call.name, in_flight.call.listed_name = resumed.upstream_name, resumed.listed_name
        in_flight.call.principal = session.principal
        self._dispatcher.adopt(in_flight)
        in_flight.register(session, resumed.request)


def readdressed(result: bytes, upstream_uri: str, listed_uri: str) -> bytes:
    """Return a result of ``resources/read`` whose ``contents[].uri`` say the URI that the client asked for."""
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
