"""What every upstream session has in common: a handshake, calls in flight, what comes back.

A session is one conversation with one upstream in one era: a Streamable HTTP session (or none, where the
upstream is stateless), an HTTP+SSE connection, a stdio child. Transports subclass it and only move bytes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

import msgspec
import orjson
from msgspec import Raw

from shared.errors import CallError, NotDelivered, OutcomeUnknown, Refused
from shared.mcp import jsonrpc
from shared.mcp.methods import (
    CANCELLED,
    CHANGED,
    DISCOVER,
    INITIALIZE,
    INITIALIZED,
    LISTEN,
    LOG_LEVEL_META,
    LOGGED,
    NOT_FOR_CLIENTS,
    PING,
    PROGRESS,
    SET_LEVEL,
    SUBSCRIPTION_META,
    hears_warnings,
    severity,
)
from shared.mcp.rope import Whole
from shared.mcp.versions import LATEST_LEGACY, LEGACY_VERSIONS, Era
from shared.tasks import spawn
from worker.bridge import params as bridge_params
from worker.bridge.inputs import ROOTS, Need
from worker.calls.calls import NOBODY, Call, ClientFacts, OwnCall, UpstreamError
from worker.sessions.context import VERSION, SessionContext, Withdrawable
from worker.sessions.correlation import Announced, Answered, Asked, Correlation, GivenUp, Ignored, Progressed

_log = logging.getLogger(__name__)
_SHARED_CAPABILITIES = b'{"sampling":{},"elicitation":{"form":{},"url":{}}}'
"""What a session declares that several clients share: refused per call where the client lacks it; never roots, which
would tell one client's folders to all."""
_MAX_NOTICES, _MAX_NOTICE_BYTES = 16, 1024 * 1024
"""Notifications that one session holds on their way up, and their bytes; one of a client's goes whatever its size."""
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
    """See the module. ``client`` are the facts of the client it belongs to, ``NOBODY`` when it is shared."""

    era: Era = Era.LEGACY
    streams_apart = False
    """Whether everything that is about a call comes on a stream of its own."""

    def __init__(self, context: SessionContext, client: ClientFacts = NOBODY) -> None:
        self.context = context
        self.client = client
        self.correlation = Correlation()
        self.ready = False
        self.closed = False
        self.protocol_version = ""
        self.server: dict[str, Any] = {}
        self.level = ""  # what ``logging/setLevel`` set, where clients share the session: the most verbose asked for
        self.logs = False  # the upstream has levels that can be set
        self.sid_of_client = ""  # whose own session it is, if it is one client's
        self._given_up = GivenUp()
        self._questions: dict[bytes, tuple[Withdrawable, Callable[[bool, bytes], None]]] = {}
        self.loop = asyncio.get_running_loop()
        self.last_used = self.loop.time()
        self._waiting: deque[Call] = deque()
        self.notices: dict[object, int] = {}  # what has no answer, on its way up, and its size
        self._early: list[bytes] = []  # notifications that wait for the handshake
        self._opening: asyncio.Task[None] | None = None
        self._was_ready = False
        self._said_lost = False  # that its state is lost, since it was ready last
        self.inquired_at = 0.0  # when it was asked whether its client has a stream open (0: it is not idle)

    # ---- calls

    @property
    def active(self) -> int:
        """Calls in flight or waiting for the handshake, and questions that are open."""
        return len(self.correlation.calls) + len(self._waiting) + len(self._questions)

    def submit(self, call: Call) -> None:
        """Carry ``call`` to the upstream, opening the session first if need be."""
        self.last_used = self.loop.time()
        call.upstream_era = self.era
        call.abandon = self._abandon
        call.carrier = self
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
        """Whether the upstream takes one more of a client's notifications, which nobody waits for."""
        return _room_for(self.notices.values())

    def start(self) -> asyncio.Task[None]:
        """Begin opening; the task ends when the session is ready or has failed."""
        if self._opening is None:
            self._opening = spawn(self._open_and_drain(), f"open {self.context.spec.id}")
        return self._opening

    async def open(self) -> None:
        """Open and wait. Raises ``CallError`` with the reason when the upstream cannot be reached."""
        await asyncio.wait({self.start()})  # which may be cancelled by ``close``
        if not self.ready:
            raise self._failure

    _failure: CallError = NotDelivered("upstream_unavailable", "not connected")

    async def _open_and_drain(self) -> None:
        try:
            async with asyncio.timeout(self.context.settings.upstreams.start_timeout_s):
                await self.connect()
                if self.sid_of_client:
                    self.level = self.client.log_level
                if self.logs and self.level:  # a session that was lost had been told; this one has not
                    await self._set_level()
        except TimeoutError:
            self._failure = NotDelivered(
                "upstream_unavailable",
                f"no handshake in {self.context.settings.upstreams.start_timeout_s:g} s",
                {"certain": "1"},
            )
        except CallError as error:
            self._failure = NotDelivered("upstream_unavailable", error.message, error.data)
        else:
            self.ready = True
            if self._was_ready:
                self.context.on_reopened(self)
            self._was_ready, self._said_lost = True, False
            early, self._early = self._early, []
            for message in early:
                self.send_notification(message)
            while self._waiting:
                call = self._waiting.popleft()
                if not call.done:
                    self._transmit(call)
            return
        self.lost(self._failure)

    def _transmit(self, call: Call) -> None:
        if self.logs and self._needs_level(call):
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

    # ---- log levels

    def _needs_level(self, call: Call) -> bool:
        """Whether a call's client asked for more than a session that is not its own was set to."""
        if self.sid_of_client or call.method == SET_LEVEL:
            return False
        if call.era == Era.MODERN and LOG_LEVEL_META.encode() not in call.params:
            return False
        call.learn_client()
        wanted = call.client.log_level
        return bool(wanted) and (not self.level or severity(wanted) < severity(self.level))

    async def _raise_level(self, call: Call) -> None:
        self.level = call.client.log_level
        await self._set_level()
        if self.closed:
            call.fail(NotDelivered("upstream_unavailable", "the upstream session has ended"))
        elif not call.done:
            self._transmit(call)

    async def _set_level(self) -> None:
        try:
            await self.request(SET_LEVEL, {"level": self.level}, self.context.settings.upstreams.connect_timeout_s)
        except CallError as error:
            _log.info("%s: its log level could not be set: %s", self.context.spec.id, error)

    def _log_message(self, call: Call, method: str, params: bytes) -> None:
        if self.era is Era.LEGACY:
            try:
                level = jsonrpc.text(jsonrpc.members(params).get("level", jsonrpc.ABSENT), "level")
            except Refused:
                return
            call.learn_client()
            if not call.hears(level, bool(self.sid_of_client), self.level):
                return
        call.interim(jsonrpc.notification(method, params), self.loop.time())

    def _abandon(self, call: Call, reason: str) -> bool:
        """Stop a call; true when it was certainly not sent."""
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
            if not isinstance(call, OwnCall) and not self.streams_apart:
                until = self.loop.time() + self.context.settings.calls.request_timeout_max_s
                self._given_up.add(id, call.session, until)
                if self.ready:
                    spawn(self._confirm(id), "confirm-cancel")
        return False

    async def _confirm(self, id: int) -> None:
        """What an upstream says after it has answered a request that came after a cancel, it says knowing of it."""
        try:
            await self.request(PING if self.era is Era.LEGACY else DISCOVER)
        except UpstreamError:
            pass  # an answer as well
        except CallError:
            return
        self._given_up.done(id)

    def unsend(self, id: int) -> bool:
        """Take back a request that still waits to be sent; false when it does not."""
        return False

    def cancel_request(self, id: int, call: Call, reason: str) -> None:
        """Tell the upstream; transports whose streams say it by closing override this."""
        params = msgspec.json.encode({"requestId": id, "reason": reason})
        self.send_notification(jsonrpc.notification(CANCELLED, params))

    # ---- our own requests

    def own_params(self, members: dict[str, Any]) -> bytes:
        """``params`` of a request of ours, with the ``_meta`` that the era wants."""
        return bridge_params.translate(
            orjson.dumps(members), Era.LEGACY, self.era, None, b"{}", self.context.client_info
        )

    async def request(self, method: str, members: dict[str, Any] | None = None, timeout_s: float = 30.0) -> bytes:
        """Send a request of ours on a session that is ready; the result's JSON. Raises ``CallError``."""
        call = OwnCall(method, self.own_params(members or {}), self.era, timeout_s)
        call.upstream_era = self.era
        call.abandon = self._abandon
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

    async def handshake(self) -> None:
        """``initialize`` and ``notifications/initialized``; notes version, capabilities and identity."""
        members: dict[str, Any] = {
            "protocolVersion": LATEST_LEGACY,
            "capabilities": Raw(_SHARED_CAPABILITIES if self.client is NOBODY else self.client.capabilities),
            "clientInfo": {"name": self.context.settings.service.name, "version": VERSION},
        }
        if self.client is not NOBODY and self.client.client_info:
            members["clientInfo"] = Raw(self.client.client_info)
        call = OwnCall(INITIALIZE, msgspec.json.encode(members), Era.LEGACY, 0)
        id = self.correlation.begin(call)
        self.send_request(id, call, jsonrpc.request(b"%d" % id, INITIALIZE, call.params))
        try:
            raw = await call.future
        except asyncio.CancelledError:
            self.correlation.forget(id)
            raise
        try:
            self.server = orjson.loads(raw)
            self.protocol_version = str(self.server["protocolVersion"])
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise OutcomeUnknown("upstream_protocol", "the answer to initialize names no protocolVersion") from error
        if self.protocol_version not in LEGACY_VERSIONS:
            raise OutcomeUnknown(
                "upstream_protocol",
                f"the upstream wants protocol version {self.protocol_version!r}, which we do not speak",
            )
        capabilities = self.server.get("capabilities")
        self.logs = isinstance(capabilities, dict) and "logging" in capabilities
        await self.send_initialized(jsonrpc.notification(INITIALIZED))

    # ---- what comes back

    def receive_bytes(self, body: Whole, call: Call | None = None) -> bool:
        """Handle one message (or a batch) from the upstream. False: it is not JSON-RPC.

        ``call``: the one on whose own response stream it came, where the transport has such streams.
        """
        try:
            first = body[:1] if body[:1] in (b"{", b"[") else bytes(body).lstrip()[:1]
            messages = jsonrpc.decode_batch(body) if first == b"[" else [jsonrpc.decode_answer(body)]
        except Refused:
            return False
        for message in messages:
            try:
                self._receive(message, call)
            except Exception:  # one message that cannot be handled must not cost the others theirs
                _log.exception("%s: a message of the upstream", self.context.spec.id)
        return True

    def _receive(self, message: jsonrpc.Message, call: Call | None) -> None:
        outcome = self.correlation.receive(message)
        if type(outcome) is Ignored:
            self._given_up.answered(message)
            _log.debug("%s: ignored %s", self.context.spec.id, outcome.reason)
        elif type(outcome) is Answered:
            self.last_used = self.loop.time()
            outcome.call.answer(outcome.is_error, outcome.raw)
        elif type(outcome) is Progressed:
            outcome.call.interim(outcome.message, self.loop.time())
        elif type(outcome) is Asked:
            self._asked(outcome, call)
        elif type(outcome) is Announced and outcome.method == LOGGED:
            # A log message belongs to the call on whose stream it came; what cannot be attributed is dropped.
            # On a client's own session it is about that client in any case.
            if (call := call or self._logging_call()) is not None:
                self._log_message(call, outcome.method, outcome.params)
            elif self.sid_of_client:
                self._tell_aside(jsonrpc.notification(outcome.method, outcome.params))
        elif type(outcome) is Announced and outcome.method == CANCELLED:
            self._withdrawn(outcome.params)
        elif type(outcome) is Announced and outcome.method in CHANGED:
            self.context.on_announced(self, outcome.method, outcome.params)
        elif type(outcome) is Announced:
            self._told(outcome, call)

    def _told(self, announced: Announced, call: Call | None) -> None:
        """That an elicitation by URL is done, or a notification that we do not know: for the client it is about."""
        call = call or self._listening(announced.params)
        if announced.method in NOT_FOR_CLIENTS and (call is None or call.method != LISTEN):
            return
        call = call or self._only_call()
        if call is not None:
            call.notice(announced.method, announced.params)
        elif self.sid_of_client:
            self._tell_aside(jsonrpc.notification(announced.method, announced.params))

    def _tell_aside(self, message: bytes) -> None:
        self.context.aside.tell(self.sid_of_client, message)

    def tell_state_lost(self, call: Call | None = None) -> None:
        """The upstream session of one client is gone, and what the upstream remembered with it: said once, on the
        stream of ``call`` if one met it."""
        level = self.client.log_level
        if not self.sid_of_client or not self.logs or self._said_lost or (level and not hears_warnings(level)):
            return
        self._said_lost = True
        if call is not None:
            call.interim(_STATE_LOST, self.loop.time())
        else:
            self._tell_aside(_STATE_LOST)

    def _listening(self, params: bytes) -> Call | None:
        """The ``subscriptions/listen`` that a notification names, where all share one channel (stdio)."""
        if self.era is not Era.MODERN or SUBSCRIPTION_META.encode() not in params:
            return None
        try:
            meta = jsonrpc.members(jsonrpc.members(params).get("_meta", jsonrpc.ABSENT))
            return self.correlation.calls.get(int(bytes(meta[SUBSCRIPTION_META])))
        except (Refused, KeyError, ValueError):
            return None

    def _only_call(self) -> Call | None:
        """The call that something without a stream of its own must belong to, if there is exactly one.

        Requests of ours (a ping, a list, a standing listen) do not count: nobody is behind them to be asked or told.
        What comes on a client's own session is about that client, whichever of its calls tells it.
        """
        found: Call | None = None
        for call in self.correlation.calls.values():
            if not isinstance(call, OwnCall) and call.method != LISTEN:
                if found is not None and not self.sid_of_client:
                    return None
                found = call
        return None if found is None or self._given_up.concerns(found.session, self.loop.time()) else found

    def _logging_call(self) -> Call | None:
        """The call that a log message without a stream must come from, if there is exactly one.

        A modern server logs only for requests that asked for it (2026-07-28, logging): ours and listens never do.
        """
        if self.era is Era.LEGACY:
            return self._only_call()
        found = None
        for call in self.correlation.calls.values():
            if call.method == LISTEN:
                continue
            call.learn_client()
            if call.client.log_level:
                if found is not None:
                    return None
                found = call
        return None if found is None or self._given_up.concerns(found.session, self.loop.time()) else found

    def _asked(self, asked: Asked, call: Call | None) -> None:
        """A request from the upstream: ``ping`` is ours to answer, the rest goes to the client it is about."""
        if asked.method == PING:
            self.send_notification(jsonrpc.response(asked.id, b"{}"))
            return
        call = call or self._only_call()
        settle = partial(self._settle, asked.id)
        need = Need(asked.method, asked.params, self._client_progressed)
        if call is None and self.sid_of_client and not self._given_up.any(self.loop.time()):
            asker = self.context.aside.ask(self.sid_of_client, self.client, need, settle)
            if asker is not None:
                self._questions[asked.id] = (asker, settle)
        elif call is None:
            count = sum(not isinstance(one, OwnCall) for one in self.correlation.calls.values())
            calls = f"{count} calls" if count != 1 else "a call and one that was given up"
            refusal = f"cannot tell which of {calls} this is about; set isolation: client"
            settle(True, jsonrpc.error_object(-32601, refusal))
        elif asked.method == ROOTS and self.client is NOBODY:
            refusal = "clients share this session, so it knows no roots; set isolation: client"
            settle(True, jsonrpc.error_object(-32601, refusal))
        else:
            self._questions[asked.id] = (call, settle)
            call.ask(settle, need, self)

    def _client_progressed(self, params: bytes) -> None:
        """A client tells how far it is with something that the upstream asked of it."""
        if not self.closed:
            self.send_notification(jsonrpc.notification(PROGRESS, params))

    def _withdrawn(self, params: bytes) -> None:
        """The upstream cancels a request of its own (2025-11-25, basic/utilities/cancellation)."""
        try:
            id = bytes(jsonrpc.members(params).get("requestId", jsonrpc.ABSENT))
        except Refused:
            return
        question = self._questions.pop(id, None)
        if question is not None:
            call, settle = question
            call.withdrawn(settle)

    def _withdraw_all(self) -> None:
        """The session is over, and nobody takes answers any more."""
        questions, self._questions = self._questions, {}
        for asker, settle in questions.values():
            asker.withdrawn(settle)

    def _settle(self, id: bytes, is_error: bool, raw: bytes) -> None:
        """Answer the upstream's request ``id``."""
        self._questions.pop(id, None)
        if not self.closed:
            self.send_notification(jsonrpc.error_response(id, raw) if is_error else jsonrpc.response(id, raw))

    def hand_over(self, call: Call, heir: Call) -> None:
        """``heir`` gets what comes for ``call`` from now on."""
        id = self.correlation.id_of(call)
        if id is not None:
            self.correlation.calls[id] = heir
        for question, (asker, settle) in self._questions.items():
            if asker is call:
                self._questions[question] = heir, settle

    def lost(self, error: CallError) -> None:
        """The session is over: fail what waits (certainly not sent) and what is in flight (who knows)."""
        if self.closed:
            return
        self.closed = True
        self.ready = False
        waiting, self._waiting = list(self._waiting), deque()
        for call in waiting:
            call.fail(NotDelivered(error.code, error.message, error.data))
        for call in self.correlation.drain():
            call.fail(OutcomeUnknown("outcome_unknown", f"{error.message}; the call may have run"))
        self._withdraw_all()
        if self._was_ready:
            self.tell_state_lost()
        self.context.on_lost(self, error)

    async def close(self) -> None:
        """End the session in good order; what is in flight fails."""
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()
        self.closed = True
        self.ready = False
        for call in [*self._waiting, *self.correlation.drain()]:
            call.fail(OutcomeUnknown("outcome_unknown", "the upstream session was closed; the call may have run"))
        self._waiting.clear()
        self._withdraw_all()
        await self.disconnect()

    # ---- transports

    async def connect(self) -> None:
        """Reach the upstream and shake hands. Raises ``CallError``."""
        raise NotImplementedError

    async def disconnect(self) -> None:
        """Release what ``connect`` took."""

    def send_request(self, id: int, call: Call, message: bytes) -> None:
        """Send a request; its answer comes through ``receive_bytes`` or ``call.fail``."""
        raise NotImplementedError

    async def send_initialized(self, message: bytes) -> None:
        """Send ``notifications/initialized`` so that no request can overtake it."""
        self.send_notification(message)

    def send_notification(self, message: bytes) -> None:
        """Send something that has no answer."""
        raise NotImplementedError
