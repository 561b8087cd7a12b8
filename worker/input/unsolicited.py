"""Messages from an upstream to a client that has no call in flight. Counterpart: ``gateway.streams.unsolicited``.

Such messages arrive on upstream sessions that belong to one client alone. The handshake era lets a server send requests
and notifications at any time (2025-11-25, basic/transports, "Listening for Messages from the Server"): a request for
roots after they changed, an elicitation from a background job, the end of an elicitation by URL. Messages go to the
client's standing stream, through any front end. A question waits ``standingWait`` until it is on a stream that the
client has open, then ``inputTimeout`` for the answer.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec

from shared.mcp import jsonrpc
from shared.mcp.methods import CANCELLED
from shared.settings import Settings
from shared.tasks import Deadlines
from worker.bridge import inputs
from worker.bridge.inputs import MAX_REQUESTS, Need
from worker.calls.call import OnAnswer
from worker.calls.client_facts import ClientFacts
from worker.input.broker import FULL, TOO_LARGE, InputBroker


class FrontEndReach(Protocol):
    """The front ends that are linked to this worker (``worker.front_ends``)."""

    def send_to_client(self, sid: str, message: bytes, dropped: int, must: bool) -> bool:
        """Send a JSON-RPC message for a session's standing stream. Return false if no front end takes it.

        ``dropped`` is the number of messages that were dropped before this one. With ``must`` the message is sent even
        if the link is congested.
        """

    def inquire(self, sid: str) -> None:
        """Ask all front ends whether a session has its stream open there."""

    def own_list_changed(self, upstream: str, kind: str, sid: str) -> None:
        """Notify all front ends that an upstream may list something else for this session."""


class Question:
    """One open question. Implements ``worker.input.broker.Asker``."""

    __slots__ = ("_messages", "expires_at", "on_answer", "question_id", "session", "shown", "size")

    def __init__(
        self, messages: UnsolicitedMessages, session: str, on_answer: OnAnswer, expires_at: float, size: int
    ) -> None:
        self._messages = messages
        self.session = session
        self.on_answer = on_answer
        self.expires_at = expires_at
        self.size = size
        self.shown = False
        self.question_id = ""

    def replied(self, question_id: str, now: float) -> OnAnswer:
        """Note that the question is closed, and return the function that takes its answer."""
        self.expires_at = 0.0
        self._messages.closed(self)
        return self.on_answer

    def take_back(self, question_id: str) -> None:
        """Notify the client that it need not answer."""
        self._messages.tell(
            self.session, jsonrpc.notification(CANCELLED, msgspec.json.encode({"requestId": question_id}))
        )

    def withdrawn(self, on_answer: OnAnswer) -> None:
        """Withdraw the question, because the upstream withdrew it or is gone."""
        self._messages.broker.withdraw(self, self.question_id)

    def expire(self) -> None:
        """Answer the upstream with an error, because the client had no stream or did not answer."""
        why = "the client did not answer in time" if self.shown else "the client has no stream on which to be asked"
        self._messages.broker.withdraw(self, self.question_id)
        self.on_answer(True, jsonrpc.error_object(-32603, why))


class UnsolicitedMessages:
    """The open questions outside of calls, and what was dropped, for one worker."""

    def __init__(
        self, broker: InputBroker, deadlines: Deadlines, settings: Settings, front_ends: FrontEndReach
    ) -> None:
        self.broker = broker
        self._deadlines = deadlines
        self._settings = settings
        self._front_ends = front_ends
        self._loop = asyncio.get_running_loop()
        self._limit = settings.sessions.replay_bytes  # limit of a session's open questions, and of each message
        self._open: dict[str, tuple[int, int]] = {}  # by session: the number of its questions, and their bytes
        self._dropped: dict[str, int] = {}

    @property
    def remembers_anything(self) -> bool:
        """Whether a question is open, or the number of dropped messages is still to be sent to a session."""
        return bool(self._open or self._dropped)

    def ask(self, session: str, client: ClientFacts, need: Need, on_answer: OnAnswer) -> Question | None:
        """Ask the client of ``session``. ``on_answer`` gets the answer. Return ``None`` if the question was refused at
        once."""
        why = inputs.refusal(client.declared, need.method, need.params, client.alone)
        if why is not None:
            on_answer(True, jsonrpc.error_object(*why))
            return None
        count, size = self._open.get(session, (0, 0))
        if size + len(need.params) > self._limit:
            on_answer(True, TOO_LARGE)
            return None
        until = self._loop.time() + self._settings.sessions.standing_wait_s
        question = Question(self, session, on_answer, until, len(need.params))
        question_id = self.broker.enter(question) if count < MAX_REQUESTS else None
        if question_id is None:
            on_answer(True, FULL)
            return None
        question.question_id = question_id
        self._open[session] = count + 1, size + question.size
        self._deadlines.add(question)
        message = jsonrpc.request(
            msgspec.json.encode(question_id), need.method, self.broker.addressed(question_id, need)
        )
        if not self._pass(session, message, True):
            question.expire()
            return None
        return question

    def inquire(self, session: str) -> None:
        """Ask all front ends whether the client of ``session`` has a stream open there."""
        self._front_ends.inquire(session)

    def own_list_changed(self, upstream: str, kind: str, session: str) -> None:
        """Notify all front ends that an upstream may list something else for this session."""
        self._front_ends.own_list_changed(upstream, kind, session)

    def tell(self, session: str, message: bytes) -> None:
        """Send a notification to the client of ``session``. If no front end takes it, it is dropped and counted."""
        if len(message) > self._limit or not self._pass(session, message, False):
            self._dropped[session] = self._dropped.get(session, 0) + 1

    def _pass(self, session: str, message: bytes, must: bool) -> bool:
        sent = self._front_ends.send_to_client(session, message, self._dropped.get(session, 0), must)
        if sent:
            self._dropped.pop(session, None)
        return sent

    def end_session(self, session: str) -> None:
        """Forget what was dropped for a session that is over."""
        self._dropped.pop(session, None)

    def shown(self, question: Question) -> None:
        """Note that the question is on a stream that the client has open. From now on the client's time to answer
        runs."""
        if not question.shown and question.expires_at:
            question.shown = True
            question.expires_at = self._loop.time() + self._settings.calls.input_timeout_s
            self._deadlines.move(question)

    def closed(self, question: Question) -> None:
        """Note that a question is not open any more."""
        count, size = self._open.pop(question.session)
        if count > 1:
            self._open[question.session] = count - 1, size - question.size
