"""To whose call an upstream's question or message belongs. Pure. This rule is part of what keeps clients apart.

What arrives on a call's own response stream is about that call. On a channel that calls share, a message without a
stream of its own belongs to the only call that it can belong to. If there are several, it belongs to no call. On an
upstream session of a single client it is about this client in any case. A call that was given up counts as in flight
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
from worker.bridge.inputs import ROOTS

MAX_GIVEN_UP = 1000
"""The number of given-up calls that are remembered on one session. The newest ones are kept."""


class CallInFlight(Protocol):
    """A call in flight, as far as attribution reads it (``worker.calls.call.Call``)."""

    method: str
    session: str
    ours: bool

    @property
    def log_level(self) -> str:
        """The least severe level for which the call's client asked, or empty."""


C = TypeVar("C", bound=CallInFlight)


class ToCall(Struct, Generic[C], frozen=True):
    """The message belongs to this call."""

    call: C


class ToClient(Struct, frozen=True):
    """The message belongs to the client of the upstream session, and to none of its calls."""


class ToNobody(Struct, frozen=True):
    """The message's receiver cannot be found, or the message must not reach any client. ``reason`` is for the
    upstream."""

    reason: str = ""


_NOBODY = ToNobody()
_CLIENT = ToClient()


class GivenUp:
    """Calls for which no client waits any more, but on which the upstream may still work. A question or log message may
    be about one of them.

    A call is remembered until it is answered after all, or the upstream has certainly read that it was cancelled, or
    its time is over. Only the newest ones are kept.
    """

    def __init__(self) -> None:
        self._calls: dict[int, tuple[str, float]] = {}

    def add(self, id: int, session: str, until: float) -> None:
        """Remember that call ``id`` of a client's ``session`` was given up. ``session`` is empty if it is not known."""
        if len(self._calls) >= MAX_GIVEN_UP:
            del self._calls[next(iter(self._calls))]
        self._calls[id] = (session, until)

    def done(self, id: int) -> None:
        """Forget call ``id``, on which the upstream does not work any more."""
        self._calls.pop(id, None)

    def answered(self, message: Message) -> None:
        """Forget the call that ``message`` answers, if it is one of these."""
        if self._calls and not message.method and (id := integer(message.id)) is not None:
            self._calls.pop(id, None)

    def any(self, now: float) -> bool:
        """Whether the upstream may still work on any of these calls."""
        self._calls = {id: one for id, one in self._calls.items() if one[1] > now}
        return bool(self._calls)

    def concerns(self, session: str, now: float) -> bool:
        """Whether a message that seems to be about ``session`` may be about a given-up call of another client."""
        if not self._calls:
            return False
        self._calls = {id: one for id, one in self._calls.items() if one[1] > now}
        return any(owner != session or not owner for owner, _ in self._calls.values())


class Attribution(Generic[C]):
    """The rules for one upstream session of ``era``.

    ``own``: the session belongs to a single client. ``without_client``: clients share the session, so it has no roots.
    """

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
            return _CLIENT
        if call is None:
            count = sum(not one.ours and one.method != LISTEN for one in calls)
            which = f"{count} calls" if count != 1 else "a call and one that was given up"
            return ToNobody(f"cannot tell which of {which} this is about; set isolation: client")
        if method == ROOTS and self._without_client:
            return ToNobody("clients share this session, so it knows no roots; set isolation: client")
        return ToCall(call)

    def log_message(self, on_stream_of: C | None, calls: Iterable[C], now: float) -> ToCall[C] | ToClient | ToNobody:
        """Return whom a log message is about.

        A modern server logs only for requests that asked for it (2026-07-28, logging). The worker's own requests and
        listens never ask.
        """
        call = on_stream_of or (
            self._only(calls, now) if self.era is Era.LEGACY else self._only_that_asked_for_logs(calls, now)
        )
        if call is not None:
            return ToCall(call)
        return _CLIENT if self._own else _NOBODY

    def notification(
        self, method: str, params: bytes, on_stream_of: C | None, calls: Mapping[int, C], now: float
    ) -> ToCall[C] | ToClient | ToNobody:
        """Return whom a notification is about that is neither a list change nor a log message."""
        call = on_stream_of or self._listening(params, calls)
        if method in NOT_FOR_CLIENTS and (call is None or call.method != LISTEN):
            return _NOBODY
        call = call or self._only(calls.values(), now)
        if call is not None:
            return ToCall(call)
        return _CLIENT if self._own else _NOBODY

    def _listening(self, params: bytes, calls: Mapping[int, C]) -> C | None:
        """Return the ``subscriptions/listen`` that a notification names. Needed where all calls share one channel
        (stdio)."""
        if self.era is not Era.MODERN or SUBSCRIPTION_META.encode() not in params:
            return None
        try:
            meta = jsonrpc.members(jsonrpc.members(params).get("_meta", jsonrpc.ABSENT))
            return calls.get(int(bytes(meta[SUBSCRIPTION_META])))
        except (Refused, KeyError, ValueError):
            return None

    def _only(self, calls: Iterable[C], now: float) -> C | None:
        """Return the call to which a message without a stream of its own must belong, or ``None`` if there is not
        exactly one.

        The worker's own requests (a ping, a list, a standing listen) do not count, because they have no client that
        could be asked or notified. On a session of a single client any of its calls will do, because the message is
        about that client.
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
    """Return the number in one of the gateway's request ids, or ``None``. Some servers send the id back as a string, or
    as a number with a fraction."""
    text = bytes(raw)
    if not text.isdigit():
        text = text.strip(b'"').removesuffix(b".0")
    return int(text) if text.isdigit() and len(text) < 19 else None
