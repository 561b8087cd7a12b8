"""One call on its way through this worker: where it came from, and the one answer it gets.

``Call`` is what ``worker.upstreams`` works with. ``LinkCall`` answers over a front end's link; ``OwnCall`` is
the worker's own (listing, probing), answering a future. Whatever happens, a call is answered exactly once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from shared.errors import CallError, NotDelivered, OutcomeUnknown
from shared.mcp.versions import Era
from shared.rpc import messages as rpc
from shared.rpc.connection import Link
from worker.bridge import results

_WORDS = 2000
"""Characters of an upstream's own words that an error repeats; heads of frames are small."""


class ClientFacts:
    """What is known of the client session a call belongs to."""

    __slots__ = ("_declared", "capabilities", "client_info", "principal", "version")

    def __init__(self, principal: str = "", version: str = "", capabilities: bytes = b"{}", info: bytes = b"") -> None:
        self.principal = principal
        self.version = version
        self.capabilities = capabilities
        self.client_info = info
        self._declared: dict[str, Any] | None = None

    def declares(self, capability: str) -> bool:
        """Whether the client can be asked this (2025-11-25, lifecycle, "Capability Negotiation")."""
        if self._declared is None:
            try:
                self._declared = msgspec.json.decode(self.capabilities, type=dict[str, Any])
            except msgspec.DecodeError:
                self._declared = {}
        return isinstance(self._declared.get(capability), dict)


NOBODY = ClientFacts()


class Call:
    """Base of both kinds. ``params`` is JSON; ``era`` the caller's; ``abandon`` is how to stop it upstream."""

    __slots__ = (
        "abandon",
        "asks",
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
        self.asks = 0  # questions of the upstream that its client has not answered yet
        self.abandon: Callable[[Call, str], None] | None = None
        self.on_done: Callable[[Call], None] | None = None

    def answer(self, is_error: bool, raw: bytes) -> None:
        """The upstream's answer: the JSON of its ``result`` or ``error``."""
        if self.done:
            return
        if not is_error and self.era != self.upstream_era:
            try:
                raw = results.translate(raw, self.era, self.upstream_era, self.method)
            except CallError as error:
                self.fail(OutcomeUnknown(error.code, error.message, error.data))
                return
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
            if self.expires_at and not self.asks:
                self.expires_at = min(now + self.timeout_s, self.hard_limit)
            self._interim(message)

    def asked(self, message: bytes, now: float, input_timeout_s: float) -> None:
        """Relay a question of the upstream; the clock of the call stands still until it is answered."""
        self.asks += 1
        self.hard_limit = max(self.hard_limit, now + input_timeout_s + self.timeout_s)
        self.expires_at = now + input_timeout_s
        self._interim(message)

    def replied(self, now: float) -> None:
        """A question was answered; when it was the last one, the call's clock runs again."""
        self.asks -= 1
        if not self.asks and not self.done:
            self.expires_at = now + self.timeout_s

    def expire(self) -> None:
        """Its time is over (called by the deadline wheel)."""
        if self.done:
            return
        self.stop(f"no answer in {self.timeout_s:g} s")
        self.fail(OutcomeUnknown("timeout", f"no answer from the upstream in {self.timeout_s:g} s; it may have run"))

    def stop(self, reason: str) -> None:
        """Tell the upstream that nobody waits any more."""
        if self.abandon is not None:
            self.abandon(self, reason)

    def _finish(self) -> None:
        self.done = True
        self.expires_at = 0.0
        if self.on_done is not None:
            self.on_done(self)

    def _answered(self, is_error: bool, raw: bytes) -> None:
        raise AssertionError("a subclass answers")

    def _failed(self, error: CallError) -> None:
        raise AssertionError("a subclass answers")

    def _interim(self, message: bytes) -> None:
        """Nobody listens, unless a subclass does."""


class LinkCall(Call):
    """A front end's call."""

    __slots__ = ("calls", "link", "number", "upstream")

    def __init__(self, link: Link, head: rpc.Call, params: bytes, timeout_s: float, calls: dict[int, LinkCall]) -> None:
        super().__init__(head.method, params, head.era, timeout_s)
        self.link = link
        self.number = head.call
        self.upstream = head.upstream
        self.session = head.session
        self.name = head.name
        self.token = head.token
        self.headers = head.headers
        self.calls = calls

    def _finish(self) -> None:
        self.calls.pop(self.number, None)
        super()._finish()

    def _answered(self, is_error: bool, raw: bytes) -> None:
        self.link.send(rpc.Answer(self.number, is_error), raw)

    def _failed(self, error: CallError) -> None:
        data = {"upstream": self.upstream, **{key: str(value)[:_WORDS] for key, value in list(error.data.items())[:16]}}
        delivered = not isinstance(error, NotDelivered)
        self.link.send(rpc.Failed(self.number, error.code, error.message[:_WORDS], delivered, data))

    def _interim(self, message: bytes) -> None:
        if not self.link.congested:  # a front end that does not keep up loses progress, never answers
            self.link.send(rpc.Interim(self.number), message)


class OwnCall(Call):
    """The worker's own request; ``await call.future`` gives the result's JSON or raises ``CallError``."""

    __slots__ = ("future",)

    def __init__(self, method: str, params: bytes, era: int = Era.LEGACY, timeout_s: float = 30.0) -> None:
        super().__init__(method, params, era, timeout_s)
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def _answered(self, is_error: bool, raw: bytes) -> None:
        if self.future.done():
            return
        if is_error:
            self.future.set_exception(UpstreamError(raw))
        else:
            self.future.set_result(raw)

    def _failed(self, error: CallError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class UpstreamError(CallError):
    """The upstream answered a request of ours with a JSON-RPC error; ``raw`` is its JSON."""

    def __init__(self, raw: bytes) -> None:
        import orjson

        try:
            detail: Any = orjson.loads(raw)
        except orjson.JSONDecodeError:
            detail = {}
        self.detail: dict[str, Any] = detail if isinstance(detail, dict) else {}
        self.rpc_code = self.detail.get("code")
        super().__init__(
            "upstream_protocol", f"the upstream answered error {self.rpc_code}: {self.detail.get('message')}"
        )
