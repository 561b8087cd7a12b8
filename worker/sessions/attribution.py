"""Whose call does an upstream's question or message belong to? Pure, and part of what keeps clients apart.

What comes on a call's own response stream is about that call. Where a channel is shared, something without a stream
of its own belongs to the only call that it can belong to; if there are several, it belongs to nobody. On an upstream
session that is one client's own it is about this client in any case. A call that was given up counts as in flight
until it is certainly over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, Protocol, TypeVar

from msgspec import Raw, Struct

from shared.errors import Refused
from shared.mcp import jsonrpc
from shared.mcp.jsonrpc import Message
from shared.mcp.methods import LISTEN, NOT_FOR_CLIENTS, SUBSCRIPTION_META
from shared.mcp.versions import Era

_MAX_GIVEN_UP = 1000
ROOTS = "roots/list"


class Candidate(Protocol):
    """A call in flight, as far as attribution looks at it (``worker.calls.call.Call``)."""

    method: str
    session: str
    ours: bool

    @property
    def log_level(self) -> str:
        """From which level on the call's client asked for log messages, or empty."""


C = TypeVar("C", bound=Candidate)


class ToCall(Struct, Generic[C], frozen=True):
    """It belongs to this call."""

    call: C


class ToClient(Struct, frozen=True):
    """It belongs to the client whose own the upstream session is, beside all its calls."""


class ToNobody(Struct, frozen=True):
    """It cannot be told to whom it belongs, or it must not reach anybody; ``reason`` is for the upstream."""

    reason: str = ""


NOBODY = ToNobody()
CLIENT = ToClient()


class GivenUp:
    """Calls that nobody waits for any more, but that the upstream may still be at: what it asks or logs may be theirs.

    Each is remembered until it is answered after all, or the upstream has certainly read that it was cancelled, and for
    a time at most; the newest ones.
    """

    def __init__(self) -> None:
        self._calls: dict[int, tuple[str, float]] = {}

    def add(self, id: int, session: str, until: float) -> None:
        """Remember that call ``id`` of a client's ``session`` (empty: of somebody) was given up."""
        if len(self._calls) >= _MAX_GIVEN_UP:
            del self._calls[next(iter(self._calls))]
        self._calls[id] = (session, until)

    def done(self, id: int) -> None:
        """Forget ``id``: the upstream is not at it any more."""
        self._calls.pop(id, None)

    def answered(self, message: Message) -> None:
        """Forget the call to which ``message`` is the answer, if it is one of these."""
        if self._calls and not message.method and (id := integer(message.id)) is not None:
            self._calls.pop(id, None)

    def any(self, now: float) -> bool:
        """Whether the upstream may still be at any of them."""
        self._calls = {id: one for id, one in self._calls.items() if one[1] > now}
        return bool(self._calls)

    def concerns(self, session: str, now: float) -> bool:
        """Whether something that seems to be about ``session`` may be about a call of somebody else."""
        if not self._calls:
            return False
        self._calls = {id: one for id, one in self._calls.items() if one[1] > now}
        return any(owner != session or not owner for owner, _ in self._calls.values())


class Attribution(Generic[C]):
    """The rules for one upstream session of ``era``; ``own``: the session is one client's own; ``without_client``: no
    client stands behind it, so it knows no roots."""

    def __init__(self, era: Era, own: bool, without_client: bool) -> None:
        self.era = era
        self.given_up = GivenUp()
        self._own = own
        self._without_client = without_client

    def question(
        self, method: str, on_stream_of: C | None, calls: Iterable[C], now: float
    ) -> ToCall[C] | ToClient | ToNobody:
        """Return whom an upstream's request ``method`` is about, given the calls in flight."""
        calls = list(calls)
        call = on_stream_of or self._only(calls, now)
        if call is None and self._own and not self.given_up.any(now):
            return CLIENT
        if call is None:
            count = sum(not one.ours for one in calls)
            which = f"{count} calls" if count != 1 else "a call and one that was given up"
            return ToNobody(f"cannot tell which of {which} this is about; set isolation: client")
        if method == ROOTS and self._without_client:
            return ToNobody("clients share this session, so it knows no roots; set isolation: client")
        return ToCall(call)

    def log_message(self, on_stream_of: C | None, calls: Iterable[C], now: float) -> ToCall[C] | ToClient | ToNobody:
        """Return whom a log message is about. A modern server logs only for requests that asked for it (2026-07-28,
        logging): the worker's own and listens never do."""
        call = on_stream_of or (
            self._only(calls, now) if self.era is Era.LEGACY else self._only_that_asked_for_logs(calls, now)
        )
        if call is not None:
            return ToCall(call)
        return CLIENT if self._own else NOBODY

    def notification(
        self, method: str, params: bytes, on_stream_of: C | None, calls: Mapping[int, C], now: float
    ) -> ToCall[C] | ToClient | ToNobody:
        """Return whom a notification is about that concerns neither lists nor logs."""
        call = on_stream_of or self._listening(params, calls)
        if method in NOT_FOR_CLIENTS and (call is None or call.method != LISTEN):
            return NOBODY
        call = call or self._only(calls.values(), now)
        if call is not None:
            return ToCall(call)
        return CLIENT if self._own else NOBODY

    def _listening(self, params: bytes, calls: Mapping[int, C]) -> C | None:
        """Return the ``subscriptions/listen`` that a notification names, where all share one channel (stdio)."""
        if self.era is not Era.MODERN or SUBSCRIPTION_META.encode() not in params:
            return None
        try:
            meta = jsonrpc.members(jsonrpc.members(params).get("_meta", jsonrpc.ABSENT))
            return calls.get(int(bytes(meta[SUBSCRIPTION_META])))
        except (Refused, KeyError, ValueError):
            return None

    def _only(self, calls: Iterable[C], now: float) -> C | None:
        """Return the call that something without a stream of its own must belong to, if there is exactly one.

        The worker's own requests (a ping, a list, a standing listen) do not count: nobody is behind them to be asked or
        told. What comes on a client's own session is about that client, whichever of its calls tells it.
        """
        found: C | None = None
        for call in calls:
            if not call.ours and call.method != LISTEN:
                if found is not None and not self._own:
                    return None
                found = call
        return None if found is None or self.given_up.concerns(found.session, now) else found

    def _only_that_asked_for_logs(self, calls: Iterable[C], now: float) -> C | None:
        found: C | None = None
        for call in calls:
            if call.method != LISTEN and call.log_level:
                if found is not None:
                    return None
                found = call
        return None if found is None or self.given_up.concerns(found.session, now) else found


def integer(raw: Raw) -> int | None:
    """Return the number of a request id of ours, which some servers send back as a string."""
    text = bytes(raw)
    if not text.isdigit():
        text = text.strip(b'"')
    return int(text) if text.isdigit() and len(text) < 19 else None
