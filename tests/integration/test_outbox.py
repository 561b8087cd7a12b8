"""``gateway.streams.outbox`` on a real Redis: whatever is left, taken, resumed and cleared, nothing is lost unsaid.

Notifications and questions are left for a session; streams take them from where the last one stopped, or from a place
that a client names; at any time too many of them are there. Each stream sees them in order, each once, questions all,
and of notifications how many are missing.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.streams import outbox
from gateway.streams.outbox import START, Outbox, is_place, missing
from shared.mcp import jsonrpc
from shared.registry.store import RegistryStore
from shared.settings import RegistrySettings
from tests.machine import stretched

COUNT, BYTES = 8, 2000
_sessions = itertools.count()
STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("leave"), st.lists(st.sampled_from(["told", "told", "large", "asked"]), min_size=1, max_size=12)
        ),
        st.tuples(st.just("dropped"), st.integers(1, 5)),
        st.tuples(st.just("take"), st.booleans()),
        st.tuples(st.just("resume"), st.integers(0, 30)),
    ),
    max_size=14,
)


def message(number: int, kind: str) -> bytes:
    """The ``number``th message of a session."""
    if kind == "asked":
        return jsonrpc.request(b'"w.%d"' % number, "roots/list", b"")
    filler = "x" * 600 if kind == "large" else ""
    return jsonrpc.notification("n", jsonrpc.assemble({"number": number, "x": filler}))


def number_of(raw: bytes) -> int:
    text = raw.partition(b'"w.')[2].partition(b'"')[0] or raw.partition(b'"number":')[2].partition(b",")[0]
    return int(text)


class Session:
    """What was left for one session, and what a stream of it has seen."""

    def __init__(self, outbox: Outbox) -> None:
        self.outbox = outbox
        self.sid = f"s{next(_sessions)}"
        self.left = 0  # messages so far, those that were dropped on the way among them
        self.questions: dict[int, bytes] = {}
        self.place = START
        self.seen: dict[str, int] = {START: 0}  # place → number of the message there

    async def leave(self, kinds: list[str], dropped: int = 0) -> None:
        self.left += dropped
        messages = []
        for kind in kinds:
            self.left += 1
            messages.append(message(self.left, kind))
            if kind == "asked":
                self.questions[self.left] = messages[-1]
        await self.outbox.leave(self.sid, messages, "", COUNT, BYTES, dropped)

    async def take(self, place: str) -> str:
        """All that there is after ``place``; checked. Where it ends."""
        last, got = self.seen[place], set()
        while rows := await self.outbox.after(self.sid, place):
            for row in rows:
                number = number_of(row.message)
                assert number > last, "in order, nothing twice"
                assert row.dropped == number - last - 1 == missing(place, row.place), "what is missing is counted"
                assert is_place(row.place)
                got.add(number)
                last, place = number, row.place
                self.seen[place] = number
        assert last == self.left, "the newest is there"
        return place


@pytest_asyncio.fixture
async def store(redis_url: str) -> AsyncIterator[RegistryStore]:
    store = RegistryStore(RegistrySettings(redis_url=redis_url, key_prefix="outbox:"))
    yield store
    await store.close()


@given(steps=STEPS)
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_nothing_is_lost_unsaid(redis_url: str, steps: list[tuple[str, object]]) -> None:
    async def play() -> None:
        store = RegistryStore(RegistrySettings(redis_url=redis_url, key_prefix="outbox:"))
        try:
            await _play(Session(Outbox(store, "f")), steps)
        finally:
            await store.close()

    asyncio.run(play())


async def _play(session: Session, steps: list[tuple[str, object]]) -> None:
    for kind, what in steps:
        if kind == "leave":
            await session.leave(what)  # type: ignore[arg-type]
        elif kind == "dropped":
            await session.leave(["told"], what)  # type: ignore[arg-type]
        elif kind == "take":
            if session.left:
                session.place = await session.take(session.place)
        elif session.left:
            places = list(session.seen)
            await session.take(places[int(what) % len(places)])  # type: ignore[call-overload]
        await _bounded(session)


async def _bounded(session: Session) -> None:
    """Questions stay; what is beside them is bounded."""
    rows, place = [], START
    while more := await session.outbox.after(session.sid, place):
        rows, place = [*rows, *more], more[-1].place
    assert {number_of(row.message) for row in rows} >= set(session.questions), "a question was dropped"
    told = [row.message for row in rows if number_of(row.message) not in session.questions]
    kept = [row.message for row in rows]
    assert not told or len(kept) <= max(COUNT, len(session.questions) + 1)
    assert len(told) <= 1 or sum(map(len, kept)) <= BYTES


async def test_what_was_taken_for_good_is_gone_and_the_rest_stays(store: RegistryStore) -> None:
    session = Session(Outbox(store, "f"))
    await session.leave(["told", "asked", "told"])
    first, second, _ = await session.outbox.after(session.sid, START)
    await session.outbox.clear(session.sid, second.place)
    (rest,) = await session.outbox.after(session.sid, first.place)
    assert number_of(rest.message) == 3
    await session.outbox.clear(session.sid, rest.place)
    assert await session.outbox.after(session.sid, START) == []
    assert await store.redis.hget(f"{store.keys.outbox(session.sid)}:state", "bytes") == b"0"


async def test_what_is_older_than_it_is_kept_is_gone_questions_too(
    store: RegistryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = Session(Outbox(store, "f"))
    monkeypatch.setattr(outbox, "KEPT_MS", round(stretched(300)))
    await session.leave(["asked", "told"])
    for _ in range(4):  # it is never silent for so long that the whole of it would be forgotten
        await asyncio.sleep(outbox.KEPT_MS / 2000)
        await session.leave(["told"])
    rows = await session.outbox.after(session.sid, START)
    assert 1 <= len(rows) <= 3 and all(number_of(row.message) > 2 for row in rows)
    state = await store.redis.hget(f"{store.keys.outbox(session.sid)}:state", "bytes")
    assert int(state) == sum(len(row.message) for row in rows)


async def test_it_is_kept_for_a_while_only(store: RegistryStore) -> None:
    session = Session(Outbox(store, "f"))
    await session.leave(["told"])
    for key in (store.keys.outbox(session.sid), f"{store.keys.outbox(session.sid)}:state"):
        assert 50_000 < await store.redis.pttl(key) <= 60_000
