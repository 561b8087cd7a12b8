"""Sends a late call of a read-only tool to a second replica as well, takes the first answer and cancels the other.

What the client's request holds is one ``InFlight`` throughout (the call's *face*). Only when a second replica is asked,
two legs take its place on their links; the first event of either decides, and the face goes on as that one.
Counterpart: ``gateway.routing.hedges``, which says when a call is late.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Protocol

from gateway.calls.events import CallEvent, Failure
from gateway.calls.in_flight import InFlight
from gateway.fleet.outgoing import Outgoing
from gateway.routing.hedges import Hedge
from gateway.routing.routes import Replica
from shared.metrics.families import Family, Sample, counter
from shared.rpc.framing import CHUNK

_TASKS = b"io.modelcontextprotocol/tasks"
_MAX_GROUPS = 1000


class Sender(Protocol):
    """Sends calls (``fleet.dispatch``)."""

    def send_beside(self, call: Outgoing, replica: Replica) -> InFlight | None:
        """Send a call that is under way to another replica too, or return ``None`` if there is no room for that."""

    def leg_failed(self, leg: InFlight, event: Failure) -> None:
        """Take note of a failure that the client does not get."""


class Hedging:
    """The hedges of one front end. ``sent`` and ``won`` count by group."""

    def __init__(self, sender: Sender, loop: asyncio.AbstractEventLoop) -> None:
        self.sender = sender
        self.loop = loop
        self.sent: Counter[str] = Counter()
        self.won: Counter[str] = Counter()

    def watch(self, in_flight: InFlight, call: Outgoing, hedge: Hedge) -> None:
        """Look at a call that was just sent for the first time."""
        in_flight.race = Race(self, in_flight, call, hedge)

    def count(self, which: Counter[str], group: str) -> None:
        """Count a call of a group."""
        if group in which or len(which) < _MAX_GROUPS:
            which[group] += 1

    def families(self) -> list[Family]:
        """Return the counts."""
        found = []
        for name, text, counts in (
            ("gateway_hedges", "Late calls that were sent to a second replica as well (hedge)", self.sent),
            ("gateway_hedges_won", "Calls that the second replica answered first", self.won),
        ):
            family = counter(name, text, ("group",))
            family.samples += [Sample((group,), count) for group, count in counts.items()]
            found.append(family)
        return found


class Leg(InFlight):
    """One of the two attempts of a call, as its link has it."""

    __slots__ = ()

    @classmethod
    def of(cls, race: Race, in_flight: InFlight) -> Leg:
        """Return a leg that takes the place of ``in_flight`` on its link."""
        link, replica = in_flight.link, in_flight.replica
        leg = cls(link, in_flight.number, replica, in_flight.started_at, in_flight.call, in_flight.modern)
        leg.race = race
        link.calls[leg.number] = leg
        return leg

    def push(self, event: CallEvent) -> None:
        assert isinstance(self.race, Race)
        self.race.came(self, event)

    def finish(self, event: CallEvent) -> None:
        if not self.done:
            self.done = True
            self.push(event)

    def give_up(self, reason: str) -> None:
        """Cancel this attempt, because the other one has won. The upstream may see ``reason``."""
        self.done = True
        self.replica.in_flight -= 1
        self.link.cancel(self, reason)


class Race:
    """One call that may be hedged. Implements ``gateway.calls.in_flight.Hedged``."""

    __slots__ = ("_asked", "_began", "_call", "_face", "_hedge", "_hedging", "_legs", "_timer")

    def __init__(self, hedging: Hedging, face: InFlight, call: Outgoing, hedge: Hedge) -> None:
        self._hedging = hedging
        self._face = face
        self._call = call
        self._hedge = hedge
        self._began = face.started_at
        self._asked = face.started_at
        self._legs: tuple[Leg, Leg] | None = None
        late_s = hedge.late_s
        self._timer = None if late_s is None else hedging.loop.call_later(late_s, self._late)

    def _late(self) -> None:
        """Ask a second replica, if there is one and the call can be sent twice."""
        self._timer = None
        face, call, now = self._face, self._call, self._hedging.loop.time()
        if face.done or call.confirm or len(call.params) > CHUNK or _TASKS in bytes(call.params):
            return
        others = [one for one in call.route.replicas if one is not face.replica]
        others = [one for one in others if one.available(now) and not one.drains and one.avoid_until <= now]
        if not others:
            return
        # The balancer is not asked: it would count this call among those that it shares out.
        beside = self._hedging.sender.send_beside(call, min(others, key=lambda one: (one.load, one.latency_s)))
        if beside is not None:
            self._legs = Leg.of(self, face), Leg.of(self, beside)
            self._hedging.count(self._hedging.sent, call.group)

    def came(self, leg: Leg, event: CallEvent) -> None:
        """Handle the first event of either leg: it decides, unless it is a failure."""
        if self._legs is None:
            return
        first, second = self._legs
        other = second if leg is first else first
        if isinstance(event, Failure):
            leg.replica.in_flight -= 1
            self._settle(other)
            self._hedging.sender.leg_failed(leg, event)
            return
        self._settle(leg)
        if leg is second:
            self._hedging.count(self._hedging.won, self._call.group)
            if isinstance(first.replica, Replica) and first.replica.watch is not None:
                now = self._hedging.loop.time()
                first.replica.watch.outrun(self._call.name, now - self._began, now)
        other.give_up("another replica has answered")
        if leg.done:
            self._face.finish(event)
        else:
            self._face.push(event)

    def _settle(self, leg: Leg) -> None:
        """Let the call go on as this leg alone."""
        face, self._legs = self._face, None
        face.link, face.number, face.replica = leg.link, leg.number, leg.replica
        face.dropped += leg.dropped
        self._asked = leg.started_at
        self._call.upstream = leg.replica.id
        if not leg.done:
            face.link.calls[face.number] = face

    def call_off(self) -> None:
        """Ask nobody else, and no longer two: the upstream shows life, or the client ends the call."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._legs is not None:
            first, second = self._legs
            self._settle(first)
            second.give_up("the client has ended the call")

    def answered(self, now: float) -> float:
        """Note the answer. Return when the replica that gave it was asked (loop time)."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._hedge.answered(now - self._began)
        return self._asked
