"""What a client sees that no other client does: the lists of the upstream sessions that belong to it alone.

Counterpart: ``worker.ownership.own_lists``, which is asked when a client of the handshake era lists something and a
group keeps a session for each client. Most upstreams list the same for all clients. That is remembered for each kind of
client (what it says of itself) and catalogue, so only the first client of a kind asks, and those whose upstream session
has announced a change, of which every front end is notified.

``ClientSession.own`` has, by group and kind of list, the digest of a list that only this client sees, ``_UNKNOWN`` or
``_AS_ALL``.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging

from msgspec import Struct

from gateway.calls.events import Answered, Failure
from gateway.fleet.dispatch import Abandoned, Dispatcher
from gateway.fleet.outgoing import Bound, Outgoing
from gateway.fleet.registry_view import RegistryView
from gateway.routing.catalog import parse_list
from gateway.routing.entries import Entry
from gateway.routing.routes import Group, Replica, Route
from gateway.routing.unlisted import unlisted
from gateway.routing.view import View, ViewKey
from gateway.sessions.session import ClientSession
from shared.errors import CallError, OutcomeUnknown
from shared.mcp.listings import Kind
from shared.mcp.methods import OWN_LIST
from shared.mcp.versions import Era
from shared.settings import RoutingSettings
from shared.tasks import spawn

_log = logging.getLogger(__name__)
_MAX_KINDS = 4096
"""How many kinds of clients are remembered that an upstream lists the same for as for all."""
_MAX_VIEWS = 256
"""How many views with own lists are kept, for the clients that see the same."""
_AGAIN_S = 60.0
"""An upstream that did not say in time what it lists for a client is not asked again for so long."""
_UNKNOWN, _AS_ALL = b"?", b""
OwnKey = tuple[str, Kind]
"""A group, and the kind of list."""
ClientKind = tuple[str, str, Kind, bytes, bytes]
"""An upstream and the digest of its lists, the kind of list, and what the client says of itself."""


class _Document(Struct, gc=False):
    """A list of a client's own: its digest, and its entries. Clients that see the same share one."""

    digest: bytes
    size: int
    entries: list[Entry]


