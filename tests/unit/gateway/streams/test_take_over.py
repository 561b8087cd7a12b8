"""A session's stream that another front end took over: who gives way, and that nothing stays unread meanwhile."""

from __future__ import annotations

from typing import Any, cast

import pytest

from gateway.streams.outbox import EVERYONE
from gateway.streams.standing_stream import StandingStream
from gateway.streams.standing_streams import StandingStreams
from shared.settings import SessionSettings


class Surroundings:
    """Sessions, interests and outbox of a front end, as far as a take-over asks them."""

    def __init__(self, holder: str) -> None:
        self.holder = holder
        self.woken: list[tuple[str, str]] = []
        self.left_for: list[str] = []
        self.stream: StandingStream | None = None
        self.closes_meanwhile = False

    def hint(self, kind: str, sid: str, uri: str) -> None: ...

    async def noted(self, sid: str, field: str) -> str:
        return self.holder

    async def wake(self, frontend: str, text: str) -> None:
        self.woken.append((frontend, text))

    async def leave(self, sid: str, messages: list[bytes], to: str, *limits: int) -> tuple[int, int]:
        self.left_for.append(to)
        if self.closes_meanwhile and self.stream is not None:
            self.stream.close()
        return 0, 0

    async def after(self, sid: str, place: str) -> list[Any]:
        return []

    sid = "s"


def streams_of(around: Surroundings, written: str = "1-0-1") -> tuple[StandingStreams, StandingStream]:
    sessions = interests = cast(Any, around)
    streams = StandingStreams(cast(Any, None), "A", interests, sessions, SessionSettings())
    streams._outbox = cast(Any, around)
    stream = around.stream = streams.attach("s", {})
    stream.written = written
    return streams, stream


@pytest.mark.parametrize(
    ("holder", "written", "closes"), [("B", "1-0-1", True), ("A", "1-0-1", False), ("B", "", False)]
)
async def test_who_gives_way(holder: str, written: str, closes: bool) -> None:
    """Whoever lost it, and wakes who has it now; not one that is newer than the word, or only being opened."""
    around = Surroundings(holder)
    streams, stream = streams_of(around, written)
    await streams._woken("close s")
    assert stream.closing is closes
    assert around.woken == ([("B", "outbox s")] if closes else [])


async def test_what_is_left_while_it_is_taken_over_is_told_to_whoever_has_it() -> None:
    around = Surroundings("B")
    streams, stream = streams_of(around)
    await streams.pass_on(cast(Any, around), [b"one"], 0)
    assert (around.left_for, around.woken) == ([""], []), "it is held here"
    around.closes_meanwhile = True
    await streams.pass_on(cast(Any, around), [b"two"], 0)
    assert stream.closing and around.woken == [(EVERYONE, "outbox s")]
    await streams.pass_on(cast(Any, around), [b"three"], 0)
    assert around.left_for == ["", "", EVERYONE]
