"""A call from choosing a replica to its first event, with the retries that certainty of delivery allows.

The path of a call makes no Redis round trip: catalogue, health and links are in memory. The one exception is the first
call of a client session to a group whose upstream sessions belong to one client session each: Redis then holds the
replica that the session is bound to.

Only the dispatcher notifies the observer (``telemetry.observer``) that a call has begun, is attempted, and is over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

from gateway.calls.events import Answered, CallEvent, Failure
from gateway.calls.in_flight import InFlight
from gateway.fleet.ejection import Ejection
from gateway.fleet.hedging import Hedging
from gateway.fleet.outgoing import Anywhere, Exact, Only, Outgoing
from gateway.fleet.passed_headers import passed
from gateway.fleet.pool import WorkerPool
from gateway.fleet.registry_view import RegistryView
from gateway.fleet.shares import Shares, caller_of
from gateway.fleet.targets import Target, Targets, Unlinked, lost_task
from gateway.routing import router
from gateway.routing.retry import ATTEMPTS, RetryBudget, may_repeat, most_useful
from gateway.routing.routes import Replica, Route
from gateway.routing.shut import Refusal, Shut, refusals, soonest
from gateway.sessions.session import ClientSession
from gateway.sessions.table import SessionTable
from gateway.telemetry.observer import ABANDONED, ANSWERED, UPSTREAM_ERROR, CallObserver, ObservedCall
from shared.errors import ELSEWHERE, SHUT, STATUS, CallError, NotDelivered, OutcomeUnknown
from shared.rpc import messages as rpc

_T = TypeVar("_T")
SUSPECT_S = 1.0
"""A replica that refused a call of this front end gets no calls for this long, unless it reconnects earlier."""
AVOID_MAX_S = 10.0
"""A replica that says that it is overloaded gets no calls that others can take for as long as it says, but no
longer."""
WAKE_S = 3.0
"""How long a call waits for a replica that is starting, or that no link leads to. For one that moves to another worker
it waits as long as a call may take."""
_LOOK_AGAIN_S = 1.0
"""How often a call that waits looks whether it still makes sense to wait."""
_MOVED_S, _ELSEWHERE_S = 0.2, 0.05
"""How long a call waits before it is sent again; and at first, while Redis cannot say which worker has the upstream, so
that others are asked."""
_MOST_MOVED = 20
"""How often a call is sent again because the worker does not have the upstream any more, or not yet."""


class Dispatcher:
    """Sends calls to upstreams. At most ``max_in_flight`` calls are under way at once; ``timeout_s`` bounds retries.

    ``waiting`` is how many calls wait for a replica that comes or moves. ``ejection`` is told of failures, and
    ``retry_budget`` is the share of calls that may be sent to an upstream again.
    """

    def __init__(
        self,
        registry: RegistryView,
        pool: WorkerPool,
        sessions: SessionTable,
        observer: CallObserver | None,
        max_in_flight: int,
        timeout_s: float = 30.0,
        ejection: Ejection | None = None,
        retry_budget: float = 1.0,
    ) -> None:
        self._ejection = ejection
        self._budget = RetryBudget(retry_budget)
        self._registry = registry
        self._pool = pool
        self._observer = observer
        self._shares = Shares(max_in_flight)
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self.targets = Targets(registry, pool, sessions)
        self.hedging = Hedging(self, self._loop)
        self.under_way: dict[InFlight, None] = {}
        self.waiting = 0

    def now(self) -> float:
        """Return the loop time, which ``Replica.available`` needs."""
        return self._loop.time()

    # ---- sending

    def begin(self, call: Outgoing) -> InFlight | Refusal | None:
        """Send ``call`` if nothing has to be awaited for that, else return ``None``; or return the refusal of an
        upstream that would refuse it again.

        Raises ``CallError`` for a call that is refused otherwise.
        """
        now = self._loop.time()
        try:
            if len(self.under_way) >= self._shares.enough:
                self._shares.check(self.under_way, caller_of(call), now)
            target = self.targets.find(call, (), now)
            if type(target) is not Target:
                return None
            if target.replica.shut is not None:
                room = self._with_room(call, target, now)
                if type(room) is not Target:
                    self._note_refusal(call, room.error, now)
                    return room
                target = room
            if call.quota is not None:
                call.counted = call.quota.take(call)
                if not call.counted:
                    return None
        except CallError as error:
            self._note_begin(call, now)
            self._note_end(call, error.code, error.message)
            raise
        return self._start(call, target, now)

    def _with_room(self, call: Outgoing, target: Target, now: float) -> Target | Refusal:
        """Return where a call goes for which ``target`` may have no room: to another replica, or nowhere."""
        if type(call.affinity) in (Exact, Only):
            return target  # what it is about is there, and may have its place already
        full = refusals(call.route.replicas, caller_of(call), now)
        if target.replica.id not in full:
            return target
        if len(full) == len(call.route.replicas) or router.choose(call.route, full, now) is None:
            return soonest(full)
        other = self.targets.find(call, full, now)
        return other if type(other) is Target else target  # the replica of a session is asked before it is changed

    def _note_refusal(self, call: Outgoing, error: CallError, now: float) -> None:
        """Note a call that ends as it begins."""
        call.started_at, call.error = now, error.message
        if self._observer is not None:
            self._observer.begun(call)
            self._observer.finished(call, error.code, 0.0)

    def _start(self, call: Outgoing, target: Target, now: float) -> InFlight:
        session, replica, observer = call.session, target.replica, self._observer
        head = self._head(call, replica)
        call.attempts += 1
        self._budget.sent += 1
        if not call.started_at:
            call.started_at = now
            if observer is not None:
                observer.begun(call)
        if observer is not None:
            observer.attempted(call, replica.id, target.link.worker)
        head.trace, head.trace_state, head.baggage = call.trace, call.trace_state, call.baggage  # of observers
        in_flight = target.link.call(replica, head, call, session, self.facts, now)
        self.under_way[in_flight] = None
        if session is not None:
            in_flight.register(session, call.id)
        if replica.avoid_until > now and replica.watch is not None:
            replica.watch.sent(call, now)
        hedge = call.route.hedge
        if hedge is not None and call.attempts == 1 and type(call.affinity) is Anywhere and replica.avoid_until <= now:
            self.hedging.watch(in_flight, call, hedge)
        return in_flight

    # ---- fleet.hedging.Sender

    def send_beside(self, call: Outgoing, replica: Replica) -> InFlight | None:
        session = call.session
        link = self._pool.link_for(replica, session.sid if session is not None else "")
        if link is None or len(self.under_way) >= self._shares.enough or not self._budget.take_spare():
            return None
        self._budget.sent += 1
        head = self._head(call, replica)
        head.trace, head.trace_state, head.baggage = call.trace, call.trace_state, call.baggage
        return link.call(replica, head, call, session, self.facts, self._loop.time())

    def leg_failed(self, leg: InFlight, event: Failure) -> None:
        self._judge(cast(Outgoing, leg.call), event, cast(Replica, leg.replica), set())
        self._note_failure(leg, event)

    def _note_begin(self, call: ObservedCall, now: float) -> None:
        call.started_at = now
        if self._observer is not None:
            self._observer.begun(call)

    async def send(self, call: Outgoing, begun: InFlight | None = None) -> tuple[InFlight, CallEvent]:
        """Send ``call``, or go on with what was ``begun`` for it, and return its first event.

        Raises ``CallError`` when the call failed and may not be repeated, and ``Abandoned`` when the waiting task was
        cancelled.
        """
        if begun is None:
            self._note_begin(call, self._loop.time())
        try:
            if begun is None and len(self.under_way) >= self._shares.enough:
                self._shares.check(self.under_way, caller_of(call), self._loop.time())
            if call.quota is not None and not call.counted:
                await call.quota.acquire(call)
                call.counted = True
            return await self._send(call, begun)
        except CallError as error:
            self._note_end(call, error.code, error.message)
            raise
        except asyncio.CancelledError as gone:
            self._note_end(call, ABANDONED)
            raise gone

    async def here(self, call: ObservedCall, work: Callable[[], Awaitable[_T]]) -> _T:
        """Return what ``work`` does for a call that this front end answers itself. The call is limited and observed as
        those of upstreams are. Raises ``CallError``."""
        self._note_begin(call, self._loop.time())
        try:
            if call.quota is not None:
                await call.quota.acquire(call)
                call.counted = True
            done = await work()
        except CallError as error:
            self._note_end(call, error.code, error.message)
            raise
        except BaseException:
            self._note_end(call, ABANDONED)
            raise
        self._note_end(call, ANSWERED)
        return done

    async def _send(self, call: Outgoing, begun: InFlight | None) -> tuple[InFlight, CallEvent]:
        tried: set[str] = set()
        last: CallError | None = None
        waits_since, moved = 0.0, 0
        deadline = self._loop.time() + self._timeout_s
        while call.attempts < max(ATTEMPTS, len(call.route.replicas)) + moved or begun is not None:
            if begun is None:
                target = await self.targets.reach(call, tried)
                if type(target) is not Target:
                    if type(target) is Unlinked:
                        tried.add(target.replica.id)
                        if router.choose(call.route, tried, self._loop.time()) is not None:
                            continue
                    waits_since = waits_since or self._loop.time()
                    until = deadline if self._is_moving(call.route) else waits_since + WAKE_S
                    await self._wait_for_replica(call, target is not None, until, last)
                    tried.clear()
                    continue
                in_flight = self._start(call, target, self._loop.time())
            else:
                in_flight, begun = begun, None
            try:
                event = await in_flight.next()
            except asyncio.CancelledError:
                self._drop(in_flight)
                raise Abandoned(in_flight) from None
            if not isinstance(event, Failure):
                return in_flight, event
            self._drop(in_flight)
            replica = cast(Replica, in_flight.replica)
            error = self._judge(call, event, replica, tried)
            self._note_failure(in_flight, event)
            if self._observer is not None:
                self._observer.attempt_failed(call, event.code)
            if not in_flight.link.ready:
                tried.discard(replica.id)  # the worker is gone: another one has the replica, or soon will
            repeatable = call.route.entry.repeatable and type(call.affinity) is not Exact
            if self._loop.time() >= deadline or not may_repeat(event.delivered, event.code, call.method, repeatable):
                raise error
            if (event.delivered or STATUS in event.data) and not self._budget.take():
                raise error  # the attempt has cost an upstream something, and most others seem to fail as well
            last = most_useful(last, error)
            alone = type(call.affinity) is Only or router.choose(call.route, tried, self._loop.time()) is None
            if ELSEWHERE in event.data:
                self._pool.pass_over(in_flight.link.worker)
            if event.code == "not_delivered" and alone:
                tried.clear()
                moved = min(moved + 1, _MOST_MOVED)
                if self._registry.follower.available:
                    await self._wait_change(_MOVED_S)  # all that could take it is moving to another worker
                else:
                    self._pool.look_elsewhere(replica, in_flight.link.worker)
                    await self._wait_change(min(_ELSEWHERE_S * moved, _MOVED_S))
                call.route = self.targets.current(call.route)
        assert last is not None
        raise last

    async def _wait_for_replica(self, call: Outgoing, unlinked: bool, until: float, last: CallError | None) -> None:
        """Wait until the registry or a link changes, and look up the route again.

        Raises ``CallError`` when no change can help, or the loop time ``until`` has come.
        """
        if last is not None and last.code in ("overloaded", "upstream_unauthorized"):
            raise last  # a limit was reached, or this caller is refused; that no replica is healthy would be wrong
        now = self._loop.time()
        if now >= until or not (unlinked or router.might_come(call.route, now, time.time())):
            only = type(call.affinity) is Only
            raise lost_task(call, last) if only else router.unavailable(call.route, last)
        await self._wait_change(min(until - now, _LOOK_AGAIN_S))
        call.route = self.targets.current(call.route)

    async def _wait_change(self, timeout_s: float) -> None:
        """Wait until the registry or a link changes, as a call that is not over."""
        self.waiting += 1
        try:
            await self._registry.wait_change(timeout_s)
        finally:
            self.waiting -= 1

    def _is_moving(self, route: Route) -> bool:
        """Whether a replica of the route is about to be served by another worker."""
        return any(one.returns or self._pool.is_moving(one) for one in route.replicas)

    def _judge(self, call: Outgoing, event: Failure, replica: Replica, tried: set[str]) -> CallError:
        """Note that ``replica`` failed, add it to ``tried``, and return the failure as an error."""
        tried.add(replica.id)
        data = {**event.data, "upstream": replica.id, "group": replica.record.spec.name}
        shut, _ = data.pop(SHUT, ""), data.pop(ELSEWHERE, "")
        kind = OutcomeUnknown if event.delivered else NotDelivered
        text = replica.record.spec.connection.concealed(event.message)
        error = kind(event.code, f"upstream {replica.id!r}: {text}", data)
        self._avoid(event, replica, error.retry_after_s)
        if shut:
            replica.shut = replica.shut or Shut()
            kept = kind(error.code, error.message, data)  # one that is raised would keep what its frames hold
            replica.shut.note(caller_of(call), shut, kept, self._loop.time())
        return error

    def _avoid(self, event: Failure, replica: Replica, retry_after_s: int) -> None:
        """Send no calls, or none that another replica can take, to a replica that failed or has no room."""
        now = self._loop.time()
        if STATUS in event.data:  # it answers, so it is better than none
            if event.code == "overloaded":
                replica.avoid_until = max(replica.avoid_until, now + min(retry_after_s, AVOID_MAX_S))
            elif event.code == "upstream_unavailable":
                replica.avoid_until = max(replica.avoid_until, now + SUSPECT_S)
        elif event.code == "upstream_unavailable":
            replica.suspect_until = now + SUSPECT_S
            replica.suspected = event.message

    def _head(self, call: Outgoing, replica: Replica) -> rpc.Call:
        session = call.session
        return rpc.Call(  # by position, as names would take longer
            0,
            replica.id,
            call.method,
            call.era,
            session.sid if session is not None else "",
            call.principal,
            call.name,
            call.token,
            call.headers,
            0,
            0,
            type(call.affinity) is Exact,
            call.id if session is not None else b"",
            call.listed_name if session is not None else "",
            "",
            call.confirm,
            call.subject_token if replica.exchanges else "",
            passed(call.client, replica.passes) if replica.passes else None,
        )

    # ---- notifications

    async def notify(self, route: Route, session: ClientSession, message: bytes) -> None:
        """Send a notification to the replica that would get a call of this session, or drop it if there is none."""
        replica = await self.targets.replica_for(route, session)
        link = self._pool.link_for(replica, session.sid) if replica is not None else None
        if replica is not None and link is not None:
            link.notify(replica.id, self.facts(session), message)

    def facts(self, session: ClientSession) -> rpc.OpenSession:
        """Return the frame by which a worker learns of a client session."""
        return rpc.OpenSession(
            session.sid,
            session.principal,
            session.version,
            session.capabilities,
            session.client_info,
            session.log_level,
            self._registry.catalog.is_of_one_group(session.endpoint),
        )

    def announce_again(self, session: ClientSession) -> None:
        """Send the changed facts of a session to the workers that know the session."""
        for link in self._pool.links.values():
            link.announce_again(self.facts(session))

    # ---- the end of a call

    def adopt(self, in_flight: InFlight) -> None:
        """Count a resumed call as under way here; another front end, or another request, sent it."""
        self._note_begin(in_flight.call, self._loop.time())
        self.under_way[in_flight] = None

    def complete(self, in_flight: InFlight, outcome: str) -> None:
        """Note that a call is over, with this outcome (``telemetry.observer``). A second time does nothing."""
        if in_flight in self.under_way:
            del self.under_way[in_flight]
            self._note_end(in_flight.call, outcome)

    def answered(self, in_flight: InFlight, event: Answered) -> None:
        """Note that the upstream answered a call. A second time does nothing."""
        if in_flight in self.under_way:
            del self.under_way[in_flight]
            call, now = in_flight.call, self._loop.time()
            if call.counted:
                _release(call)
            if self._observer is not None:
                outcome = UPSTREAM_ERROR if event.is_error else ANSWERED
                call.result_bytes = len(event.body) if event.stream is None else event.stream.size
                self._observer.finished(call, outcome, now - call.started_at)
            race = in_flight.race
            began = in_flight.started_at if race is None else race.answered(now)
            watch = in_flight.replica.watch
            if watch is not None and not in_flight.asked:
                watch.answered(call, call.name, now - began, now, event.is_error)

    def refused(self, in_flight: InFlight, event: Failure) -> CallError | None:
        """Return the error of a call that was refused for want of room and that no other replica can take, and note
        its end. Return ``None`` for a failure that has to go through ``send``."""
        if event.code != "overloaded":
            return None
        call, replica, now = cast(Outgoing, in_flight.call), cast(Replica, in_flight.replica), self._loop.time()
        full = refusals(call.route.replicas, caller_of(call), now)
        if router.choose(call.route, {replica.id, *full}, now) is not None:
            return None
        error = self._judge(call, event, replica, set())
        for one in full.values():
            error = most_useful(error, one.error)
        self._drop(in_flight)
        self._note_end(call, error.code, error.message)
        return error

    def failed(self, in_flight: InFlight, event: Failure) -> None:
        """Note that a call failed after its first event. A second time does nothing."""
        if in_flight in self.under_way:
            self._note_failure(in_flight, event)
            in_flight.call.error = event.message
            self.complete(in_flight, event.code)

    def _note_failure(self, in_flight: InFlight, event: Failure) -> None:
        if self._ejection is not None:
            self._ejection.failed(in_flight, event, self._loop.time())

    def _drop(self, in_flight: InFlight) -> None:
        """Forget an attempt. The call itself is not over: another attempt may follow."""
        self.under_way.pop(in_flight, None)

    def _note_end(self, call: ObservedCall, outcome: str, error: str = "") -> None:
        call.error = error or call.error
        if call.counted:
            _release(call)
        if self._observer is not None:
            self._observer.finished(call, outcome, self._loop.time() - call.started_at)

    def discard(self, begun: InFlight) -> None:
        """Cancel a call that was begun for a request and is still under way, because no request waits for it."""
        if begun in self.under_way:
            self.complete(begun, ABANDONED)
            if not begun.done:
                begun.cancel("nobody waits for it")

    def show_life(self, silent_for_s: float) -> None:
        """Show a sign of life on calls that were silent for this long. Called about once a second."""
        self._budget.advance()
        now = self._loop.time()
        silent: list[InFlight] = []  # showing life may end a call
        for in_flight in self.under_way:
            if in_flight.started_at > now - silent_for_s:
                break  # calls are in order of their start
            if in_flight.shown_alive_at <= now - silent_for_s:
                silent.append(in_flight)
        for in_flight in silent:
            in_flight.show_life(now)


def _release(call: ObservedCall) -> None:
    """Note in the caller's limits that a call is over."""
    call.counted = False
    if call.quota is not None:
        call.quota.release(call)


class Abandoned(asyncio.CancelledError):
    """The client left before the call's first event. ``in_flight`` is the call, to be cancelled or kept."""

    def __init__(self, in_flight: InFlight) -> None:
        super().__init__()
        self.in_flight = in_flight
