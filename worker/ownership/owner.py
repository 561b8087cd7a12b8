"""The leading owner's work for one upstream: connect, list what it offers, keep checking, reconnect.

Runs only in the worker that owns slot 0 of the upstream. Reports go to a ``Reporter`` (``worker.ownership.inventory``),
which writes them to the registry. The status changes only along ``shared.models.TRANSITIONS``.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from shared.connections import STARTING
from shared.errors import ELSEWHERE, CallError, NotDelivered, OutcomeUnknown
from shared.freshness import relist_s
from shared.mcp.listings import CHANGES, KINDS, Kind, KindFacts
from shared.mcp.methods import DISCOVER, LISTEN, PING
from shared.mcp.versions import Era
from shared.models import TRANSITIONS, HealthCheckResult, ServerStatus, now_s
from shared.registry.records import ListedCatalog
from shared.settings import Settings
from shared.tasks import cancel, spawn
from shared.transports import traits
from worker.calls.own_call import OwnCall
from worker.ownership.health import HealthPolicy
from worker.ownership.list_changes import ListChanges
from worker.ownership.listing import read_list
from worker.ownership.listing_brake import ListingBrake
from worker.ownership.upstream import Upstream
from worker.sessions.session import Session
from worker.transports import DRIVERS
from worker.transports.transport import UpstreamFacts

_log = logging.getLogger(__name__)
_FIRST_LIST_S, _OPTIONAL_LIST_S = 2.0, 15.0
"""How long a list that is not required may take: before the upstream counts as connected, and later."""
_LIST_AGAIN_S, _LIST_AGAIN_MAX_S = 5.0, 300.0
"""After how long a list that failed is read again: at first, and at most."""
_TELL_S, _SHOWN_LINE = 2.0, 200
"""How often the last line of a child that is starting is reported, and how much of it."""
_SHOWN_FLAWS, _SHOWN_NOTES = 5, 50
"""How many flaws are logged together, and how many are reported."""


class Reporter(Protocol):
    """The receiver of the owner's findings."""

    async def status(self, id: str, status: ServerStatus, error: str | None, facts: UpstreamFacts | None) -> None:
        """Report the status of the upstream."""

    async def still_owned(self, id: str) -> bool:
        """Whether this worker may start a child for the upstream. A worker that was suspended may have lost it."""

    async def catalog(
        self,
        id: str,
        documents: Mapping[Kind, bytes],
        digest: str,
        announced: Iterable[str],
        ttl_s: float | None = None,
        notes: Sequence[str] = (),
        added: Mapping[str, Mapping[str, float]] | None = None,
    ) -> None:
        """Report the lists of the upstream.

        ``announced`` are the ``list_changed`` notifications that it sent. ``ttl_s`` is the time for which the lists are
        fresh, ``notes`` say what was mended or left out, ``added`` when names were added after the first listing.
        """

    def health(self, result: HealthCheckResult, policy: HealthPolicy) -> None:
        """Report a probe's outcome."""


def _shortened(sentences: list[str], most: int) -> list[str]:
    more = [f"and {len(sentences) - most} more"] if len(sentences) > most else []
    return sentences[:most] + more


