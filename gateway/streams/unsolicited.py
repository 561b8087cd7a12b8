"""Messages of upstreams to a client that has no call in flight there: from the worker to the session's standing stream.

Counterpart: ``worker.input.unsolicited``. Messages of one session keep their order. When notifications come faster than
Redis takes them, the oldest are dropped.
"""

from __future__ import annotations

import logging

from gateway.fleet.pool import WorkerPool
from gateway.sessions.table import SessionTable
from gateway.streams.standing_stream import Waiting
from gateway.streams.standing_streams import StandingStreams, question_id_of
from shared.errors import RegistryUnavailable
from shared.mcp import jsonrpc
from shared.tasks import spawn

_log = logging.getLogger(__name__)


class UnsolicitedDelivery:
    """Passes unsolicited messages on. Of one session, ``limit`` messages and ``bytes_limit`` bytes may wait."""

    def __init__(
        self, sessions: SessionTable, streams: StandingStreams, pool: WorkerPool, limit: int, bytes_limit: int
    ) -> None:
        self._sessions = sessions
        self._streams = streams
        self._pool = pool
        self._limit = limit
        self._bytes_limit = bytes_limit
        self._waiting: dict[str, Waiting] = {}

    def take(self, sid: str, message: bytes, dropped: int) -> None:
        """Pass on a worker's message for a session; ``dropped`` is how many before it the worker dropped."""
        waiting = self._waiting.get(sid)
        if waiting is None:
            waiting = self._waiting[sid] = Waiting(self._limit, self._bytes_limit)
            spawn(self._pass_on(sid, waiting), "aside")
        waiting.dropped += dropped
        waiting.push(message)  # questions are never dropped here: the worker bounds how many a session has open

    async def _pass_on(self, sid: str, waiting: Waiting) -> None:
        try:
            while waiting:
                messages = [waiting.take()[0] for _ in range(len(waiting))]
                dropped, waiting.dropped = waiting.dropped, 0
                session = await self._sessions.find(sid, used=False)
                try:
                    if session is None:
                        self._refuse(sid, messages, "the client's session has ended")
                    else:
                        await self._streams.pass_on(session, messages, dropped)
                except RegistryUnavailable:
                    self._refuse(sid, messages, "the front end that holds the client's stream cannot be reached")
        finally:
            del self._waiting[sid]

    def _refuse(self, sid: str, messages: list[bytes], why: str) -> None:
        for message in messages:
            question_id = question_id_of(message)
            if question_id:
                self._pool.reply(question_id, sid, True, jsonrpc.error_object(-32603, why))
            else:
                _log.debug("a notification for a client is dropped: %s", why)
