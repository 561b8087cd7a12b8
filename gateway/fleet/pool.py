"""Links to all workers, opened when workers join and dropped when they leave, and the choice among them for a call."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Callable

from gateway.fleet.redial import Redial
from gateway.fleet.worker_affinity import WorkerAffinity
from gateway.fleet.worker_link import LinkEvents, WorkerLink
from gateway.routing.routes import Replica
from shared.errors import RegistryUnavailable
from shared.metrics.links import LinkTraffic
from shared.registry import deaths
from shared.registry.members import Members
from shared.rendezvous import first
from shared.rpc import link_tls
from shared.rpc.connection import SLACK, Link
from shared.rpc.handshake import FrontEndSide, HandshakeError
from shared.rpc.joining import Joining, of_tls
from shared.secrets import FleetKey
from shared.settings import Settings
from shared.tasks import next_tick, spawn

_log = logging.getLogger(__name__)
_LOOK_S = 2.0
_LIVED_S = 1.0
_CONNECT_S = 3.0
_PROOF_S = 3.0
"""The seconds within which a worker must prove itself once the connection is up."""

_TAKEN_OVER_S = 3.0
"""How long it may take another worker to take over what a dead one had, once it is known to be dead."""
_EXHAUSTED_S = 1.0
"""For how long a worker that could open no connection gets only calls that no other worker can take."""
_MAX_LOST = 1000
_MAX_CHOSEN = 100_000
"""The client sessions whose workers are remembered."""


class WorkerPool:
    """This front end's links, by worker id in ``links``."""

    def __init__(self, members: Members, frontend: str, key: FleetKey, settings: Settings) -> None:
        """Raises ``ConfigError`` for files of ``link`` that cannot be used."""
        self._tls = link_tls.of_front_end(settings.link)
        self._members = members
        self._frontend = frontend
        self._key = key
        self._settings = settings
        self.links: dict[str, WorkerLink] = {}
        self.traffic = LinkTraffic()
        self._connecting: set[str] = set()
        self._redial = Redial()
        self._affinity = WorkerAffinity()
        self._chosen: dict[str, dict[str, tuple[list[WorkerLink], WorkerLink]]] = {}
        """By client session and upstream: the links to choose from, and the one that was chosen."""
        self._wake = asyncio.Event()
        self._addresses: dict[str, str] = {}  # of the workers that are linked
        self._exhausted: set[str] = set()
        self._lost: dict[str, float] = {}  # when the link to a worker broke that may be dead, in loop seconds

    def link_for(self, replica: Replica, sid: str) -> WorkerLink | None:
        """Return a link to one of the replica's workers, or ``None`` if none can be reached.

        For one client session (``sid``, or empty) it is the same worker while the same workers can be reached.
        """
        if len(replica.workers) == 1:
            only = self.links.get(replica.workers[0])
            return only if only is not None and only.ready and not only.draining else None
        ready = [
            link
            for owner in replica.workers
            if (link := self.links.get(owner)) is not None and link.ready and not link.draining
        ]
        if len(ready) <= 1:
            return ready[0] if ready else None
        if self._exhausted and not (sid and replica.binds):
            ready = [link for link in ready if link.worker not in self._exhausted] or ready
        if sid:
            chosen = self._chosen.get(sid)
            known = chosen.get(replica.id) if chosen is not None else None
            return known[1] if known is not None and known[0] == ready else self._choose(sid, replica.id, ready)
        return self._affinity.choose(replica.workers, ready)

    def _choose(self, sid: str, upstream: str, ready: list[WorkerLink]) -> WorkerLink:
        best = first(f"{sid}\0{upstream}", [link.worker for link in ready])
        link = next(link for link in ready if link.worker == best)
        if len(self._chosen) >= _MAX_CHOSEN:
            self._chosen.clear()
        self._chosen.setdefault(sid, {})[upstream] = ready, link
        return link

    def is_moving(self, replica: Replica) -> bool:
        """Whether another worker is about to take the replica over: one that has it drains, or its link just broke."""
        recent = asyncio.get_running_loop().time() - self._settings.fleet.heartbeat_ttl_s - _TAKEN_OVER_S
        return any(
            self._lost.get(owner, 0.0) > recent if (link := self.links.get(owner)) is None else link.draining
            for owner in replica.workers
        )

    def look_elsewhere(self, replica: Replica, worker: str) -> None:
        """Note that ``worker`` does not have the replica, against what was read last from Redis, which does not answer:
        any other worker that is linked may have it. The next record of the replica says who has."""
        left = tuple(one for one in replica.workers if one != worker)
        replica.workers = left or tuple(sorted(one for one in self.links if one != worker)) or replica.workers

    def pass_over(self, worker: str) -> None:
        """Note that ``worker`` can open no connections to upstreams now: for a moment others are preferred."""
        self._exhausted.add(worker)
        asyncio.get_running_loop().call_later(_EXHAUSTED_S, self._exhausted.discard, worker)

    def leader_of(self, replica: Replica) -> WorkerLink | None:
        """Return a link to the owner of the replica's lowest slot, so that all front ends use the same worker.

        An owner that cannot be reached is passed over. Return ``None`` if no owner can be reached.
        """
        for _, owner in sorted(replica.record.owners):
            link = self.links.get(owner)
            if link is not None and link.ready and not link.draining:
                return link
        return None

    def look(self) -> None:
        """Look for workers that joined or left, at once."""
        self._wake.set()

    async def run(self, events: LinkEvents) -> None:
        """Keep a link to every live worker until cancelled; ``events`` is notified of what comes on the links."""
        ttl_s = self._settings.fleet.heartbeat_ttl_s
        while True:
            look_s = _LOOK_S
            try:
                alive = await self._members.alive()
                self._affinity.reconsider({id: _load(facts) for id, facts in alive.items()})
                self._redial.keep(alive)
                now = asyncio.get_running_loop().time()
                for worker, facts in alive.items():
                    known = worker in self.links or worker in self._connecting
                    if not known and not self._redial.waits(worker, now):
                        self._connecting.add(worker)
                        spawn(self._connect(worker, facts, events), f"link {worker}")
                if len(alive) == 1 and self.links.keys() == alive.keys():
                    look_s = max(look_s, ttl_s)  # one that joins says so, and the end of a link is seen
            except RegistryUnavailable:
                pass
            self._wake.clear()
            try:
                async with asyncio.timeout_at(next_tick(look_s)):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _connect(self, worker: str, facts: dict[str, str], events: LinkEvents) -> None:
        try:
            address = _address(facts)
            if not address:
                host = facts.get("host")
                _log.warning("worker %s on host %s cannot be reached: set GATEWAY_RPC_BIND there", worker, host)
                return
            try:
                link = await self._join(worker, address, self._secured(address, facts), events)
            except (OSError, ValueError, OverflowError) as error:  # the record may have any text as an address
                self._failed(worker, address, error)
                return
            loop = asyncio.get_running_loop()
            if self._tls is not None and not (link.secure or _path(address)):
                why = "it is of an earlier release, or link.tls is off there"
                _log.warning("the link to worker %s at %s is not encrypted: %s", worker, address, why)
            self.links[worker] = link
            self._addresses[worker] = address
            self._lost.pop(worker, None)
            loop.call_later(_LIVED_S, self._lived, link)
            spawn(link.keep_checking(), f"ping {worker}")
            events.links_changed()
        finally:
            self._connecting.discard(worker)

    def _secured(self, address: str, facts: dict[str, str]) -> ssl.SSLContext | None:
        """Return what TLS is spoken with a worker by, if any is. Raises ``HandshakeError``."""
        offer = facts.get(link_tls.OFFER, "")
        if _path(address) or (self._tls is None and offer != "required"):
            return None
        if self._tls is None:
            raise HandshakeError("it takes links over TLS only, and link.tls is 'off' here")
        if not offer and self._tls.required:
            raise HandshakeError("it offers no TLS, without which no links are made here (link.tls, link.caFile)")
        return self._tls.context if offer else None

    async def _join(self, worker: str, address: str, context: ssl.SSLContext | None, events: LinkEvents) -> WorkerLink:
        """Return a link on which both ends have proved themselves. Raises ``HandshakeError``, ``TimeoutError`` or
        another ``OSError``."""
        loop = asyncio.get_running_loop()
        link = WorkerLink(worker, self._frontend, self._settings.fleet.link_ping_s, events, self._closed_of(events))
        limit = self._settings.calls.max_result_bytes + SLACK
        outcome: asyncio.Future[None] = loop.create_future()

        def proven(connection: Link) -> None:
            connection.hand_over(link, limit)
            if not outcome.done():
                outcome.set_result(None)

        def failed(error: HandshakeError | None) -> None:
            if not outcome.done():
                outcome.set_exception(error or ConnectionResetError("it closed the link"))

        joining = Joining(FrontEndSide(self._key, self._frontend, worker, address), _PROOF_S, proven, failed)
        try:
            async with asyncio.timeout(_CONNECT_S):
                if path := _path(address):
                    await loop.create_unix_connection(lambda: Link(joining, 0, traffic=self.traffic), path)
                else:
                    host, _, port = address.rpartition(":")
                    await loop.create_connection(
                        lambda: Link(joining, 0, traffic=self.traffic),
                        host.strip("[]"),
                        int(port),
                        ssl=context,
                        server_hostname="" if context is not None else None,
                    )
            await outcome
        except ssl.SSLError as error:
            joining.abort()
            raise of_tls(error) from error
        except BaseException:
            joining.abort()
            if outcome.done() and not outcome.cancelled():
                outcome.exception()  # it was seen
            raise
        if not link.ready:
            raise ConnectionResetError("it closed the link at once")
        return link

    def _failed(self, worker: str, address: str, error: Exception) -> None:
        """Note and log that no link was made."""
        loop = asyncio.get_running_loop()
        unproven = isinstance(error, HandshakeError)
        wait_s = self._redial.failed(worker, loop.time(), unproven)
        reason = str(error) or type(error).__name__
        if self._redial.worth_saying(worker, loop.time(), reason, unproven):
            _log.warning("no link to worker %s at %s: %s; trying again in %.1f s", worker, address, reason, wait_s)
        loop.call_later(wait_s, self._wake.set)

    def _lived(self, link: WorkerLink) -> None:
        """Reset the backoff of a link that has lived for ``_LIVED_S``."""
        if self.links.get(link.worker) is link:
            self._redial.forget(link.worker)

    def _closed_of(self, events: LinkEvents) -> Callable[[WorkerLink], None]:
        def closed(link: WorkerLink) -> None:
            loop = asyncio.get_running_loop()
            loop.call_later(self._redial.failed(link.worker, loop.time()), self._wake.set)
            if self.lose(link):
                events.links_changed()
                self._wake.set()

        return closed

    def lose(self, link: WorkerLink) -> bool:
        """Forget a link that broke, and find out whether its worker is dead. Return whether the link was in use."""
        worker = link.worker
        if self.links.get(worker) is not link:
            return False
        del self.links[worker]
        self._chosen.clear()  # what was chosen refers to links
        if len(self._lost) >= _MAX_LOST:
            del self._lost[next(iter(self._lost))]
        self._lost[worker] = asyncio.get_running_loop().time()
        address, within_s = self._addresses.pop(worker, ""), self._settings.fleet.heartbeat_ttl_s
        spawn(deaths.report(self._members, worker, address, within_s), f"whether {worker} is dead")
        return True

    def reply(self, question_id: str, sid: str, is_error: bool, raw: bytes) -> None:
        """Send a client's answer to the worker that waits for it. The worker put its own id in ``question_id``."""
        link = self.links.get(question_id.partition(".")[0])
        if link is not None:
            link.reply(question_id, sid, is_error, raw)

    def question_news(self, question_id: str, sid: str, progress: bytes = b"") -> None:
        """Notify the worker that its question was put on a stream, or (``progress``) how far the client is with it."""
        link = self.links.get(question_id.partition(".")[0])
        if link is not None:
            link.question_news(question_id, sid, progress)

    def roots_changed(self, sid: str) -> None:
        """Notify the workers that know a session that its client's roots changed."""
        for link in self.links.values():
            link.roots_changed(sid)

    def cancel_request(self, sid: str, request: bytes) -> None:
        """Cancel a request of a session that is not under way here, at whichever worker has it."""
        for link in self.links.values():
            link.cancel_request(sid, request)

    def end_session(self, sid: str, over: bool = True) -> None:
        """Notify the workers that know a session that it is over, or else that this front end stops using it."""
        self._chosen.pop(sid, None)
        for link in self.links.values():
            link.forget_session(sid, over)

    def close(self) -> None:
        """Close all links."""
        for link in list(self.links.values()):
            link.close()


def _address(facts: dict[str, str]) -> str:
    """Return where a worker is dialled, as its record says it: ``unix:/path`` or ``host:port``. Empty: nowhere.

    The worker proves itself for exactly this text.
    """
    address = facts.get("address", "")
    if facts.get("host") == socket.gethostname() and os.path.exists(_path(address)):
        return address
    return facts.get("tcp", "")


def _path(address: str) -> str:
    return address.removeprefix("unix:") if address.startswith("unix:") else ""


def _load(facts: dict[str, str]) -> int:
    """Return the calls in flight on a worker as its record says, or 0 if it does not say."""
    text = facts.get("load", "")
    return int(text) if text.isdecimal() else 0
