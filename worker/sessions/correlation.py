"""Which answer belongs to which call, on one upstream session. Pure.

Requests go up under ids of our own (integers); the progress token is the same integer. What comes back is
sorted into one of the outcomes below. Answers that nobody waits for are ``Ignored``: an upstream that
answers twice, or an id it was never sent, reaches no client.
"""

from __future__ import annotations

import random

from msgspec import Raw, Struct

from shared.errors import Refused
from shared.mcp import jsonrpc
from shared.mcp.jsonrpc import Message
from shared.mcp.methods import PROGRESS
from shared.mcp.rope import Body, Large
from shared.rpc.framing import COPIED
from worker.calls.call import Call
from worker.sessions.attribution import integer


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


Outcome = Answered | Progressed | Asked | Announced | Ignored


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
        id = integer(message.id)
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
        id = integer(params.get("progressToken", jsonrpc.ABSENT))
        call = None if id is None else self.calls.get(id)
        if call is None or not call.token:
            return Ignored("progress for a call that nobody waits for")
        params["progressToken"] = Raw(call.token)
        return Progressed(call, jsonrpc.notification(PROGRESS, jsonrpc.assemble(params)))
