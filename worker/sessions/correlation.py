"""Which answer belongs to which call, on one upstream session. Pure.

Requests are sent under ids of the gateway's own (integers). The progress token is the same integer. What arrives is
sorted into one of the outcomes below. Answers for which no call waits are ``Ignored``, so a second answer, or an answer
to an id that was never sent, reaches no client.
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

_NO_ERROR = (b"{}", b"[]", b'""', b"false", b"0")
"""What some servers have in ``error`` beside a result, because there is no error."""


class Answered(Struct, gc=False):
    """The answer to ``call``: the JSON of its result or error. A large result is a view of the bytes that arrived."""

    call: Call
    is_error: bool
    raw: Body


class Progressed(Struct, gc=False):
    """A progress notification for ``call``, with the client's own token in it."""

    call: Call
    message: bytes


class Asked(Struct, gc=False):
    """The upstream asks a client. ``id`` is the JSON of the upstream's request id."""

    id: bytes
    method: str
    params: bytes


class Announced(Struct, gc=False):
    """A notification that is not tied to a call by its token."""

    method: str
    params: bytes


class Ignored(Struct, gc=False):
    """A message that needs no action. ``reason`` is for the log."""

    reason: str


Outcome = Answered | Progressed | Asked | Announced | Ignored


class Correlation:
    """The calls in flight on one session."""

    def __init__(self) -> None:
        self.calls: dict[int, Call] = {}
        self._last = random.randrange(1 << 40)  # sessions use different ids, so a stray answer matches no call

    def begin(self, call: Call) -> int:
        """Return a new id for ``call``."""
        self._last += 1
        self.calls[self._last] = call
        return self._last

    def id_of(self, call: Call) -> int | None:
        """Return the id under which ``call`` was sent, or ``None`` if it is not in flight."""
        return next((id for id, other in self.calls.items() if other is call), None)

    def forget(self, id: int) -> Call | None:
        """Remove the call with ``id`` and return it, or ``None`` if there is none."""
        return self.calls.pop(id, None)

    def drain(self) -> list[Call]:
        """Remove and return all calls in flight."""
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
        if message.error and not (message.result and bytes(message.error) in _NO_ERROR):
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
