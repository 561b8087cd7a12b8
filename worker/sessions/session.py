"""What every upstream session has in common: a handshake, calls in flight, and the handling of what arrives.

A session is one conversation with one upstream in one era: a Streamable HTTP session (or none, if the upstream is
stateless), an HTTP+SSE connection, a stdio child. Transports subclass ``Session`` and only move bytes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import orjson

from shared.errors import ELSEWHERE, CallError, NotDelivered, OutcomeUnknown, Refused
from shared.mcp import jsonrpc, tasks
from shared.mcp.methods import (
    CANCELLED,
    CHANGED,
    DISCOVER,
    INITIALIZE,
    INITIALIZED,
    LOGGED,
    PING,
    PROGRESS,
    SET_LEVEL,
    wants_warnings,
)
from shared.mcp.rope import Body, Whole
from shared.mcp.text import BOM, id_of_unreadable
from shared.mcp.versions import Era
from shared.tasks import spawn
from worker.bridge import params as bridge_params
from worker.bridge.errors import well_formed
from worker.bridge.inputs import ROOTS, Need
from worker.calls.call import Call, CarryingSession
from worker.calls.client_facts import NOBODY, ClientFacts
from worker.calls.own_call import OwnCall, UpstreamError
from worker.sessions import handshake
from worker.sessions.attribution import Attribution, ToCall, ToClient
from worker.sessions.context import SessionContext
from worker.sessions.correlation import Announced, Answered, Asked, Correlation, Ignored, Progressed
from worker.sessions.greeting import greet
from worker.sessions.log_levels import LogLevels
from worker.sessions.questions import Questions

_log = logging.getLogger(__name__)
_MAX_NOTICES, _MAX_NOTICE_BYTES = 16, 1024 * 1024
"""The limits for notifications that one session holds on their way to the upstream: number and bytes. A single one is
sent whatever its size."""
_STATE_LOST = jsonrpc.notification(
    LOGGED,
    jsonrpc.assemble(
        {
            "level": "warning",
            "logger": "gateway",
            "data": "the upstream's session with this client has ended; a new one is opened, its state is lost",
        }
    ),
)


def _room_for(waiting: Collection[int]) -> bool:
    return not waiting or (len(waiting) < _MAX_NOTICES and sum(waiting) < _MAX_NOTICE_BYTES)


class Session:
    """One session. ``client`` are the facts of the client to which the session belongs, ``NOBODY`` if clients share
    it."""

    streams_apart = False
    """Whether everything about a call arrives on a stream of its own."""
    flaws: tuple[str, ...] = ()
    """What was mended of the session's greeting, or left out of its list of tools, one sentence each."""

    def __init__(
        self, context: SessionContext, era: Era = Era.LEGACY, client: ClientFacts = NOBODY, sid_of_client: str = ""
    ) -> None:
        self.context = context
        self.era = era
        self.client = client
        self.sid_of_client = sid_of_client
        self.correlation = Correlation()
        self.ready = False
        self.closed = False
        self.protocol_version = ""
        self.server: dict[str, Any] = {}
        self._levels = LogLevels(bool(sid_of_client))
        self.logs = False  # whether the upstream has levels that can be set
        self._attribution: Attribution[Call] = Attribution(era, bool(sid_of_client), client is NOBODY)
        self._questions = Questions(self.send_notification, lambda: self.closed)
        self.loop = asyncio.get_running_loop()
        self.last_used = self.loop.time()
        self._waiting: deque[Call] = deque()
        self.notices: dict[object, int] = {}  # messages without an answer on their way to the upstream, and their size
        self._early: list[bytes] = []  # notifications that wait for the handshake
        self._opening: asyncio.Task[None] | None = None
        self._failure: CallError = NotDelivered("upstream_unavailable", "not connected")
        self._was_ready = False
        self._said_lost = False  # whether the client was notified of lost state since the session was ready last
        self.inquired_at = 0.0  # when front ends were asked whether the client has a stream open (0: not idle)

    # ---- calls

    @property
    def active(self) -> int:
        """The number of calls in flight or waiting for the handshake, and of open questions."""
        return len(self.correlation.calls) + len(self._waiting) + len(self._questions)

    def submit(self, call: Call) -> None:
        """Carry ``call`` to the upstream, opening the session first if need be."""
        self.last_used = self.loop.time()
        call.upstream_era = self.era
        call.holder = call.carrier = self
        if self.ready:
            self._transmit(call)
        elif self.closed:
            call.fail(NotDelivered("upstream_unavailable", "the upstream session has ended"))
        elif len(self._waiting) >= self.context.settings.upstreams.max_pending:
            call.fail(
                NotDelivered("overloaded", f"{len(self._waiting)} calls wait for the upstream's handshake already")
            )
        else:
            self._waiting.append(call)
            self.start()

    def notify(self, message: bytes) -> None:
        """Carry a client's notification to the upstream, opening the session first if need be."""
        self.last_used = self.loop.time()
        if self.ready:
            if self.has_room():
                self.send_notification(message)
            else:
                _log.debug("%s: a notification is dropped: the upstream does not keep up", self.context.spec.id)
        elif not self.closed and _room_for([len(one) for one in self._early]):
            self._early.append(message)
            self.start()

    def has_room(self) -> bool:
        """Whether the upstream takes another notification of a client. Clients do not wait for them."""
        return _room_for(self.notices.values())

    def start(self) -> asyncio.Task[None]:
        """Begin to open the session. The returned task ends when the session is ready or has failed."""
        if self._opening is None:
            self._opening = spawn(self._open_and_drain(), f"open {self.context.spec.id}")
        return self._opening

    async def open(self) -> None:
        """Open the session and wait. Raises ``CallError`` with the reason if the upstream cannot be reached."""
        await asyncio.wait({self.start()})  # which may be cancelled by ``close``
        if not self.ready:
            failure = self._failure
            self._failure = NotDelivered(failure.code, failure.message, failure.data)
            try:
                raise failure
            finally:
                del failure  # it refers to this frame now

    @property
    def opening(self) -> bool:
        """Whether the session is being opened now."""
        return self._opening is not None and not self._opening.done()

    def fail_opening(self, error: CallError) -> None:
        """Set the reason that callers waiting for the session to open will get."""
        self._failure = error

    def reset(self) -> None:
        """Make the next call open the session anew, because the upstream has forgotten it."""
        self.ready = False
        self._opening = None
        self._questions.withdraw_all()

    def was_cut_off(self) -> None:
        """Handle that this worker reached nobody for a while. Transports on which answers may be late since then
        override this."""

    def become(self, era: Era) -> None:
        """Speak ``era`` from now on. The era was found while the session was being opened."""
        self.era = era
        self._attribution.era = era

    def patience(self) -> AbstractAsyncContextManager[object]:
        """Return the time-out within which the session must be open. It raises ``TimeoutError``."""
        return asyncio.timeout(self.context.settings.upstreams.start_timeout_s)

    async def _open_and_drain(self) -> None:
        try:
            async with self.patience():
                await self.connect()
                if self.sid_of_client:
                    self._levels.level = self.client.log_level
                if (
                    self.logs and self._levels.level
                ):  # the level was set on a session that was lost, and not on this one
                    await self._set_level()
        except TimeoutError:
            self._failure = NotDelivered("upstream_unavailable", "no handshake in time", {"certain": "1"})
        except CallError as error:
            passed_on = error.code == "overloaded" or ELSEWHERE in error.data
            code = error.code if passed_on else "upstream_unavailable"
            self._failure = NotDelivered(code, error.message, error.data)
        else:
            self.ready = True
            if self._was_ready:
                self.context.events.reopened(self)
            self._was_ready, self._said_lost = True, False
            early, self._early = self._early, []
            for message in early:
                self.send_notification(message)
            now = self.loop.time()
            while self._waiting:
                call = self._waiting.popleft()
                if not call.done:
                    call.connected_at = now
                    self._transmit(call)
            return
        self.lost(self._failure)

    def _transmit(self, call: Call) -> None:
        if self.logs and self._levels.is_too_high(call):
            spawn(self._raise_level(call), "set-level")
            return
        id = self.correlation.begin(call)
        if call.era == self.era and not call.token:
            self.send_request(id, call, jsonrpc.request(b"%d" % id, call.method, call.params))
            return
        try:
            body = bridge_params.translate(
                call.params,
                call.era,
                self.era,
                id if call.token else None,
                call.client.capabilities,
                call.client.client_info,
                call.client.log_level,
            )
        except Refused as error:
            self.correlation.forget(id)
            call.fail(error)
            return
        self.send_request(id, call, jsonrpc.request(b"%d" % id, call.method, body))

    def abandon(self, call: Call, reason: str) -> bool:
        """Stop a call. Return true if it was certainly not sent."""
        if call in self._waiting:
            self._waiting.remove(call)
            return True
        id = self.correlation.id_of(call)
        if id is not None:
            self.correlation.forget(id)
            if self.unsend(id):
                return True
            if call.method != INITIALIZE:
                self.cancel_request(id, call, reason)
            if not call.ours and not self.streams_apart:
                until = self.loop.time() + self.context.settings.calls.request_timeout_max_s
                self._attribution.given_up.add(id, call.session, until)
                if self.ready:
                    spawn(self._confirm(id), "confirm-cancel")
        return False

    async def _confirm(self, id: int) -> None:
        """Forget a given-up call once the upstream has certainly read its cancellation: when it answers a later
        request."""
        try:
            await self.request(PING if self.era is Era.LEGACY else DISCOVER)
        except UpstreamError:
            pass  # an error is an answer, too
        except CallError:
            return
        self._attribution.given_up.done(id)

    def unsend(self, id: int) -> bool:
        """Take back a request that still waits to be sent. Return false if it does not wait."""
        return False

    def cancel_request(self, id: int, call: Call, reason: str) -> None:
        """Notify the upstream of a cancelled request. Transports that cancel by closing a stream override this."""
        params = msgspec.json.encode({"requestId": id, "reason": reason})
        self.send_notification(jsonrpc.notification(CANCELLED, params))

    # ---- the worker's own requests

    async def _raise_level(self, call: Call) -> None:
        """Set the level that a call's client asked for, and send the call."""
        self._levels.level = call.client.log_level
        await self._set_level()
        if self.closed:
            call.fail(NotDelivered("upstream_unavailable", "the upstream session has ended"))
        elif not call.done:
            self._transmit(call)

    async def _set_level(self) -> None:
        level = {"level": self._levels.level}
        try:
            await self.request(SET_LEVEL, level, self.context.settings.upstreams.connect_timeout_s)
        except CallError as error:
            _log.info("%s: its log level could not be set: %s", self.context.spec.id, error)

    def own_params(self, members: dict[str, Any]) -> bytes:
        """Return ``params`` of a request of the worker's own, with the ``_meta`` that the era requires."""
        return bridge_params.translate(
            orjson.dumps(members), Era.LEGACY, self.era, None, b"{}", self.context.client_info
        )

    async def request(self, method: str, members: dict[str, Any] | None = None, timeout_s: float = 30.0) -> bytes:
        """Send a request of the worker's own on a session that is ready, and return the JSON of the result. Raises
        ``CallError``."""
        call = OwnCall(method, self.own_params(members or {}), self.era, timeout_s)
        call.upstream_era = self.era
        call.holder = self
        self._transmit(call)
        try:
            async with asyncio.timeout(timeout_s):
                return await call.future
        except TimeoutError:
            call.stop("timeout")
            raise OutcomeUnknown("timeout", f"no answer to {method} in {timeout_s:g} s") from None
        except asyncio.CancelledError:
            call.stop("nobody waits for it")
            raise
        finally:
            del call  # an error of its future refers to this frame

    async def handshake(self) -> None:
        """Send ``initialize`` and ``notifications/initialized``. Version, capabilities and identity are noted. Raises
        ``CallError``."""
        offered = handshake.offer(self.client, self.context.settings.service.name)
        greeting = await greet(offered, self._initialize)
        self.server, self.protocol_version, self.logs = greeting.server, greeting.version, greeting.logs
        self.flaws = greeting.flaws
        await self.send_initialized(jsonrpc.notification(INITIALIZED))

    async def _initialize(self, members: dict[str, Any]) -> bytes:
        call = OwnCall(INITIALIZE, msgspec.json.encode(members), Era.LEGACY, 0)
        id = self.correlation.begin(call)
        self.send_request(id, call, jsonrpc.request(b"%d" % id, INITIALIZE, call.params))
        try:
            return await call.future
        except asyncio.CancelledError:
            self.correlation.forget(id)
            raise
        finally:
            del call  # an error of its future refers to this frame

    # ---- what arrives

    def receive_bytes(self, body: Whole, call: Call | None = None) -> bool:
        """Handle one message (or a batch) from the upstream. Return false if ``body`` is not JSON-RPC.

        ``call`` is the call on whose own response stream the message arrived, if the transport has such streams.
        """
        try:
            first = body[:1]
            if first not in (b"{", b"["):
                body = bytes(body).removeprefix(BOM).lstrip()
                first = body[:1]
            messages = jsonrpc.decode_batch(body) if first == b"[" else [jsonrpc.decode_answer(body)]
        except Refused as error:
            return self._fail_unreadable(body, error)
        for message in messages:
            try:
                self._receive(message, call)
            except Exception:  # a message that cannot be handled must not keep the others from being handled
                _log.exception("%s: a message of the upstream", self.context.spec.id)
        return True

    def _fail_unreadable(self, body: Whole, error: Refused) -> bool:
        """Fail the call whose answer is no JSON, if its id can be read. Return whether there is such a call."""
        id = id_of_unreadable(bytes(body))
        call = None if id is None else self.correlation.forget(id)
        if call is None:
            return False
        call.fail(OutcomeUnknown("upstream_protocol", f"the upstream's answer cannot be read: {error.message}"))
        return True

    def _receive(self, message: jsonrpc.Message, call: Call | None) -> None:
        outcome = self.correlation.receive(message)
        if type(outcome) is Ignored:
            self._attribution.given_up.answered(message)
            _log.debug("%s: ignored %s", self.context.spec.id, outcome.reason)
        elif type(outcome) is Answered:
            self.last_used = self.loop.time()
            if outcome.is_error:
                error = well_formed(outcome.raw)
                if not self.doubts(outcome.call, error):
                    outcome.call.answer(True, error)
            else:
                outcome.call.answer(False, outcome.raw)
        elif type(outcome) is Progressed:
            outcome.call.interim(outcome.message, self.loop.time())
        elif type(outcome) is Asked:
            self._asked(outcome, call)
        elif type(outcome) is Announced and outcome.method == LOGGED:
            whose = self._attribution.log_message(call, self.correlation.calls.values(), self.loop.time())
            if isinstance(whose, ToClient):
                self._notify_client(jsonrpc.notification(outcome.method, outcome.params))
            elif isinstance(whose, ToCall):
                passes = self.era is not Era.LEGACY or self._levels.passes(whose.call, outcome.params)
                if passes:
                    whose.call.interim(jsonrpc.notification(outcome.method, outcome.params), self.loop.time())
        elif type(outcome) is Announced and outcome.method == CANCELLED:
            self._questions.withdraw(outcome.params)
        elif type(outcome) is Announced and outcome.method in CHANGED:
            self.context.events.announced(self, outcome.method, outcome.params)
        elif type(outcome) is Announced:
            self._notified(outcome, call)

    def doubts(self, call: Call, error: Body) -> bool:
        """Whether an error may mean that the upstream does not know the session any more. Then the session itself
        answers ``call`` later. Transports whose sessions can be forgotten override this."""
        return False

    def _notified(self, announced: Announced, call: Call | None) -> None:
        """Pass on the end of an elicitation by URL, or a notification that the gateway does not know."""
        method, params = announced.method, announced.params
        whose = self._attribution.notification(method, params, call, self.correlation.calls, self.loop.time())
        if isinstance(whose, ToCall):
            whose.call.notice(method, params)
        elif isinstance(whose, ToClient):
            self._notify_client(jsonrpc.notification(method, params))

    def _notify_client(self, message: bytes) -> None:
        self.context.unsolicited.tell(self.sid_of_client, message)

    def notify_state_lost(self, call: Call | None = None) -> None:
        """Notify the client once that its upstream session is gone, and with it what the upstream remembered.

        The message goes on the stream of ``call``, if a call found the session gone, else on the client's standing
        stream.
        """
        level = self.client.log_level
        if not self.sid_of_client or not self.logs or self._said_lost or (level and not wants_warnings(level)):
            return
        self._said_lost = True
        if call is not None:
            call.interim(_STATE_LOST, self.loop.time())
        else:
            self._notify_client(_STATE_LOST)

    def _asked(self, asked: Asked, call: Call | None) -> None:
        """Handle a request of the upstream. ``ping`` is answered here; all others go to the client that they are
        about."""
        if asked.method == PING:
            self.send_notification(jsonrpc.response(asked.id, b"{}"))
            return
        on_answer = self._questions.on_answer(asked.id)
        need = Need(asked.method, asked.params, self._client_progressed)
        whose = self._attribution.question(asked.method, call, self.correlation.calls.values(), self.loop.time())
        if isinstance(whose, ToCall):
            if whose.call.span is not None:
                on_answer = whose.call.span.asked(asked.method, on_answer)
            self._questions.add(asked.id, whose.call, on_answer)
            whose.call.ask(on_answer, need, self)
        elif isinstance(whose, ToClient):
            asker = self.context.unsolicited.ask(self.sid_of_client, self.client, need, on_answer)
            if asker is not None:
                self._questions.add(asked.id, asker, on_answer)
        else:
            in_modern = asked.method == ROOTS and self.era is Era.LEGACY and self.modern() is not None
            cure = ", or era: modern, in which each call is asked apart" if in_modern else ""
            on_answer(True, jsonrpc.error_object(-32601, whose.reason + cure))

    def _client_progressed(self, params: bytes) -> None:
        """Pass on a client's progress with a question of the upstream."""
        if not self.closed:
            self.send_notification(jsonrpc.notification(PROGRESS, params))

    @property
    def runs_tasks(self) -> bool:
        """Whether the upstream declares that it runs calls as tasks of 2025-11-25."""
        return self.era is Era.LEGACY and tasks.runs_calls(self.server.get("capabilities"))

    def modern(self) -> CarryingSession | None:
        """Return the session of the same upstream that speaks the modern era, or ``None`` if there is none."""
        found = self if self.era is Era.MODERN else self.context.events.modern()
        return found if isinstance(found, Session) else None

    def hand_over(self, call: Call, heir: Call) -> None:
        """Send everything that arrives for ``call`` from now on to ``heir``."""
        id = self.correlation.id_of(call)
        if id is not None:
            self.correlation.calls[id] = heir
        self._questions.hand_over(call, heir)

    def lost(self, error: CallError) -> None:
        """End the session: fail the waiting calls (certainly not sent) and those in flight (which may have run)."""
        if self.closed:
            return
        self.closed = True
        self.ready = False
        waiting, self._waiting = list(self._waiting), deque()
        for call in waiting:
            call.fail(NotDelivered(error.code, error.message, error.data))
        for call in self.correlation.drain():
            call.fail(OutcomeUnknown("outcome_unknown", f"{error.message}; the call may have run"))
        self._questions.end()
        if self._was_ready:
            self.notify_state_lost()
        self.context.events.lost(self, error)

    async def close(self) -> None:
        """End the session in good order. Calls in flight fail."""
        if self._opening is not None and self.opening:
            self._opening.cancel()
        self.closed = True
        self.ready = False
        for call in [*self._waiting, *self.correlation.drain()]:
            call.fail(OutcomeUnknown("outcome_unknown", "the upstream session was closed; the call may have run"))
        self._waiting.clear()
        self._questions.end()
        await self.disconnect()

    # ---- transports

    async def connect(self) -> None:
        """Reach the upstream and make the handshake. Raises ``CallError``."""
        raise NotImplementedError

    async def disconnect(self) -> None:
        """Release what ``connect`` took."""

    def send_request(self, id: int, call: Call, message: bytes) -> None:
        """Send a request. The answer comes through ``receive_bytes`` or ``call.fail``."""
        raise NotImplementedError

    async def send_initialized(self, message: bytes) -> None:
        """Send ``notifications/initialized`` so that no request can overtake it."""
        self.send_notification(message)

    def send_notification(self, message: bytes) -> None:
        """Send a message that has no answer."""
        raise NotImplementedError

    def trim(self) -> None:
        """Drop what is idle and belongs to this session alone. Called now and then."""

    def release(self) -> None:
        """Release what belongs to this session alone, after the session was closed."""
