"""Accepting client connections.

The event loop's own server (libuv's) closes each connection that it has no file descriptor for, and all front ends of a
gateway accept from one socket: a single one without descriptors would get, and end, most of the connections that others
have room for. This one leaves them in the queue of the socket, where another front end takes them, or they wait. It
accepts a few at a time, so that a crowd finds no descriptors used that are kept back for the process itself (``room``).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable, Sequence

from shared.tasks import spawn

_log = logging.getLogger(__name__)
_AT_ONCE = 16
_PAUSE_S = 0.1
_BETWEEN_LOGS_S = 60.0
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class Accepting:
    """Accepts from ``sockets`` until it is stopped. ``make`` returns the protocol of a connection. ``exhausted`` is
    called when no descriptor is free."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        make: Callable[[], asyncio.BaseProtocol],
        exhausted: Callable[[], None] = lambda: None,
    ) -> None:
        self._sockets = list(sockets)
        self._make = make
        self._exhausted = exhausted
        self._loop = asyncio.get_running_loop()
        self._logged_at = float("-inf")
        self._stopped = False
        for listening in self._sockets:
            listening.setblocking(False)
            self._begin(listening)

    def stop(self) -> None:
        """Accept no more."""
        self._stopped = True
        for listening in self._sockets:
            self._loop.remove_reader(listening.fileno())
            listening.close()

    def _begin(self, listening: socket.socket) -> None:
        if not self._stopped:
            self._loop.add_reader(listening.fileno(), self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                accepted, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    raise
                self._pause(listening, error)
                return
            spawn(self._connect(accepted), "accepted")

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        self._loop.remove_reader(listening.fileno())
        self._loop.call_later(_PAUSE_S, self._begin, listening)
        self._exhausted()
        if self._loop.time() - self._logged_at > _BETWEEN_LOGS_S:
            self._logged_at = self._loop.time()
            _log.warning("new connections wait: %s; raise the limit of open files (ulimit -n)", error.strerror)

    async def _connect(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        try:
            with contextlib.suppress(OSError):  # the client is gone
                await self._loop.connect_accepted_socket(self._make, accepted)
                return
        except BaseException:
            accepted.close()
            raise
        accepted.close()
