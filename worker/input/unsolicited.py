"""What upstreams say to a client while no call of it is in flight, on upstream sessions that are its own.

The handshake era lets a server ask and tell at any time (2025-11-25, basic/transports, "Listening for Messages from the
Server"): roots after they changed, an elicitation from a background job, that an elicitation by URL is done. It goes to
the client's standing stream, by way of any front end. A question waits ``standingWait`` until it is on a stream that
the client has open, then ``inputTimeout`` for the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from shared.mcp import jsonrpc
from shared.mcp.methods import CANCELLED
from shared.settings import Settings
from shared.tasks import Deadlines
from worker.bridge import inputs
from worker.bridge.inputs import MAX_REQUESTS, Need
from worker.calls.calls import ClientFacts
from worker.input.broker import FULL, TOO_LARGE, InputBroker, Settle

Send = Callable[[str, bytes, int, bool], bool]
"""Takes a client session, a JSON-RPC message for its standing stream, how many before it were dropped, and whether it
must go; false when no front end takes it."""


class Question:
    """One open question; ``worker.input.broker.Asker``."""

    __slots__ = ("_beside", "ask", "expires_at", "session", "settle", "shown", "size")

    def __init__(self, beside: UnsolicitedMessages, session: str, settle: Settle, expires_at: float, size: int) -> None:
        self._beside = beside
        self.session = session
        self.settle = settle
        self.expires_at = expires_at
        self.size = size
        self.shown = False
        self.ask = ""

    def replied(self, ask: str, now: float) -> Settle:
        """It is answered, or not to be answered any more."""
        self.expires_at = 0.0
        self._beside.closed(self)
        return self.settle

    def take_back(self, ask: str) -> None:
        """Tell the client that it need not answer."""
        self._beside.tell(self.session, jsonrpc.notification(CANCELLED, msgspec.json.encode({"requestId": ask})))

    def withdrawn(self, settle: Settle) -> None:
        """The upstream takes it back, or is gone."""
        self._beside.needs.withdraw(self, self.ask)

    def expire(self) -> None:
        """Nobody was there to be asked, or nobody answered."""
        why = "the client did not answer in time" if self.shown else "the client has no stream on which to be asked"
        self._beside.needs.withdraw(self, self.ask)
        self.settle(True, jsonrpc.error_object(-32603, why))


class UnsolicitedMessages:
    """See the module. One in each worker; ``send`` reaches a front end, ``inquire`` asks all of them for a stream."""

    def __init__(
        self, needs: InputBroker, deadlines: Deadlines, settings: Settings, send: Send, inquire: Callable[[str], None]
    ) -> None:
        self.needs = needs
        self._deadlines = deadlines
        self._settings = settings
        self._send = send
        self.inquire = inquire
        self._loop = asyncio.get_running_loop()
        self._limit = settings.sessions.replay_bytes  # of what is open for a session, and so of each message
        self._open: dict[str, tuple[int, int]] = {}  # questions of a session, and their bytes
        self._dropped: dict[str, int] = {}

    def ask(self, session: str, client: ClientFacts, need: Need, settle: Settle) -> Question | None:
        """Ask the client of ``session``; ``settle`` gets its answer. ``None``: it was refused at once."""
        why = inputs.refusal(client.declared, need.method, need.params, client.alone)
        if why is not None:
            settle(True, jsonrpc.error_object(*why))
            return None
        count, size = self._open.get(session, (0, 0))
        if size + len(need.params) > self._limit:
            settle(True, TOO_LARGE)
            return None
        until = self._loop.time() + self._settings.sessions.standing_wait_s
        question = Question(self, session, settle, until, len(need.params))
        ask = self.needs.enter(question) if count < MAX_REQUESTS else None
        if ask is None:
            settle(True, FULL)
            return None
        question.ask = ask
        self._open[session] = count + 1, size + question.size
        self._deadlines.add(question)
        message = jsonrpc.request(msgspec.json.encode(ask), need.method, self.needs.addressed(ask, need))
        if not self._pass(session, message, True):
            question.expire()
            return None
        return question

    def tell(self, session: str, message: bytes) -> None:
        """A notification for the client of ``session``; dropped, and counted, when no front end takes it."""
        if len(message) > self._limit or not self._pass(session, message, False):
            self._dropped[session] = self._dropped.get(session, 0) + 1

    def _pass(self, session: str, message: bytes, must: bool) -> bool:
        sent = self._send(session, message, self._dropped.get(session, 0), must)
        if sent:
            self._dropped.pop(session, None)
        return sent

    def end_session(self, session: str) -> None:
        """Nobody is to be told any more."""
        self._dropped.pop(session, None)

    def shown(self, question: Question) -> None:
        """It is on a stream that the client has open: from now on it is the client's time that runs."""
        if not question.shown and question.expires_at:
            question.shown = True
            question.expires_at = self._loop.time() + self._settings.calls.input_timeout_s
            self._deadlines.move(question)

    def closed(self, question: Question) -> None:
        """It is not open any more."""
        count, size = self._open.pop(question.session)
        if count > 1:
            self._open[question.session] = count - 1, size - question.size
