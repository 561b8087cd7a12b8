"""One call on its way through this worker: where it came from, and the one answer it gets.

``Call`` is what ``worker.upstreams`` works with. ``LinkCall`` answers over a front end's link; ``OwnCall`` is
the worker's own (listing, probing), answering a future. Whatever happens, a call is answered exactly once.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from shared.errors import CallError, NotDelivered, OutcomeUnknown
from shared.mcp import jsonrpc
from shared.mcp.methods import CANCELLED, ELICITED, severity
from shared.mcp.rope import Body
from shared.mcp.versions import Era
from shared.rpc import messages as rpc
from shared.rpc.connection import SLACK, Link
from worker.bridge import inputs, results
from worker.bridge.asked import Asking
from worker.bridge.inputs import Need, may_require
from worker.bridge.params import MAX_REMEMBERED_BYTES
from worker.calls.replay import Outcome, Replay

if TYPE_CHECKING:
    from worker.input.broker import InputBroker

_UNASKED = "info"
"""From where a client that set no level hears a session that was made verbose for another one."""
_WORDS = 2000
"""Characters of an upstream's own words that an error repeats; heads of frames are small."""


class ClientFacts:
    """What is known of the client session a call belongs to."""

    __slots__ = ("_declared", "alone", "capabilities", "client_info", "log_level", "principal", "version")

    def __init__(
        self,
        principal: str = "",
        version: str = "",
        capabilities: bytes = b"{}",
        info: bytes = b"",
        log_level: str = "",
    ) -> None:
        self.principal = principal
        self.version = version
        self.capabilities = capabilities
        self.client_info = info
        self.log_level = log_level
        self.alone = False  # it sees one group only
        self._declared: dict[str, Any] | None = None

    @property
    def declared(self) -> dict[str, Any]:
        """The client's capabilities (2025-11-25, lifecycle, "Capability Negotiation")."""
        if self._declared is None:
            try:
                self._declared = msgspec.json.decode(self.capabilities, type=dict[str, Any])
            except msgspec.DecodeError:
                self._declared = {}
        return self._declared


NOBODY = ClientFacts()


def _said(principal: str, meta: bytes) -> ClientFacts:
    """What a modern request's ``_meta`` says of its client."""
    found = msgspec.json.decode(meta, type=jsonrpc.Meta)
    version, level = (bytes(raw).strip(b'"').decode() for raw in (found.version, found.log_level))
    return ClientFacts(principal, version, bytes(found.capabilities) or b"{}", bytes(found.client_info), level)


_remembered = functools.lru_cache(256)(_said)


class Carrier(Protocol):
    """The upstream session that carries a call."""

    def submit(self, call: Call) -> None:
        """Send it."""

    def hand_over(self, call: Call, heir: Call) -> None:
        """``heir`` gets what comes for ``call`` from now on."""


class Taker(Protocol):
    """The front end that takes a call's answer: the peer at a link's other end."""

    name: str
    calls: dict[int, LinkCall]


