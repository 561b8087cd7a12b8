"""Sessions of one upstream that are lent to calls of clients without a session: those of one principal, to nobody
else."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from shared.mcp.versions import Era
from shared.tasks import spawn
from worker.calls.call import Call
from worker.calls.client_facts import ClientFacts
from worker.sessions.context import UpstreamSession
from worker.sessions.session import Session

PoolKey = tuple[str, bytes]
"""A principal, and the capabilities that its client declares."""


class Leases:
    """The sessions that are lent. Their length is their number. ``most`` is how many there are of one kind; ``make``
    returns a new one, or raises ``CallError``."""

    def __init__(self, most: int, make: Callable[[Era, ClientFacts], Session]) -> None:
        self._most = most
        self._make = make
        self._pools: dict[PoolKey, list[Session]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._pools.values()))

    def __iter__(self) -> Iterator[Session]:
        """Iterate over all of them."""
        return itertools.chain.from_iterable(self._pools.values())

    def lend(self, call: Call, era: Era) -> Session:
        """Return an idle session of the same principal, or a new one, or at the pool's limit the least used one. Raises
        ``CallError`` if there is no room for another one."""
        call.learn_client()
        pool = self._pools.setdefault((call.client.principal, call.client.capabilities), [])
        for session in pool:
            if not session.active and not session.closed:
                return session
        pool[:] = [session for session in pool if not session.closed]
        if len(pool) >= self._most:
            return min(pool, key=lambda session: session.active)
        session = self._make(era, call.client)
        pool.append(session)
        return session

    def forget(self, session: UpstreamSession) -> None:
        """Lend a session that has ended no more."""
        for pool in self._pools.values():
            pool[:] = [one for one in pool if one is not session]

    def clear(self) -> None:
        """Lend none of the sessions any more."""
        self._pools = {}

    def trim(self, deadline: float) -> None:
        """Close the sessions that were not used since ``deadline``, a time of the loop."""
        for key, pool in list(self._pools.items()):
            for session in [one for one in pool if not one.active and one.last_used < deadline]:
                pool.remove(session)
                spawn(session.close(), "close-upstream-session")
            if not pool:
                del self._pools[key]
