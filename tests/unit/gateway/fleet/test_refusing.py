"""``gateway.fleet.dispatch``: calls that full upstreams would refuse again are refused without asking a worker."""

from __future__ import annotations

import pytest

from gateway.calls.events import Answered, Failure
from gateway.calls.in_flight import InFlight
from gateway.fleet.outgoing import ANYWHERE, Affinity, Exact
from gateway.routing.shut import Refusal
from shared.errors import SHUT, NotDelivered
from shared.registry.records import UpstreamRecord
from shared.rpc import messages as rpc
from tests.unit.builders import record
from tests.unit.gateway.fakes import Front, Heard, outgoing, result

ONE = (record("a", "g", 1, tools=["t"]),)
TWO = (record("a", "g", 1, tools=["t"]), record("b", "g", 2, tools=["t"]))


def full(retry_after_s: int = 1) -> Failure:
    """What a worker says of an upstream that is full, and will be for a moment."""
    return Failure("overloaded", "full", False, {"retryAfter": str(retry_after_s), SHUT: "0.4"})


class Clients:
    """Callers at a front end with these upstreams, and their calls on the express lane."""

    def __init__(self, *records: UpstreamRecord) -> None:
        self.heard = Heard()
        self.front = Front(*records, observer=self.heard)
        self.dispatcher = self.front.dispatcher

    def begin(self, who: str = "ada", affinity: Affinity = ANYWHERE) -> InFlight | Refusal | None:
        """Begin a call, as the express lane does."""
        call = outgoing(self.front.route("t"))
        call.principal, call.affinity = who, affinity
        return self.dispatcher.begin(call)

    def refuse(self, event: Failure) -> str:
        """Let a call be refused by the worker; return the upstream that it was sent to."""
        begun = self.begin()
        assert type(begun) is InFlight
        begun.finish(event)
        self.dispatcher.refused(begun, event)
        return begun.replica.id


async def test_a_repeated_refusal_is_counted_as_each_call_is_and_asks_no_worker() -> None:
    clients = Clients(*ONE)
    assert clients.refuse(full()) == "a"
    refusal = clients.begin()
    assert type(refusal) is Refusal and refusal.error.code == "overloaded" and refusal.error.retry_after_s == 1
    assert clients.heard.notes[-2:] == [("begun", 1), ("finished", 1, "overloaded")]
    assert "full" in clients.heard.calls[-1].error
    assert clients.front.asked == ["a"] and not clients.dispatcher.under_way
    assert type(clients.begin("bob")) is InFlight, "who was not refused is asked for"


async def test_what_waits_for_its_client_at_a_full_upstream_goes_on() -> None:
    """A parked call has its place: the answers to its questions need none."""
    clients = Clients(*ONE)
    clients.refuse(full())
    assert type(clients.begin(affinity=Exact("a", "w1", True))) is InFlight
    assert type(clients.begin(affinity=Exact("a", "w1", False))) is InFlight


async def test_a_call_that_several_could_take_is_refused_unasked_where_all_are_full() -> None:
    clients = Clients(*TWO)
    for id, retry_after_s in (("a", 7), ("b", 3)):
        clients.front.upstream(id, [(rpc.Failed(0, "overloaded", "full", False, full(retry_after_s).data), b"")])
    with pytest.raises(NotDelivered) as first:
        await clients.dispatcher.send(outgoing(clients.front.route("t")))
    assert sorted(clients.front.asked) == ["a", "b"] and first.value.retry_after_s == 3
    refusal = clients.begin()
    assert type(refusal) is Refusal and refusal.error.retry_after_s == 3, "of the one that has room first"
    assert len(clients.front.asked) == 2


async def test_a_call_goes_to_the_replica_with_room_past_the_full_one() -> None:
    clients = Clients(*TWO)
    clients.front.upstream("a", [(rpc.Failed(0, "overloaded", "full", False, full().data), b"")])
    clients.front.upstream("b", result())
    while "a" not in clients.front.asked:
        _, event = await clients.dispatcher.send(outgoing(clients.front.route("t")))
        assert type(event) is Answered
    before = len(clients.front.asked)
    for _ in range(4):
        begun = clients.begin()
        assert type(begun) is InFlight and begun.replica.id == "b"
    assert clients.front.asked[before:] == ["b"] * 4


async def test_the_last_of_a_group_to_be_full_refuses_on_the_express_lane() -> None:
    clients = Clients(*TWO)
    clients.front.upstream("a", [(rpc.Failed(0, "overloaded", "full", False, full(2).data), b"")])
    clients.front.upstream("b", result())
    while "a" not in clients.front.asked:
        await clients.dispatcher.send(outgoing(clients.front.route("t")))
    begun = clients.begin()
    assert type(begun) is InFlight and begun.replica.id == "b"
    begun.finish(full(5))
    error = clients.dispatcher.refused(begun, full(5))
    assert error is not None and error.retry_after_s == 2 and begun not in clients.dispatcher.under_way
