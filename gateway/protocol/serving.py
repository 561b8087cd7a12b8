"""One request from decoding to its answer or its started call: the steps that all transports and both lanes share.

``begin`` goes as far as nothing has to be awaited (the express lane). ``serve`` awaits what is missing and calls the
same functions again (the ordinary lane, batches, HTTP+SSE). A request is planned for exactly the caller that admission
returned.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol, cast

import msgspec
from msgspec import Struct, structs

from gateway.access.principal import Principal
from gateway.admission.admit import Admission, SessionRead
from gateway.admission.caller import Caller, Waits
from gateway.admission.principals import Principals
from gateway.admission.request_head import RequestHead
from gateway.calls.events import Answered, Interim
from gateway.calls.in_flight import InFlight
from gateway.fleet.dispatch import Abandoned
from gateway.fleet.outgoing import Outgoing
from gateway.fleet.own_lists import OwnLists
from gateway.fleet.registry_view import RegistryView
from gateway.protocol import answers
from gateway.protocol.answers import Answer
from gateway.protocol.call_stream import relay
from gateway.protocol.carrying import Carrier, Started
from gateway.protocol.methods import Methods
from gateway.protocol.plans import Effect, Listen, OneOf, Widen
from gateway.routing.shut import Refusal
from gateway.sessions.table import SessionTable
from gateway.telemetry.audit import AuditLog
from gateway.telemetry.traces import Traces
from shared.errors import CallError, InsufficientScope, OutcomeUnknown
from shared.mcp import jsonrpc
from shared.mcp.jsonrpc import NO_PARAMS, Message, Params
from shared.rpc.framing import COPIED

_BRACE = ord("{")
_DENIED = frozenset(("insufficient_scope", "arguments_denied", "tool_unknown", "prompt_unknown"))


class BegunRequest(Struct, gc=False):
    """A request whose call the express lane began: all that the ordinary lane needs to go on with the call.

    ``id`` is the JSON of the request id.
    """

    id: bytes
    message: Message
    params: Params
    caller: Caller
    in_flight: InFlight

    def __repr__(self) -> str:
        """Show what is called, without arguments."""
        return f"BegunRequest({self.in_flight.call!r})"


class MessageTaker(Protocol):
    """Where the messages of a call go, in order.

    ``dropped`` is how many notifications before a message were dropped.
    """

    async def send(self, message: bytes, dropped: int) -> None:
        """Take a message that comes before the answer."""

    async def finish(self, body: bytes, dropped: int) -> None:
        """Take the answer."""

    async def comment(self) -> None:
        """Show a sign of life, because nothing came for a while."""


class Serving:
    """Serves requests, whatever transport they came by."""

    def __init__(
        self,
        admission: Admission,
        principals: Principals,
        methods: Methods,
        carrier: Carrier,
        registry: RegistryView,
        sessions: SessionTable,
        own_lists: OwnLists,
        audit: AuditLog | None = None,
        traces: Traces | None = None,
    ) -> None:
        """``audit`` notes calls that the rules of access refuse, ``traces`` all that are refused before they are
        sent."""
        self._audit = audit
        self._traces = traces
        self._own_lists = own_lists
        self._admission = admission
        self._principals = principals
        self._methods = methods
        self._registry = registry
        self._sessions = sessions
        self.carrier = carrier

    # ---- as far as nothing has to be awaited

    def begin(self, head: RequestHead, data: bytes, at: int) -> Answer | BegunRequest | None:
        """Begin the request whose body is in ``data`` from ``at`` on.

        Return its answer or its call under way, or ``None`` if something has to be awaited first.
        """
        size = len(data)
        if size == at or data[at] != _BRACE:
            return None  # a batch, or no JSON-RPC at all
        id = b"null"
        era = plan = None
        try:
            if size > COPIED:
                message, params = jsonrpc.decode_request(data, at)
            else:
                message = jsonrpc.decode(data[at:])
                params = jsonrpc.params_of(message.params)
            if not message.id or not message.method:
                return None
            id = bytes(message.id)
            caller = self._admission.admit(head, message, params)
            if type(caller) is not Caller:
                return None
            era = caller.era
            plan = self._methods.plan(message, params, caller, head)
            if type(plan) is Answer:
                return plan
            if type(plan) is not Outgoing:
                return None
            in_flight = self.carrier.begin(plan)
        except CallError as error:
            self._note_refusal(error, head, data[at:])
            if self._traces is not None and era is not None and plan is None:
                self._traces.refused(head, message, params, era, error.code)
            return answers.failure(error, id if id != b"null" else _id_in(data[at:]), era)
        if type(in_flight) is InFlight:
            return BegunRequest(id, message, params, caller, in_flight)
        return None if in_flight is None else answers.repeated(cast(Refusal, in_flight), id, era)

    # ---- awaiting what is missing

    async def admitted(self, head: RequestHead, message: Message | None = None, params: Params = NO_PARAMS) -> Caller:
        """Return the caller, after awaiting what admission needs. Raises ``CallError``."""
        read: SessionRead | None = None
        began_s = 0.0
        while True:
            caller = self._admission.admit(head, message, params, read)
            if isinstance(caller, Caller):
                if began_s:
                    head.waited_s = time.monotonic() - began_s
                return caller
            began_s = began_s or time.monotonic()
            if caller is Waits.PRINCIPAL:
                await self._principals.resolve(head)
            elif caller is Waits.SESSION and head.session is not None:
                who = self._principals.of(head)
                principal = who.id if type(who) is Principal else None
                read = SessionRead(await self._sessions.find(head.session, principal=principal))
            else:
                raise AssertionError(f"admission waits for {caller.value}")

    async def check_head(self, head: RequestHead) -> None:
        """Raise ``CallError`` for what is refused whatever the body says."""
        while self._admission.admit(head) is Waits.PRINCIPAL:
            await self._principals.resolve(head)

    async def serve(
        self, head: RequestHead, message: Message, params: Params, caller: Caller
    ) -> Answer | Started | Listen:
        """Serve one request, and return its answer, its call, or ``Listen`` if the answer is a standing stream.

        Raises ``CallError``; once the call is under way, ``asyncio.CancelledError`` comes as ``Abandoned``.
        """
        fresh = False
        while True:
            try:
                plan = self._methods.plan(message, params, caller, head, fresh)
            except CallError as error:
                self._note_refusal(error, head, bytes(message.params))
                if self._traces is not None:
                    self._traces.refused(head, message, params, caller.era, error.code)
                raise
            if isinstance(plan, Answer | Listen):
                return plan
            if isinstance(plan, Effect):
                return await plan.run()
            if isinstance(plan, Outgoing | OneOf):
                return await self.carrier.carry(plan)
            if isinstance(plan, Widen):
                view = await self._own_lists.widen(caller.session, caller.view, plan.kind)
                caller = structs.replace(caller, view=view, widened=True)
                continue
            await self._registry.catch_up()
            fresh = True
            caller = await self.admitted(head, message, params)  # the caller's view may show more now

    def _note_refusal(self, error: CallError, head: RequestHead, body: bytes) -> None:
        """Say in the error of a call that needs more scopes how the client gets them, and note in the audit log what
        the rules of access refuse, and names that the caller does not see: whether they are there makes no difference.
        ``body`` has the name of what was called; a header may say anything."""
        if self._audit is not None and error.code in _DENIED:
            who = head.principal.id if head.principal is not None else ""
            name = error.about or _name_in(body) or (head.headers.name if head.names_modern_version else "")
            self._audit.note("denied", principal=who, name=name, outcome=error.code)
        if isinstance(error, InsufficientScope) and not error.challenge:
            error.challenge = self._principals.step_up(head, error.scopes, error.message)

    async def go_on(self, exchange: BegunRequest) -> Answer | Started:
        """Go on with a request that the express lane began. Raises ``CallError``."""
        call = exchange.in_flight.call
        assert isinstance(call, Outgoing)
        return await self.carrier.carry(call, exchange.in_flight)

    async def serve_to(self, taker: MessageTaker, head: RequestHead, message: Message, caller: Caller) -> None:
        """Serve one request of a session, and give its messages and its answer to ``taker``."""
        id = bytes(message.id)
        try:
            reply = await self.serve(head, message, jsonrpc.decode_params(message), caller)
        except Abandoned as gone:
            self.carrier.leave(gone.in_flight)
            raise
        except CallError as error:
            await taker.finish(answers.failure(error, id, caller.era).whole, 0)
            return
        assert not isinstance(reply, Listen), "sessions have no listen"
        if isinstance(reply, Answer):
            await taker.finish(reply.whole, 0)
            return
        await self._relay_to(taker, reply)

    async def _relay_to(self, taker: MessageTaker, started: Started) -> None:
        id, in_flight = started.id, started.in_flight

        def dropped() -> int:
            count, in_flight.dropped = in_flight.dropped, 0
            return count

        async def interim(event: Interim) -> None:
            await taker.send(event.message, dropped())

        async def finish(body: bytes) -> None:
            await taker.finish(body, dropped())

        async def large(answered: Answered) -> None:
            assert answered.stream is not None
            write = jsonrpc.error_response if answered.is_error else jsonrpc.response
            await finish(write(id, await answered.stream.whole()))

        try:
            await relay(self.carrier, started, interim, finish, taker.comment, large)
        except asyncio.CancelledError:
            self.carrier.leave(in_flight)
            raise
        except ConnectionError:  # the worker that sends the answer is gone, or the taker, whose ``finish`` raises again
            self.carrier.leave(in_flight)
            lost = OutcomeUnknown("outcome_unknown", "the worker that sent the answer is gone")
            await finish(answers.failure(lost, id, started.era).whole)
        finally:
            self.carrier.discard(in_flight)  # nothing, unless the taker failed


def _name_in(body: bytes) -> str:
    """Return the name in the ``params`` of a message, or in ``params`` themselves, or an empty text."""
    try:
        found = msgspec.json.decode(body, type=_Named)
    except msgspec.MsgspecError:
        return ""
    return (found.params.name if found.params is not None else found.name)[:256]


class _Params(Struct):
    name: str = ""


class _Named(Struct):
    name: str = ""
    params: _Params | None = None


def _id_in(body: bytes) -> bytes:
    """Return the JSON of the id of a message whose ``params`` cannot be read, or ``null``."""
    try:
        return bytes(jsonrpc.decode(body).id) or b"null"
    except CallError:
        return b"null"