class Call:
    """Base of both kinds. ``params`` is JSON; ``era`` the caller's; ``abandon`` is how to stop it upstream."""

    __slots__ = (
        "abandon",
        "carrier",
        "client",
        "done",
        "era",
        "expires_at",
        "hard_limit",
        "headers",
        "method",
        "name",
        "on_done",
        "params",
        "resent",
        "session",
        "timeout_s",
        "token",
        "upstream_era",
    )

    def __init__(self, method: str, params: bytes, era: int, timeout_s: float) -> None:
        self.method = method
        self.params = params
        self.era = era
        self.upstream_era = era
        self.timeout_s = timeout_s
        self.expires_at = 0.0
        self.hard_limit = 0.0
        self.session = ""
        self.name = ""
        self.token = b""
        self.headers: dict[str, str] | None = None
        self.client = NOBODY
        self.done = False
        self.resent = False
        self.carrier: Carrier | None = None
        self.abandon: Callable[[Call, str], bool] | None = None
        self.on_done: Callable[[Call], None] | None = None

    def learn_client(self) -> None:
        """Note what the call itself says of its client."""

    def answer(self, is_error: bool, raw: Body) -> None:
        """The upstream's answer: the JSON of its ``result`` or ``error``; a large one may be a view."""
        if self.done:
            return
        modern = self.era == self.upstream_era == Era.MODERN
        if type(raw) is not bytes:
            if results.plain(raw) if modern else self.era == self.upstream_era:
                self.complete(is_error, raw)
                return
            raw = bytes(raw)
        if modern and not is_error:
            raw = results.typed(raw)
        if self.era != self.upstream_era or (modern and may_require(raw)):
            try:
                self._bridge(is_error, raw)
            except CallError as error:
                self.fail(OutcomeUnknown(error.code, error.message, error.data))
        else:
            self.complete(is_error, raw)

    def _bridge(self, is_error: bool, raw: bytes) -> None:
        """Answer in the caller's era. Raises ``CallError`` when it cannot be expressed there."""
        if not is_error and self.era != self.upstream_era:
            raw = results.translate(raw, self.era, self.upstream_era, self.method)
        self.complete(is_error, raw)

    def complete(self, is_error: bool, raw: Body) -> None:
        """The answer as the caller gets it."""
        if not self.done:
            self._finish()
            self._answered(is_error, raw)

    def fail(self, error: CallError) -> None:
        """The call failed on the way; ``NotDelivered`` lets it be sent elsewhere."""
        if not self.done:
            self._finish()
            self._failed(error)

    def interim(self, message: bytes, now: float) -> None:
        """A notification before the answer; it restarts the clock up to the hard limit."""
        if not self.done:
            if self.expires_at:
                self.expires_at = min(now + self.timeout_s, self.hard_limit)
            self._interim(message)

    def hears(self, level: str, own: bool, raised: str) -> bool:
        """Whether its client is told a log message of ``level`` from a legacy session.

        ``own``: the session is the client's own, so the upstream filters; ``raised``: the level that a shared session
        was set to for somebody. Modern clients hear only what they asked for (2026-07-28, logging).
        """
        if self.era == Era.MODERN:
            return bool(self.client.log_level) and severity(level) >= severity(self.client.log_level)
        wanted = self.client.log_level or (_UNASKED if raised else "")
        return own or not wanted or severity(level) >= severity(wanted)

    def notice(self, method: str, params: bytes) -> None:
        """A notification that came on this call's stream and is not about the call itself."""

    def withdrawn(self, settle: Callable[[bool, bytes], None]) -> None:
        """The upstream does not want the answer any more for which ``settle`` was given."""

    def ask(self, settle: Callable[[bool, bytes], None], need: Need, carrier: Carrier) -> None:
        """The upstream needs something of the client during this call."""
        settle(True, jsonrpc.error_object(-32601, "this call has no client that could be asked"))

    def expire(self) -> None:
        """Its time is over (called by the deadline wheel)."""
        if self.done:
            return
        if self.stop(f"no answer in {self.timeout_s:g} s"):
            text = f"the upstream could not be given the call in {self.timeout_s:g} s; it was not sent"
            self.fail(NotDelivered("timeout", text))
        else:
            text = f"no answer from the upstream in {self.timeout_s:g} s; it may have run"
            self.fail(OutcomeUnknown("timeout", text))

    def stop(self, reason: str) -> bool:
        """Tell the upstream that nobody waits any more; true when it was certainly not sent yet."""
        return self.abandon is not None and self.abandon(self, reason)

    def _finish(self) -> None:
        self.done = True
        self.expires_at = 0.0
        if self.on_done is not None:
            self.on_done(self)

    def _answered(self, is_error: bool, raw: Body) -> None:
        raise AssertionError("a subclass answers")

    def _failed(self, error: CallError) -> None:
        raise AssertionError("a subclass answers")

    def _interim(self, message: bytes) -> None:
        """Nobody listens, unless a subclass does."""


