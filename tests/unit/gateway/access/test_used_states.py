"""``gateway.access.used_states``: how often a retry is free, and a confirmation good."""

from __future__ import annotations

import time
from typing import Any

import pytest

from gateway.access.used_states import UsedStates
from gateway.telemetry.observer import ObservedCall
from shared.errors import Refused, RegistryUnavailable
from shared.request_state import CONFIRMATION, RequestState, request_digest

ASKED = b'{"name":"wipe","arguments":{"a":1}}'
ACCEPTED = b'{"name":"wipe","arguments":{"a":1},"inputResponses":{"confirm":{"action":"accept"}},"requestState":"s"}'


class Marks:
    """The marks of a fleet."""

    def __init__(self) -> None:
        self.used: set[str] = set()
        self.down = False

    async def first(self, digest: str, lasts_s: float) -> bool:
        if self.down:
            raise RegistryUnavailable("down")
        assert 0 < lasts_s <= 600
        before = len(self.used)
        self.used.add(digest)
        return len(self.used) > before


class Limits:
    """Counts calls."""

    def __init__(self) -> None:
        self.taken = self.released = 0

    def take(self, call: ObservedCall) -> bool:
        raise AssertionError("a retry asks Redis first")

    async def acquire(self, call: ObservedCall) -> None:
        self.taken += 1

    def release(self, call: ObservedCall) -> None:
        self.released += 1


def state(**changed: Any) -> RequestState:
    digest = request_digest("tools/call", ASKED)
    return RequestState(time.time() + 600, "u", "w", "ann", digest, **changed)


def called(limits: Any = None) -> ObservedCall:
    return ObservedCall(method="tools/call", name="wipe", quota=limits)


async def go_on(used: UsedStates, state: RequestState, call: ObservedCall, params: bytes = ACCEPTED) -> bool:
    """Whether it was counted as a call of its own."""
    quota = used.quota(state, "sealed", call, params)
    if quota is None:
        return False
    assert not quota.take(call)
    before = call.quota.taken if isinstance(call.quota, Limits) else 0
    await quota.acquire(call)
    quota.release(call)
    return isinstance(call.quota, Limits) and call.quota.taken > before


async def test_the_first_retry_is_free_and_later_ones_are_calls_at_every_front_end() -> None:
    marks, limits = Marks(), Limits()
    one, other = UsedStates(marks), UsedStates(marks)
    passed = state(inner=b"x")
    assert [await go_on(front, passed, called(limits)) for front in (one, one, other)] == [False, True, True]
    assert (limits.taken, limits.released) == (2, 2)


async def test_a_confirmation_is_good_for_one_call() -> None:
    marks = Marks()
    asked = state(fresh=True, round=CONFIRMATION)
    declined = ACCEPTED.replace(b"accept", b"decline")
    other = ACCEPTED.replace(b'"a":1', b'"a":2')
    for number, params in enumerate(
        (declined, other, b'{"inputResponses":{"confirm":1}}', b"[]")
    ):  # they use up nothing
        assert UsedStates(marks).quota(asked, "sealed", called(), params) is None, number
    front = UsedStates(marks)
    await go_on(front, asked, called())
    rewritten = b' {"arguments": {"a": 1}, ' + ACCEPTED[1:].replace(b'"arguments":{"a":1},', b"")
    for used in (front, UsedStates(marks)):
        for params in (ACCEPTED, rewritten):
            with pytest.raises(Refused, match="already"):
                await go_on(used, asked, called(), params)


async def test_while_redis_is_away_each_front_end_goes_by_its_memory() -> None:
    marks = Marks()
    marks.down = True
    front, asked = UsedStates(marks), state(fresh=True, round=CONFIRMATION)
    await go_on(front, asked, called())
    with pytest.raises(Refused):
        await go_on(front, asked, called())


async def test_what_needs_no_mark_costs_nothing() -> None:
    used = UsedStates(Marks())
    assert used.quota(state(parked="p"), "sealed", called(Limits()), ACCEPTED) is None
    assert used.quota(state(inner=b"x"), "sealed", called(), ACCEPTED) is None
    assert UsedStates().quota(state(inner=b"x"), "sealed", called(Limits()), ACCEPTED) is None
