"""What upstreams list for one client alone, on the upstream session that belongs to that client.

Some servers register tools or resources for a session: after a login, or for clients that have roots. Most do not, so a
session is asked for its lists only once for each kind of client (what it says of itself) and catalogue, and whenever it
announces a change. What a session lists is never part of the catalogue, which is for clients that share sessions.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
from msgspec import Raw

from shared.errors import CallError
from shared.mcp import jsonrpc
from shared.mcp.listings import CHANGES, KINDS, Kind
from shared.registry.records import ListedCatalog
from shared.settings import Settings
from shared.tasks import spawn
from worker.calls.client_facts import ClientFacts
from worker.ownership.listing import read_list
from worker.ownership.listing_brake import ListingBrake
from worker.sessions.context import UnsolicitedPath, UpstreamSession

_log = logging.getLogger(__name__)
_MAX_KINDS = 256
"""How many kinds of clients are remembered whose lists are those of all."""
ClientKind = tuple[Kind, bytes, bytes]


class Catalogue(Protocol):
    """What the upstream lists for all clients, as the registry has it (``worker.ownership.inventory``)."""

    def listed(self) -> ListedCatalog:
        """Return the lists as they were read last, by any worker."""

    def announced(self, method: str) -> None:
        """Have the lists read again, because the upstream announced a change; clients are told of it."""

    def look(self) -> None:
        """Have the lists read again; clients are told if they find something else there."""


class _OneClient:
    """What is known of one client session: the digests of the lists that it was given, and what was announced."""

    def __init__(self) -> None:
        self.pending: dict[str, dict[Kind, str]] = {}  # announced, with what the client had been given by then
        self.announced: set[Kind] = set()  # lists that may not be those of all; front ends know which
        self.given: dict[Kind, str] = {}
        self.brake = ListingBrake()
        self.checking = False


class OwnLists:
    """The lists of the client sessions of one upstream."""

    def __init__(self, settings: Settings, catalogue: Catalogue, unsolicited: UnsolicitedPath) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._unsolicited = unsolicited
        self._loop = asyncio.get_running_loop()
        self._clients: dict[str, _OneClient] = {}
        self._as_all: dict[ClientKind, None] = {}
        self._digest = ""  # of the catalogue with which lists are compared
        self._of_all: dict[Kind, str] = {}  # the digests of its lists

    async def read(
        self, kind: Kind, sid: str, client: ClientFacts, session: Callable[[], Awaitable[UpstreamSession]]
    ) -> bytes | None:
        """Return what the client's own session lists (a JSON array), or ``None`` if that is what all clients see.

        ``session`` opens the client's session, if it is not open. Raises ``CallError``.
        """
        self._of_catalogue(kind)
        like = (kind, client.capabilities, client.client_info)
        known = self._clients.get(sid)
        if like in self._as_all and (known is None or kind not in known.announced):
            return None
        document = (await read_list(await session(), kind, self._settings)).document
        digest = digest_of(document)
        same = digest == self._of_catalogue(kind)
        if known is not None or not same:
            self._of(sid).given[kind] = digest
        if not same:
            self._as_all.pop(like, None)
        elif known is not None:
            known.announced.discard(kind)
        else:
            if len(self._as_all) >= _MAX_KINDS:
                del self._as_all[next(iter(self._as_all))]
            self._as_all[like] = None
        return None if same else document

    def _of_catalogue(self, kind: Kind) -> str:
        """Return the digest of a list of the catalogue. With a new catalogue all clients are compared again."""
        listed = self._catalogue.listed()
        if listed.digest != self._digest:
            self._digest = listed.digest
            self._as_all.clear()
            self._of_all.clear()
        if kind not in self._of_all:
            self._of_all[kind] = digest_of(listed.document(kind))
        return self._of_all[kind]

    def _of(self, sid: str) -> _OneClient:
        known = self._clients.get(sid)
        if known is None:
            known = self._clients[sid] = _OneClient()
        return known

    def end_client(self, sid: str) -> None:
        """Forget a client session whose upstream session is closed."""
        self._clients.pop(sid, None)

    def reopened(self, session: UpstreamSession) -> None:
        """Compare a session's lists again after it was lost and opened again: what it listed for its client is gone."""
        if session.sid_of_client in self._clients:
            for method in CHANGES:
                self.announced(session, method)

    def announced(self, session: UpstreamSession, method: str) -> None:
        """Handle that a client's own session announced a change: find out whether it concerns this client alone."""
        known = self._of(session.sid_of_client)
        kinds = [kind for kind, facts in KINDS.items() if facts.changed == method]
        for kind in kinds:
            self._mark(session, known, kind)
        if method not in known.pending:
            known.pending[method] = {kind: known.given.get(kind, self._of_catalogue(kind)) for kind in kinds}
        if not known.checking:
            known.checking = True
            spawn(self._check(session, known), "check-own-lists")

    def _mark(self, session: UpstreamSession, known: _OneClient, kind: Kind) -> None:
        """Note that a list may not be that of all clients, and notify the front ends of it."""
        if kind not in known.announced:
            known.announced.add(kind)
            self._unsolicited.own_list_changed(session.context.spec.id, kind.value, session.sid_of_client)

    async def _check(self, session: UpstreamSession, known: _OneClient) -> None:
        """Compare what a session lists with what its client has seen, until nothing more is announced."""
        try:
            while known.pending and not session.closed:
                await asyncio.sleep(known.brake.wait_s(self._loop.time()))
                pending, known.pending = known.pending, {}
                changed = [one for one, before in pending.items() if await self._differs(session, known, one, before)]
                known.brake.read(self._loop.time(), bool(changed))
                for method in changed:
                    self._unsolicited.tell(session.sid_of_client, jsonrpc.notification(method))
        except CallError as error:
            _log.debug("%s: the lists of a client could not be read: %s", session.context.spec.id, error)
        finally:
            known.checking = False

    async def _differs(self, session: UpstreamSession, known: _OneClient, method: str, before: dict[Kind, str]) -> bool:
        """Whether the lists that an announcement is about are not what the client was given ``before``.

        Lists that are those of all clients are announced by the catalogue, also where nothing can be seen to differ.
        """
        differs, as_all = False, True
        for kind, given in before.items():
            digest = digest_of((await read_list(session, kind, self._settings)).document)
            if digest == self._of_catalogue(kind):
                known.announced.discard(kind)
            else:
                as_all = False
                self._mark(session, known, kind)
            differs = differs or digest != given
            known.given[kind] = digest
        if as_all and not differs:
            self._catalogue.announced(method)
        elif not as_all:
            self._catalogue.look()  # it may be new for all
        return differs


def digest_of(document: bytes) -> str:
    """Return a digest of a list. The order of its entries does not count."""
    entries = sorted(bytes(raw) for raw in msgspec.json.decode(document, type=list[Raw]))
    found = hashlib.sha256()
    for raw in entries:
        found.update(b"%d:" % len(raw))
        found.update(raw)
    return found.hexdigest()