class Owner:
    """Keeps one upstream connected."""

    def __init__(
        self,
        upstream: Upstream,
        settings: Settings,
        reporter: Reporter,
        status: ServerStatus,
        listed: ListedCatalog | None = None,
    ) -> None:
        """``listed`` is what the upstream listed when it was read last, by any worker."""
        self._upstream = upstream
        self._settings = settings
        self._reporter = reporter
        self.status = status
        runs_once = traits(upstream.spec.transport).runs_once
        self._adopted = status is ServerStatus.CONNECTED and not runs_once  # taken over without a gap in its status
        self._policy = HealthPolicy(settings.health.unhealthy_after, settings.health.healthy_after)
        self._session: Session | None = None
        self._listen: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._relist: set[str] = set()
        self._looks = False  # whether the lists are to be read again, though the upstream announced nothing here
        self._capabilities: dict[str, Any] = {}
        self._ttl_s: float | None = None
        self._documents: dict[Kind, bytes] = {}
        self._digest = ""
        self._flaws: dict[Kind, list[str]] = {}
        self._partial: set[Kind] = set()  # lists of which not all pages could be read
        self._changes = ListChanges(upstream.spec.id, listed)
        self._list_again_s = 0.0  # when a list that failed is read again, or 0 if none failed
        self._knows_ping: bool | None = None  # whether the upstream answers ``ping``; ``None``: not known yet
        self._probe_now = False
        self._trouble: CallError | None = None

    # ---- news and hints

    def announced(self, method: str) -> None:
        """Handle a notification of the upstream, on any of its sessions. A changed list is read again."""
        if method in CHANGES:
            self._relist.add(method)
            self._wake.set()

    def look(self) -> None:
        """Read the lists again, because a session of a client lists something else."""
        self._looks = True
        self._wake.set()

    def trouble(self, error: CallError) -> None:
        """Handle that a call found the upstream gone. The owner reconnects without waiting for the next probe."""
        self._trouble = error
        self._wake.set()

    def suspect(self) -> None:
        """Probe at once, because another worker had trouble with the upstream."""
        self._probe_now = True
        self._wake.set()

    def was_cut_off(self) -> None:
        """Probe at once, because this worker reached nobody for a while."""
        if self._session is not None:
            self._session.was_cut_off()
        self.suspect()

    # ---- the life

    async def run(self) -> None:
        """Connect and stay connected until cancelled."""
        wait_s = self._settings.upstreams.reconnect_min_s
        while True:
            started = asyncio.get_running_loop().time()
            try:
                if not self._adopted and self.status is not ServerStatus.ERROR:
                    await self._become(ServerStatus.CONNECTING, None)
                await self._connect()
                await self._stay()
            except CallError as error:
                reason = error.message
            except Exception as error:
                _log.exception("upstream %s", self._upstream.spec.id)
                reason = f"{type(error).__name__}: {error}"
            await self._disconnect()
            self._adopted = False
            self._policy.failed(certain=True)
            self._reporter.health(HealthCheckResult(self._upstream.spec.id, False, None, reason, now_s()), self._policy)
            if self.status is ServerStatus.REGISTERED:
                self.status = ServerStatus.CONNECTING
            await self._become(ServerStatus.ERROR, reason)
            if asyncio.get_running_loop().time() - started > self._settings.upstreams.reconnect_max_s:
                wait_s = self._settings.upstreams.reconnect_min_s
            self._wake.clear()
            try:
                async with asyncio.timeout(wait_s * random.uniform(0.8, 1.2)):
                    await self._wake.wait()
            except TimeoutError:
                pass
            wait_s = min(wait_s * 2, self._settings.upstreams.reconnect_max_s)

    async def _become(self, status: ServerStatus, error: str | None, facts: UpstreamFacts | None = None) -> None:
        if status is not self.status and status not in TRANSITIONS[self.status]:
            raise AssertionError(f"no way from {self.status} to {status}")
        if status is not self.status:
            shown = f": {error}" if error else ""
            _log.info("upstream %s %s%s", self._upstream.spec.id, status, shown)
        self.status = status
        await self._reporter.status(self._upstream.spec.id, status, error, facts)

    async def _connect(self) -> None:
        spec, context = self._upstream.spec, self._upstream.context
        if traits(spec.transport).runs_once and not await self._reporter.still_owned(spec.id):
            raise OutcomeUnknown("upstream_unavailable", "another worker owns it now")
        telling = spawn(self._tell_of_start(), f"start of {spec.id}")
        try:
            reached = await DRIVERS[spec.transport].reach(context)
        finally:
            await cancel(telling)
        self._session = reached.session
        self._trouble = None
        self._relist, self._looks = set(), False
        self._knows_ping = None
        self._capabilities = reached.facts.capabilities
        await self._list((), _FIRST_LIST_S)
        proved = self._policy.down
        if proved:
            await self._prove()
        self._upstream.adopt(reached.facts, reached.session)
        if not self._adopted:
            await self._become(ServerStatus.CONNECTED, None, reached.facts)
        else:
            await self._reporter.status(spec.id, ServerStatus.CONNECTED, None, reached.facts)
        self.status = ServerStatus.CONNECTED
        if not proved:
            await self._probe()
        if reached.session.era is Era.MODERN and self._announces():
            self._listen = spawn(self._keep_listening(reached.session), f"listen {spec.id}")

    async def _tell_of_start(self) -> None:
        """Report what a child that is still starting wrote last."""
        told = self._upstream.context.last_line = ""
        while True:
            await asyncio.sleep(_TELL_S)
            line = self._upstream.context.last_line.strip()
            if line != told and self.status is ServerStatus.CONNECTING:
                told = line
                await self._reporter.status(
                    self._upstream.spec.id, self.status, f"{STARTING}{line[:_SHOWN_LINE]}", None
                )

    async def _prove(self) -> None:
        """Wait until the upstream, which was down, has answered ``healthyAfter`` probes in a row. Raises ``CallError``
        if one fails."""
        await self._probe()
        while self._policy.down:
            await asyncio.sleep(self._settings.upstreams.reconnect_min_s)
            await self._probe()

    async def _disconnect(self) -> None:
        await cancel(self._listen)
        self._listen = None
        await self._close_session()
        await self._upstream.close_sessions()

    async def _close_session(self) -> None:
        """Close the session for listing and probing, and its connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
            session.release()

    async def close(self) -> None:
        """Stop listing and probing. Sessions of clients stay with the ``Upstream``."""
        await cancel(self._listen)
        await self._close_session()

    async def _stay(self) -> None:
        loop = asyncio.get_running_loop()
        interval_s = self._settings.health.health_check_interval_s
        next_probe = loop.time() + interval_s * random.random()  # spreads the probes of upstreams that began together
        next_refresh = loop.time() + self._refresh_s()
        relist_at, brake = float("inf"), ListingBrake()
        while True:
            try:
                async with asyncio.timeout_at(min(next_probe, next_refresh, relist_at)):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()
            session = self._session
            if session is not None:
                session.trim()
            if self._trouble is not None or session is None or session.closed:
                raise self._trouble or OutcomeUnknown("upstream_unavailable", "the connection was lost")
            if (self._relist or self._looks) and relist_at == float("inf"):
                relist_at = loop.time() + brake.wait_s(loop.time())
            if loop.time() >= relist_at:
                announced, self._relist, self._looks = self._relist, set(), False
                brake.read(loop.time(), await self._list_again(announced))
                relist_at = float("inf")
                if self._relist or self._looks:
                    self._wake.set()
            if self._probe_now or loop.time() >= next_probe:
                self._probe_now = False
                next_probe = loop.time() + interval_s
                await self._probe()
            if loop.time() >= next_refresh:
                await self._list_again(())
                next_refresh = loop.time() + self._refresh_s()

    # ---- requests

    async def _probe(self) -> None:
        """Make one health check: ``ping`` or ``server/discover``, depending on the session's era.

        Not every server knows ``ping``. One that never answered it is asked for a list as well, and if it answers that,
        only for the list from then on.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        ping = DISCOVER if self._session is not None and self._session.era is Era.MODERN else PING
        error = await self._ask(self._cheapest_list() if self._knows_ping is False else ping)
        if self._knows_ping is None and (error is None or not error.data.get("certain")):
            if error is None:
                self._knows_ping = True
            else:
                started = loop.time()
                if await self._ask(self._cheapest_list()) is None:
                    _log.info("upstream %s does not answer %s; it is asked for a list", self._upstream.spec.id, ping)
                    self._knows_ping, error = False, None
        latency_ms = (loop.time() - started) * 1000
        untold = error is not None and (error.code == "overloaded" or ELSEWHERE in error.data)
        if error is None:
            self._policy.succeeded()
        elif not untold:  # who has no room for a probe is alive, and of whom none reached nothing is known
            self._policy.failed(certain=bool(error.data.get("certain")))
        self._reporter.health(
            HealthCheckResult(
                self._upstream.spec.id,
                error is None or (untold and not self._policy.down),
                round(latency_ms, 1),
                error.message if error else None,
                now_s(),
            ),
            self._policy,
        )
        if error is not None and self._policy.down:
            raise error

    def _cheapest_list(self) -> str:
        """Return the method of a list that the upstream declares, or of tools."""
        declared = [one.method for one in KINDS.values() if isinstance(self._capabilities.get(one.capability), dict)]
        return declared[0] if declared else KINDS[Kind.TOOLS].method

    async def _ask(self, method: str) -> CallError | None:
        """Return ``None`` if the upstream answers, if only with a JSON-RPC error, else the failure."""
        assert self._session is not None
        try:
            await self._session.request(method, timeout_s=self._settings.health.health_check_timeout_s)
        except CallError as failure:
            if failure.code != "upstream_protocol" or "http" in failure.data:
                return failure
        return None

    def _announces(self) -> dict[str, bool]:
        """Return the ``subscriptions/listen`` filter for the changes that the upstream declares to announce."""
        wanted = {"tools": "toolsListChanged", "prompts": "promptsListChanged", "resources": "resourcesListChanged"}
        offered = {name: self._capabilities.get(name) for name in wanted}
        return {wanted[name]: True for name, one in offered.items() if isinstance(one, dict) and one.get("listChanged")}

    async def _list(self, announced: Iterable[str], within_s: float = _OPTIONAL_LIST_S) -> bool:
        """Read every page of every list that the upstream offers, and report the lists.

        Only tools, where they are declared, are required. Another list that fails, or takes longer than ``within_s``,
        stays as it was and is read again later; these lists are read side by side. Return whether anything is listed
        that was not before.
        """
        self._ttl_s = None
        declared = [kind for kind, one in KINDS.items() if isinstance(self._capabilities.get(one.capability), dict)]
        required = [kind for kind in declared if kind is Kind.TOOLS]
        found: dict[Kind, bytes] = {kind: await self._document(kind) for kind in required}
        # Some servers do not declare what they have: tools are asked for.
        others = [kind for kind in KINDS if kind not in required and (kind in declared or kind is Kind.TOOLS)]
        read = await asyncio.gather(*(self._optional(kind, within_s) for kind in others), return_exceptions=True)
        late = False
        for kind, document in zip(others, read, strict=True):
            if isinstance(document, BaseException):
                raise document
            late = late or document is None
            found[kind] = self._documents.get(kind, b"[]") if document is None else document
        documents = {kind: found[kind] for kind in KINDS if kind in found}
        self._documents = documents
        late = late or bool(self._partial)
        self._list_again_s = min(max(self._list_again_s * 2, _LIST_AGAIN_S), _LIST_AGAIN_MAX_S) if late else 0.0
        self._changes.note(documents)
        flaws = [one for flaws in self._flaws.values() for one in flaws]
        notes = _shortened(flaws, _SHOWN_NOTES) + list(self._changes.notes)
        together = [kind.encode() + document for kind, document in documents.items()] + [one.encode() for one in notes]
        digest = hashlib.sha256(b"".join(together)).hexdigest()[:16]
        changed, self._digest = digest != self._digest, digest
        await self._reporter.catalog(
            self._upstream.spec.id, documents, digest, announced, self._ttl_s, notes, self._changes.added
        )
        return changed

    async def _optional(self, kind: Kind, within_s: float) -> bytes | None:
        """Return the JSON of a list that the upstream need not have, or ``None`` if it cannot be read now. Raises
        ``CallError`` if the session is lost."""
        try:
            async with asyncio.timeout(within_s):
                return await self._document(kind)
        except (CallError, TimeoutError) as error:
            if self._session is None or self._session.closed or isinstance(error, NotDelivered):
                raise
            why = str(error) or f"no answer in {within_s:g} s"
            self._note_flaws(kind, [f"{KINDS[kind].method}: {why}"])
            return None

    async def _list_again(self, announced: Iterable[str]) -> bool:
        """Do as ``_list`` does. What an upstream has no room to list now is read again later."""
        try:
            return await self._list(announced)
        except NotDelivered as error:
            if error.code != "overloaded":
                raise
        self._relist.update(announced)
        self._list_again_s = min(max(self._list_again_s * 2, _LIST_AGAIN_S), _LIST_AGAIN_MAX_S)
        return False

    async def _document(self, kind: Kind) -> bytes:
        """Return the JSON of a list as clients may see it."""
        assert self._session is not None
        listing = await read_list(self._session, kind, self._settings)
        self._note_ttl(KINDS[kind], listing.ttl_ms)
        self._note_flaws(kind, listing.flaws)
        if not listing.partial:
            self._partial.discard(kind)
            return listing.document
        self._partial.add(kind)
        return max(self._documents.get(kind, b""), listing.document, key=len)  # what was listed before may be more

    def _note_flaws(self, kind: Kind, flaws: list[str]) -> None:
        """Log flaws of a list, once for as long as they are the same."""
        if flaws and self._flaws.get(kind) != flaws:
            _log.warning("upstream %s: %s", self._upstream.spec.id, "; ".join(_shortened(flaws, _SHOWN_FLAWS)))
        self._flaws[kind] = flaws

    def _note_ttl(self, facts: KindFacts, ttl_ms: float | None) -> None:
        """Note the shortest time for which a modern upstream's lists are fresh (2026-07-28, caching). Lists whose
        changes are announced do not count."""
        offered = self._capabilities.get(facts.capability)
        if ttl_ms is None or (isinstance(offered, dict) and offered.get("listChanged")):
            return
        self._ttl_s = min(max(ttl_ms / 1000, 0.0), self._ttl_s if self._ttl_s is not None else float("inf"))

    def _refresh_s(self) -> float:
        """Return the seconds until the lists are read again."""
        if self._list_again_s:
            return self._list_again_s
        return relist_s(self._ttl_s, self._settings.health.refresh_interval_s, self._settings.routing.list_ttl_s)

    async def _keep_listening(self, session: Session) -> None:
        """Keep a ``subscriptions/listen`` stream open, on which modern upstreams announce changes."""
        wait_s = 1.0
        while not session.closed:
            params = session.own_params({"notifications": self._announces()})
            call = OwnCall(LISTEN, params, session.era, 0)
            session.submit(call)
            started = asyncio.get_running_loop().time()
            try:
                await call.future
            except CallError as error:
                _log.debug("%s: listen ended: %s", self._upstream.spec.id, error)
            except asyncio.CancelledError:
                call.stop("closing")
                raise
            if asyncio.get_running_loop().time() - started > 30:
                wait_s = 1.0
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, 60.0)
            for method in CHANGES:
                self.announced(method)  # changes while the stream was closed were not received
