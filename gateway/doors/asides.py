"""What upstreams say to a client while no call of it is in flight: from the worker to the session's standing stream.

Counterpart: ``worker.beside``. Messages of one session keep their order; notifications that come faster than Redis
takes them make room for newer ones.
"""

from __future__ import annotations

import logging
from collections import deque

from gateway.doors.sessions import SessionTable
from gateway.doors.standing import TOLD
from gateway.doors.streams import Streams, ask_of
from gateway.fleet.pool import WorkerPool
from shared.errors import RegistryUnavailable
from shared.mcp import jsonrpc
from shared.tasks import spawn

_log = logging.getLogger(__name__)


class Asides:
    """See the module. ``limit``: messages of one session that may wait, ``bytes_limit``: their bytes."""

    def __init__(
        self, sessions: SessionTable, streams: Streams, pool: WorkerPool, limit: int, bytes_limit: int
    ) -> None:
        self._sessions = sessions
        self._streams = streams
        self._pool = pool
        self._limit = limit
        self._bytes_limit = bytes_limit
        self._waiting: dict[str, deque[bytes]] = {}
        self._dropped: dict[str, int] = {}

    def take(self, sid: str, message: bytes, dropped: int) -> None:
        """A worker has something for a session; ``dropped``: so many before it were dropped there."""
        if dropped:
            self._dropped[sid] = self._dropped.get(sid, 0) + dropped
        waiting = self._waiting.get(sid)
        if waiting is None:
            waiting = self._waiting[sid] = deque()
            spawn(self._pass_on(sid, waiting), "aside")
        waiting.append(message)
        while len(waiting) > self._limit or sum(map(len, waiting)) > self._bytes_limit:
            oldest = next((one for one in waiting if one.startswith(TOLD)), None)
            if oldest is None:
                break  # the worker bounds the questions that a session can have open
            waiting.remove(oldest)
            self._dropped[sid] = self._dropped.get(sid, 0) + 1

    async def _pass_on(self, sid: str, waiting: deque[bytes]) -> None:
        try:
            while waiting:
                messages = list(waiting)
                waiting.clear()
                session = await self._sessions.find(sid, used=False)
                dropped = self._dropped.pop(sid, 0)
                try:
                    if session is None:
                        self._refuse(sid, messages, "the client's session has ended")
                    else:
                        await self._streams.pass_on(session, messages, dropped)
                except RegistryUnavailable:
                    self._refuse(sid, messages, "the front end that holds the client's stream cannot be reached")
        finally:
            del self._waiting[sid]
            self._dropped.pop(sid, None)

    def _refuse(self, sid: str, messages: list[bytes], why: str) -> None:
        for message in messages:
            ask = ask_of(message)
            if ask:
                self._pool.reply(ask, sid, True, jsonrpc.error_object(-32603, why))
            else:
                _log.info("a notification for a client is dropped: %s", why)
