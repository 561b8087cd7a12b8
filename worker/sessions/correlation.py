"""Which answer belongs to which call, on one upstream session. Pure.

Requests go up under ids of our own (integers); the progress token is the same integer. What comes back is
sorted into one of the outcomes below. Answers that nobody waits for are ``Ignored``: an upstream that
answers twice, or an id it was never sent, reaches no client.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from msgspec import Raw, Struct

from shared.errors import Refused
from shared.mcp import jsonrpc
from shared.mcp.jsonrpc import Message
from shared.mcp.methods import PROGRESS
from shared.mcp.rope import Body, Large
from shared.rpc.framing import COPIED

if TYPE_CHECKING:
    from worker.calls.calls import Call
else:
    Call = Any  # Structs look their annotations up; this module only carries calls, and stays free of their I/O


class Answered(Struct, gc=False):
    """The answer to ``call``: the JSON of its result or error; a large result is a view of what came."""

    call: Call
    is_error: bool
    raw: Body


class Progressed(Struct, gc=False):
    """A progress notification for ``call``, carrying the client's own token again."""

    call: Call
    message: bytes


class Asked(Struct, gc=False):
    """The upstream asks something of a client; ``id`` is the JSON of its request id."""

    id: bytes
    method: str
    params: bytes


class Announced(Struct, gc=False):
    """A notification that belongs to no call."""

    method: str
    params: bytes


class Ignored(Struct, gc=False):
    """Nothing to do; ``reason`` is for the log."""

    reason: str


_MAX_GIVEN_UP = 1000

Outcome = Answered | Progressed | Asked | Announced | Ignored


class GivenUp:
    """Calls that nobody waits for any more, but that the upstream may still be at: what it asks or logs may be theirs.

    Each is remembered until it is answered after all, or the upstream has certainly read that it was cancelled, and for
    a time at most; the newest ones.
    """

    def __init__(self) -> None:
        self._calls: dict[int, tuple[str, float]] = {}

    def add(self, id: int, session: str, until: float) -> None:
        """Call ``id`` of a client's ``session`` (empty: of somebody) was given up."""
        if len(self._calls) >= _MAX_GIVEN_UP:
            del self._calls[next(iter(self._calls))]
        self._calls[id] = (session, until)

    def done(self, id: int) -> None:
        """The upstream is not at ``id`` any more."""
        self._calls.pop(id, None)

    def answered(self, message: Message) -> None:
        """An answer that nobody waited for: if it was to one of these, that is over."""
        if self._calls and not message.method and (id := _integer(message.id)) is not None:
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


class Correlation:
    """The calls in flight on one session."""

    def __init__(self) -> None:
        self.calls: dict[int, Call] = {}
        self._last = random.randrange(1 << 40)  # sessions do not share ids: a stray answer matches nobody's call

    def begin(self, call: Call) -> int:
        """A fresh id for ``call``."""
        self._last += 1
        self.calls[self._last] = call
        return self._last

    def id_of(self, call: Call) -> int | None:
        """The id under which ``call`` was sent, while it is in flight."""
        return next((id for id, other in self.calls.items() if other is call), None)

    def forget(self, id: int) -> Call | None:
        """Stop waiting for ``id``."""
        return self.calls.pop(id, None)

    def drain(self) -> list[Call]:
        """Every call in flight; none is waited for any more."""
        calls = list(self.calls.values())
        self.calls.clear()
        return calls

    def receive(self, message: Message) -> Outcome:
        """Sort one message from the upstream."""
        if message.method:
            if message.id:
                return Asked(bytes(message.id), message.method, bytes(message.params))
            if message.method == PROGRESS:
                return self._progress(message)
            return Announced(message.method, bytes(message.params))
        id = _integer(message.id)
        call = None if id is None else self.calls.pop(id, None)
        if call is None:
            return Ignored(f"an answer to id {bytes(message.id)[:64]!r}, which nobody waits for")
        if message.error:
            return Answered(call, True, bytes(message.error))
        result: Raw | Large = message.result
        if len(result) <= COPIED:
            return Answered(call, False, bytes(result))
        return Answered(call, False, result if isinstance(result, Large) else memoryview(result))

    def _progress(self, message: Message) -> Outcome:
        try:
            params = jsonrpc.members(message.params)
        except Refused:
            return Ignored("progress without params")
        id = _integer(params.get("progressToken", jsonrpc.ABSENT))
        call = None if id is None else self.calls.get(id)
        if call is None or not call.token:
            return Ignored("progress for a call that nobody waits for")
        params["progressToken"] = Raw(call.token)
        return Progressed(call, jsonrpc.notification(PROGRESS, jsonrpc.assemble(params)))


def _integer(raw: Raw) -> int | None:
    text = bytes(raw)
    if not text.isdigit():
        text = text.strip(b'"')
    return int(text) if text.isdigit() and len(text) < 19 else None