class OwnLists:
    """The own lists of the sessions at this front end, and the views made with them."""

    def __init__(self, registry: RegistryView, dispatcher: Dispatcher, settings: RoutingSettings) -> None:
        self._registry = registry
        self._dispatcher = dispatcher
        self._settings = settings
        self._as_all: dict[ClientKind, float] = {}  # until which loop time this is taken to be so
        self._documents: dict[tuple[str, Kind, bytes], _Document] = {}
        self._size = 0
        self._views: dict[tuple[ViewKey, tuple[tuple[OwnKey, bytes], ...]], View] = {}
        self._generation = -1
        self._asking: dict[tuple[str, str, Kind], asyncio.Task[None]] = {}

    # ---- what is known without asking

    def wants(self, session: ClientSession | None, view: View, kind: Kind) -> bool:
        """Whether a worker has to be asked what the client's own upstream sessions list."""
        return session is not None and any(self._is_unknown(group, kind, session) for group in view.groups.values())

    def _is_unknown(self, group: Group, kind: Kind, session: ClientSession) -> bool:
        if not group.binds:
            return False
        noted = (session.own or {}).get((group.name, kind))
        if noted is not None:
            return noted != _AS_ALL
        now = self._dispatcher.now()
        return not all(self._is_as_all(replica, kind, session, now) for replica in group.replicas if replica.binds)

    def _is_as_all(self, replica: Replica, kind: Kind, session: ClientSession, now: float) -> bool:
        until = self._as_all.get(_kind_of(replica, kind, session), 0.0)
        return until > now and (session.fresh or until != float("inf"))

    def changed(self, upstream: str, kind: str, session: ClientSession | None) -> None:
        """Take the news that an upstream may list something else for a session."""
        replica = self._registry.catalog.replica(upstream)
        if session is not None and replica is not None:
            _note(session, (replica.record.spec.name, Kind(kind)), _UNKNOWN)

    def view_of(self, session: ClientSession | None, view: View) -> View:
        """Return ``view`` with the client's own lists, as far as they are remembered here."""
        if session is None or not session.own:
            return view
        if self._generation != self._registry.catalog.generation:
            self._generation = self._registry.catalog.generation
            self._views.clear()
        own: dict[str, dict[Kind, list[Entry]]] = {}
        shown: list[tuple[OwnKey, bytes]] = []
        for (group, kind), digest in sorted(session.own.items()):
            document = self._documents.get((group, kind, digest))
            if document is not None and group in view.groups:
                own.setdefault(group, {})[kind] = document.entries
                shown.append(((group, kind), digest))
        if not own:
            return view
        key = view.key, tuple(shown)
        widened = self._views.get(key)
        if widened is None:
            if len(self._views) >= _MAX_VIEWS:
                del self._views[next(iter(self._views))]
            widened = self._views[key] = self._registry.views.with_own(view.key, own)
        return widened

    def find(self, session: ClientSession | None, view: View, kind: Kind, name: str) -> Route | None:
        """Return the route of a name that the client's own upstream sessions list, or ``None``."""
        widened = self.view_of(session, view)
        return None if widened is view else widened.find(kind, name)

    def beyond(self, session: ClientSession | None, view: View, kind: Kind, name: str) -> list[Route]:
        """Return routes on which a name goes up though nobody lists it: to own sessions that list something else than
        others do."""
        if session is None or not session.own:
            return []
        differing = [group for (group, _), noted in session.own.items() if noted != _AS_ALL]
        return unlisted(view, kind, name, list(dict.fromkeys(differing)))

    # ---- asking

    async def widen(self, session: ClientSession | None, view: View, kind: Kind) -> View:
        """Return ``view`` with what the client's own upstream sessions list now.

        Upstreams that do not say so in time (``ownListTimeout``) are left out, and not asked for a while.
        """
        if session is None:
            return view
        groups = [group for group in view.groups.values() if self._is_unknown(group, kind, session)]
        tasks = [self._ask(group, kind, session) for group in groups]
        if tasks:
            await asyncio.wait(tasks, timeout=self._settings.own_list_timeout_s)
        return self.view_of(session, view)

    def _ask(self, group: Group, kind: Kind, session: ClientSession) -> asyncio.Task[None]:
        """Begin to ask. A client that lists again meanwhile waits for the same answer."""
        key = (session.sid, group.name, kind)
        task = self._asking.get(key)
        if task is None:
            task = self._asking[key] = spawn(self._learn(group, kind, session), "own-list")
            task.add_done_callback(lambda done: self._asking.pop(key, None))
        return task

    async def _learn(self, group: Group, kind: Kind, session: ClientSession) -> None:
        call = Outgoing(
            method=OWN_LIST,
            name=kind.value,
            group=group.name,
            principal=session.principal,
            route=group.any_route(),
            params=b"{}",
            era=Era.LEGACY,
            affinity=Bound(session),
            session=session,
            id=b'"%b"' % kind.value.encode(),
        )
        asked: list[Replica] = [replica for replica in group.replicas if replica.binds]
        answer: bytes | None = None
        try:
            id, answer = await self._answer_to(call)
            asked = [replica for replica in asked if replica.id == id]
        except (CallError, ConnectionError) as error:
            _log.debug("what %s lists for a client is not known: %s", group.name, error)
        if answer is None or answer == b"null":
            self._note_as_all(asked, kind, session, answer is None)
            if answer is not None:
                _note(session, (group.name, kind), _AS_ALL)
        elif asked:
            self._keep(group.name, kind, session, asked[0], answer)

    async def _answer_to(self, call: Outgoing) -> tuple[str, bytes]:
        """Return which upstream answered, and its answer. Raises ``CallError``, or ``ConnectionError``."""
        try:
            in_flight, event = await self._dispatcher.send(call)
        except Abandoned as gone:
            gone.in_flight.cancel("the front end stops")
            raise
        while not isinstance(event, Answered | Failure):
            event = await in_flight.next()
        if isinstance(event, Failure):
            self._dispatcher.complete(in_flight, event.code)
            raise OutcomeUnknown(event.code, event.message)
        self._dispatcher.answered(in_flight, event)
        body = event.body if event.stream is None else await event.stream.whole()
        return in_flight.replica.id, bytes(body)

    def _note_as_all(self, asked: list[Replica], kind: Kind, session: ClientSession, failed: bool) -> None:
        until = self._dispatcher.now() + _AGAIN_S if failed else float("inf")
        for replica in asked:
            if len(self._as_all) >= _MAX_KINDS:
                del self._as_all[next(iter(self._as_all))]
            self._as_all[_kind_of(replica, kind, session)] = until

    def _keep(self, group: str, kind: Kind, session: ClientSession, replica: Replica, answer: bytes) -> None:
        digest = hashlib.sha256(answer).digest()
        if (group, kind, digest) not in self._documents:
            entries = parse_list(replica.record.spec, kind, answer)
            self._documents[group, kind, digest] = _Document(digest, len(answer), entries)
            self._size += len(answer)
        while self._size > self._settings.own_lists_bytes and len(self._documents) > 1:
            oldest = next(iter(self._documents))
            self._size -= self._documents.pop(oldest).size
        _note(session, (group, kind), digest)
        self._as_all.pop(_kind_of(replica, kind, session), None)


def _note(session: ClientSession, key: OwnKey, noted: bytes) -> None:
    """Note what is known. What all clients of its kind see needs no note while the session was opened here."""
    if noted == _AS_ALL and session.fresh:
        if session.own:
            session.own.pop(key, None)
    elif session.own is None:
        session.own = {key: noted}
    else:
        session.own[key] = noted


def _kind_of(replica: Replica, kind: Kind, session: ClientSession) -> ClientKind:
    return replica.id, replica.record.catalog.digest, kind, session.capabilities, session.client_info
