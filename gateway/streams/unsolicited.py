"""What upstreams say to a client while no call of it is in flight: from the worker to the session's standing stream.

Counterpart: ``worker.input.unsolicited``. Messages of one session keep their order; notifications that come faster
than Redis takes them make room for newer ones.
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


class UnsolicitedMessages:
    """See the module. ``limit``: messages of one session that may wait, ``bytes_limit``: their bytes."""

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
        """A worker has something for a session; ``dropped``: so many before it were dropped there."""
        waiting = self._waiting.get(sid)
        if waiting is None:
            waiting = self._waiting[sid] = Waiting(self._limit, self._bytes_limit)
            spawn(self._pass_on(sid, waiting), "aside")
        waiting.dropped += dropped
        waiting.push(message)  # of questions the worker bounds how many a session can have open

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
