"""Asking the supervisor of this front end for a rolling restart, and reading what became of it.

Counterparts: ``gateway.supervisor.rolling``, ``gateway.cli.restart``.
"""

from __future__ import annotations

import os
import secrets
import socket

from shared import supervision
from shared.errors import EntryNotFound, RestartRefused
from shared.models import now_s
from shared.registry.rolls import Roll, Rolls
from shared.registry.store import RegistryStore

_HEARD_S = 2.0
"""How long the supervisor may take to write that it has begun, before another request is taken."""


class Restarting:
    """The restarts of the gateway to which this front end belongs."""

    def __init__(self, store: RegistryStore) -> None:
        self._rolls = Rolls(store, f"{socket.gethostname()}:{os.environ.get('GATEWAY_SUPERVISOR_PID', '')}")
        self._asked, self._asked_at = "", 0.0

    async def ask(self) -> str:
        """Ask for a restart; return the id that its record will have. Raises ``RestartRefused``."""
        roll = await self._rolls.read()
        begun = roll is not None and roll.id == self._asked
        if (roll is not None and roll.state == "running") or (not begun and now_s() - self._asked_at < _HEARD_S):
            raise RestartRefused("a restart is under way; ask again when it is over")
        id = secrets.token_hex(8)
        supervision.ask(id)
        self._asked, self._asked_at = id, now_s()
        return id

    async def last(self) -> Roll:
        """Return the last restart, which may be under way. Raises ``EntryNotFound`` if there was none."""
        roll = await self._rolls.read()
        if roll is None:
            raise EntryNotFound("there was no restart since this gateway was started")
        return roll