class LinkCall(Call):
    """A front end's call. ``asks`` are the questions that its client has not answered yet."""

    __slots__ = (
        "asking",
        "asks",
        "dropped",
        "frontend",
        "link",
        "listed",
        "needs",
        "number",
        "replay",
        "request",
        "upstream",
    )

    def __init__(
        self,
        frontend: Taker,
        link: Link,
        head: rpc.Call,
        params: bytes,
        timeout_s: float,
        needs: InputBroker,
    ) -> None:
        super().__init__(head.method, params, head.era, timeout_s)
        self.frontend = frontend
        self.link = link
        self.number = head.call
        self.upstream = head.upstream
        self.session = head.session
        self.name = head.name
        self.token = head.token
        self.headers = head.headers
        self.request = head.request
        self.listed = head.listed
        self.dropped = 0  # notifications that the front end did not take in time
        self.needs = needs
        self.replay: Replay | None = None
        self.asks: dict[str, Callable[[bool, bytes], None]] | None = None
        self.asking: Asking | None = None

    def learn_client(self) -> None:
        """A modern request says itself who its client is and what it can do (2026-07-28, basic, ``_meta``)."""
        if self.era == Era.MODERN and not self.client.version:
            meta = jsonrpc.meta_of(self.params)
            if meta:
                remembered = len(meta) <= MAX_REMEMBERED_BYTES
                self.client = (_remembered if remembered else _said)(self.client.principal, meta)

    # ---- needs for input

    def ask(self, settle: Callable[[bool, bytes], None], need: Need, carrier: Carrier) -> None:
        """See ``worker.input.broker`` for what becomes of it."""
        if self.done:  # on a stream that the upstream did not close after its answer
            settle(True, jsonrpc.error_object(-32603, "the call that this belongs to is over"))
            return
        self.learn_client()
        why = inputs.refusal(self.client.declared, need.method, need.params, self.client.alone)
        if why is None and self.era == Era.LEGACY and not self.session:
            why = -32601, "a client without a session cannot be asked"
        if why is not None:
            settle(True, jsonrpc.error_object(*why))
        elif self.era == Era.LEGACY:
            self.needs.relay(self, need, settle)
        else:
            parked = self.needs.park(self, carrier)
            if parked is None:
                settle(True, jsonrpc.error_object(-32603, "too many calls of this client wait for input (maxParked)"))
            else:
                parked.ask(settle, need, carrier)

    def asked(self, ask: str, settle: Callable[[bool, bytes], None], message: bytes, now: float) -> None:
        """Relay a question to the client; the clock of the call stands still until it is answered."""
        if self.asks is None:
            self.asks = {}
        self.asks[ask] = settle
        limit_s = self.needs.input_timeout_s
        self.hard_limit = max(self.hard_limit, now + limit_s + self.timeout_s)
        self.expires_at = now + limit_s
        self._tell(message, must=True)

    def replied(self, ask: str, now: float) -> Callable[[bool, bytes], None]:
        """The client answered ``ask``: who takes it. After the last one the call's clock runs again."""
        assert self.asks is not None
        settle = self.asks.pop(ask)
        if not self.asks and not self.done:
            self.expires_at = now + self.timeout_s
        return settle

    def notice(self, method: str, params: bytes) -> None:
        """What we do not know is for the client to know. That an elicitation by URL is done is for the one that was
        sent there (2025-11-25, elicitation); the modern era has no such notification."""
        if not self.done and (method != ELICITED or self.era == Era.LEGACY):
            self._interim(jsonrpc.notification(method, params))

    def withdrawn(self, settle: Callable[[bool, bytes], None]) -> None:
        """The upstream does not want the answer any more for which ``settle`` was given."""
        for ask, one in (self.asks or {}).items():
            if one is settle:
                self.needs.withdraw(self, ask)
                return

    def take_back(self, ask: str) -> None:
        """Tell the client that a question needs no answer any more."""
        self._tell(jsonrpc.notification(CANCELLED, msgspec.json.encode({"requestId": ask})))

    def expire(self) -> None:
        """Its time is over; while the client is being asked, that is its doing."""
        if not self.asks:
            super().expire()
        elif not self.done:
            text = f"the client did not answer what the upstream asked in {self.needs.input_timeout_s:g} s"
            self.stop(text)
            self.fail(OutcomeUnknown("timeout", f"{text}; the call may have run"))

    def interim(self, message: bytes, now: float) -> None:
        """While the client is asked, nothing restarts the clock."""
        if self.asks:
            self._interim(message)
        else:
            super().interim(message, now)

    def _bridge(self, is_error: bool, raw: bytes) -> None:
        upstream_era = self.upstream_era
        if self.era == Era.MODERN and upstream_era == Era.MODERN:
            is_error, raw = (True, raw) if is_error else self.needs.wrap(self, raw)
        elif self.era == Era.LEGACY and upstream_era == Era.MODERN and not is_error:
            required = inputs.read_required(raw) if may_require(raw) else None
            if required is not None:
                self.needs.ask_client(self, required)
                return
        elif self.era == Era.MODERN and is_error and b"-32042" in raw:
            self.learn_client()
            required_urls = self.needs.require_urls(self, raw)
            if required_urls is not None:
                self.complete(False, required_urls)
                return
        if not is_error and self.era != upstream_era:
            raw = results.translate(raw, self.era, upstream_era, self.method)
        elif is_error and self.era == Era.LEGACY and self.method == "resources/read":
            raw = results.not_found(raw)
        self.complete(is_error, raw)

    # ---- the answer

    def _finish(self) -> None:
        self.frontend.calls.pop(self.number, None)
        super()._finish()
        self.params = b""  # the deadline wheel holds the call for as long as it might have taken
        if self.asks:
            asks, self.asks = self.asks, None
            for ask in asks:
                self.take_back(ask)
            self.needs.drop(asks)

    def _answered(self, is_error: bool, raw: Body) -> None:
        if len(raw) > self.needs.max_bytes + SLACK:  # of many questions put together
            self._failed(OutcomeUnknown("upstream_protocol", "what the upstream asks is larger than maxResultBytes"))
            return
        if self.dropped:
            self.link.send(rpc.Interim(self.number, dropped=self.dropped))
        self.link.send(rpc.Answer(self.number, is_error), raw)
        if self.replay is not None:
            if len(raw) > self.needs.replays.limit_bytes:
                lost = "the answer was larger than what is kept for a lost stream; the call has run"
                self._keep(lambda link, number: link.send(rpc.Failed(number, "outcome_unknown", lost, True)), 0)
            else:
                kept = bytes(raw)  # a view would keep all that came with it
                self._keep(lambda link, number: link.send(rpc.Answer(number, is_error), kept), len(kept))

    def _failed(self, error: CallError) -> None:
        data = {"upstream": self.upstream, **{key: str(value)[:_WORDS] for key, value in list(error.data.items())[:16]}}
        # Once the client was asked for input nothing is repeated behind its back.
        delivered = not isinstance(error, NotDelivered) or self.asking is not None
        text = error.message[:_WORDS]
        self.link.send(rpc.Failed(self.number, error.code, text, delivered, data))
        if self.replay is not None:
            self._keep(lambda link, number: link.send(rpc.Failed(number, error.code, text, delivered, data)), 0)

    def _interim(self, message: bytes) -> None:
        self._tell(message)

    def _tell(self, message: bytes, must: bool = False) -> None:
        if self.session and self.era == Era.LEGACY:
            self.keep()
        if len(message) > self.needs.max_bytes + SLACK:
            self.dropped += 1
            return
        sequence = self.needs.replays.add(self.replay, message) if self.replay is not None else 0
        if must or not self.link.congested:  # a front end that does not keep up loses progress, never what it waits for
            dropped, self.dropped = self.dropped, 0
            self.link.send(rpc.Interim(self.number, sequence=sequence, dropped=dropped), message)
        else:
            self.dropped += 1

    # ---- resuming

    def keep(self) -> None:
        """The client may come back for what is said from now on."""
        if self.replay is None:
            self.replay = self.needs.replays.open((self.frontend.name, self.number), self.session, self.request, self)
            self.replay.name, self.replay.listed = self.name, self.listed

    def _keep(self, send: Callable[[Any, int], None], size: int) -> None:
        assert self.replay is not None
        self.needs.replays.end(self.replay, Outcome(send, size))

    def move(self, frontend: Taker, link: Link, number: int) -> None:
        """The client is back at another front end, or at the same one by another request."""
        if not self.link.closed:
            self.link.send(rpc.Failed(self.number, "cancelled", "the client resumed the stream elsewhere", True))
        self.frontend.calls.pop(self.number, None)
        self.frontend, self.link, self.number = frontend, link, number
        frontend.calls[number] = self


class OwnCall(Call):
    """The worker's own request; ``await call.future`` gives the result's JSON or raises ``CallError``."""

    __slots__ = ("future",)

    def __init__(self, method: str, params: bytes, era: int = Era.LEGACY, timeout_s: float = 30.0) -> None:
        super().__init__(method, params, era, timeout_s)
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def _answered(self, is_error: bool, raw: Body) -> None:
        if self.future.done():
            return
        if is_error:
            self.future.set_exception(UpstreamError(bytes(raw)))
        else:
            self.future.set_result(bytes(raw))

    def _failed(self, error: CallError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class UpstreamError(CallError):
    """The upstream answered a request of ours with a JSON-RPC error; ``raw`` is its JSON."""

    def __init__(self, raw: bytes) -> None:
        import orjson

        self.raw = raw

        try:
            detail: Any = orjson.loads(raw)
        except orjson.JSONDecodeError:
            detail = {}
        self.detail: dict[str, Any] = detail if isinstance(detail, dict) else {}
        self.rpc_code = self.detail.get("code")
        super().__init__(
            "upstream_protocol", f"the upstream answered error {self.rpc_code}: {self.detail.get('message')}"
        )
