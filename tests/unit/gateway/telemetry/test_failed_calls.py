"""``gateway.telemetry.failed_calls``: what failed lately, bounded, with Redis and without."""

from __future__ import annotations

from typing import cast

from gateway.telemetry.failed_calls import FailedCalls
from gateway.telemetry.observer import ObservedCall
from shared.errors import RegistryUnavailable
from shared.registry.failed_calls import FailedCall, FailedCallStore

TRACE = "0af7651916cd43dd8448eb211c80319c"


class _Store:
    def __init__(self) -> None:
        self.kept: list[FailedCall] = []
        self.up = True

    async def append(self, calls: list[FailedCall]) -> None:
        self._check()
        self.kept += calls

    async def latest(self) -> list[FailedCall]:
        self._check()
        return list(self.kept)

    def _check(self) -> None:
        if not self.up:
            raise RegistryUnavailable("away")


def _calls(store: _Store, link: str = "") -> FailedCalls:
    return FailedCalls(cast(FailedCallStore, store), "f1", link)


def _call(name: str = "echo", **more: object) -> ObservedCall:
    return ObservedCall(method="tools/call", name=name, group="g", upstream="g-1", attempts=1, **more)  # type: ignore[arg-type]


async def test_the_newest_come_first_with_the_id_and_the_link_of_their_trace() -> None:
    failed = _calls(_Store(), "http://jaeger/trace/{trace}?x=1")
    failed.note(_call(trace=f"00-{TRACE}-b7ad6b7169203331-01", id=b"7", error="no answer"), "timeout", 1.5)
    failed.note(_call("other"), "overloaded", 0.0)
    failed.note(_call(), "cancelled", 0.0)
    last, first = await failed.latest(10)
    assert (first.name, first.outcome, first.ms, first.request, first.id) == ("echo", "timeout", 1500.0, TRACE, "7")
    assert (first.error, first.frontend) == ("no answer", "f1")
    assert failed.link(first) == f"http://jaeger/trace/{TRACE}?x=1" and failed.link(last) == ""
    assert await failed.latest(10, name="other") == [last] and await failed.latest(1) == [last]


async def test_while_redis_is_away_a_bounded_number_is_shown_from_memory_and_written_later() -> None:
    store = _Store()
    failed, store.up = _calls(store), False
    for number in range(1000):
        failed.note(_call(str(number)), "timeout", 0.0)
    shown = await failed.latest(500)
    assert 10 <= len(shown) <= 100 and shown[-1].name == "0"
    assert await failed.latest(500) == shown
    store.up = True
    assert await failed.latest(500) == shown and len(store.kept) == len(shown)
