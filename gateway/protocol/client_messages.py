"""Messages of handshake-era clients that are not requests: notifications, and responses to questions of upstreams."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from gateway.admission.caller import Caller
from gateway.fleet.dispatch import Dispatcher
from gateway.fleet.pool import WorkerPool
from gateway.sessions.session import ClientSession
from gateway.telemetry.elicitations import Elicitations
from shared.errors import Refused
from shared.mcp import jsonrpc
from shared.mcp.jsonrpc import Message
from shared.mcp.methods import CANCELLED, INITIALIZED, PROGRESS, ROOTS_CHANGED
from shared.mcp.once import check_members
from shared.rpc.framing import too_long


def check(message: Message) -> None:
    """Raise ``Refused`` if a message that is no request has a member twice, or ``params`` that are no object."""
    if message.method:
        jsonrpc.decode_params(message)
    else:
        check_members(bytes(message.error or message.result))


class ClientMessages:
    """Takes notifications and responses, and passes them on to workers."""

    def __init__(self, dispatcher: Dispatcher, pool: WorkerPool, elicitations: Elicitations | None = None) -> None:
        """``elicitations`` notes the answers of people, where there is an audit log."""
        self._dispatcher = dispatcher
        self._elicitations = elicitations
        self._pool = pool
        self._notifications: dict[str, Callable[[ClientSession, Message], None]] = {
            INITIALIZED: lambda session, message: None,
            CANCELLED: self._cancelled,
            PROGRESS: self._progressed,
            ROOTS_CHANGED: lambda session, message: pool.roots_changed(session.sid),
        }

    async def take(self, caller: Caller, message: Message) -> None:
        """Carry out a cancellation, or pass on a response or a notification.

        A notification that the gateway does not know goes on only at an endpoint of one group. A message without a
        session is dropped, because it has nothing to refer to.
        """
        session = caller.session
        if session is None:
            return
        if not message.method:
            if message.id:
                self._answered(session, message)
            return
        known = self._notifications.get(message.method)
        if known is not None:
            known(session, message)
        elif not too_long(message.method):
            await self._pass_on(caller, session, message)

    async def _pass_on(self, caller: Caller, session: ClientSession, message: Message) -> None:
        route = caller.view.passthrough
        if route is not None and not caller.view.denies(message.method):
            notification = jsonrpc.notification(message.method, message.params)
            await self._dispatcher.notify(route, session, notification)

    def _cancelled(self, session: ClientSession, message: Message) -> None:
        try:
            parts = jsonrpc.few_members(message.params)
        except Refused:
            return  # "Invalid cancellation notifications SHOULD be ignored" (Cancellation, "Error Handling")
        id = bytes(parts.get("requestId", b""))
        if len(id) > jsonrpc.MAX_ID:
            return
        in_flight = session.call(id)
        if in_flight is not None:
            in_flight.cancel("cancelled by the client")
        else:
            self._pool.cancel_request(session.sid, id)

    def _answered(self, session: ClientSession, message: Message) -> None:
        """Pass on the response to a question of an upstream."""
        question_id = msgspec.json.decode(message.id)
        if isinstance(question_id, str):
            is_error = bool(message.error)
            if self._elicitations is not None and not is_error:
                self._elicitations.answered(session, bytes(message.id), bytes(message.result))
            self._pool.reply(question_id, session.sid, is_error, bytes(message.error if is_error else message.result))

    def _progressed(self, session: ClientSession, message: Message) -> None:
        """Pass on the client's progress with a question of an upstream."""
        try:
            token = jsonrpc.few_members(message.params).get("progressToken", jsonrpc.ABSENT)
            question_id = jsonrpc.text(token, "progressToken")
        except Refused:
            return  # tokens of questions are strings
        self._pool.question_news(question_id, session.sid, bytes(message.params))
