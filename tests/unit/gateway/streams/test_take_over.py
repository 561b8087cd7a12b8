"""A session's stream that another front end took over: who gives way, and that nothing stays unread meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import cast

import pytest

from gateway.sessions.session import ClientSession
from gateway.sessions.table import SessionTable
from gateway.streams.open_streams import OpenStreams
from gateway.streams.outbox import EVERYONE, Left, Outbox
from gateway.streams.standing_stream import StandingStream
from gateway.streams.standing_streams import StandingStreams
from gateway.streams.subscriptions import StreamSubscriptions
from shared.settings import SessionSettings
from tests.unit.gateway.fakes import Front

SESSION = ClientSession("s", "2025-11-25", "", "")


class Surroundings:
    """What a take-over asks of a ``SessionTable`` and an ``Outbox``: who holds the stream, and who is told what."""

    def __init__(self, holder: str) -> None:
        self.holder = holder
        self.woken: list[tuple[str, str]] = []
        self.left_for: list[str] = []
        self.stream: StandingStream | None = None
        self.closes_meanwhile = False
        self.heard: Callable[[str], Awaitable[None]]

    async def noted(self, sid: str, field: str) -> str:
        """Return who holds the stream."""
        return self.holder

    async def wake_if_possible(self, frontend: str, text: str) -> None:
        """Note who is woken."""
        self.woken.append((frontend, text))

    async def leave(self, sid: str, messages: Sequence[bytes], to: str, *limits: int) -> tuple[int, int]:
        """Note for whom something is left; meanwhile the stream may be closed."""
        self.left_for.append(to)
        if self.closes_meanwhile and self.stream is not None:
            self.stream.close()
        return 0, 0

    async def after(self, sid: str, place: str) -> list[Left]:
        """Return nothing: all was taken."""
        return []

    async def follow(self, heard: Callable[[str], Awaitable[None]], begun: Callable[[], Awaitable[None]]) -> None:
        """Let the test say what others say."""
        self.heard = heard


async def streams_of(around: Surroundings, written: str = "1-0-1") -> tuple[StandingStreams, StandingStream]:
    """Front end A, where the stream of the session is open."""
    settings, front = SessionSettings(), Front()
    streams = StandingStreams(
        OpenStreams(settings),
        cast(Outbox, around),
        "A",
        front.registry,
        front.pool,
        cast(StreamSubscriptions, None),
        cast(SessionTable, around),
        settings,
    )
    stream = around.stream = streams.attach(SESSION, front.registry.catalog.everything)
    stream.written = written
    await streams.follow_wakeups()
    return streams, stream


@pytest.mark.parametrize(
    ("holder", "written", "closes"), [("B", "1-0-1", True), ("A", "1-0-1", False), ("B", "", False)]
)
async def test_who_gives_way(holder: str, written: str, closes: bool) -> None:
    """Whoever lost it, and wakes who has it now; not one that is newer than the word, or only being opened."""
    around = Surroundings(holder)
    _, stream = await streams_of(around, written)
    await around.heard("close s")
    assert stream.closing is closes
    assert around.woken == ([("B", "outbox s")] if closes else [])


async def test_what_is_left_while_it_is_taken_over_is_told_to_whoever_has_it() -> None:
    around = Surroundings("B")
    streams, stream = await streams_of(around)
    await streams.pass_on(SESSION, [b"one"], 0)
    assert (around.left_for, around.woken) == ([""], []), "it is held here"
    around.closes_meanwhile = True
    await streams.pass_on(SESSION, [b"two"], 0)
    assert stream.closing and around.woken == [(EVERYONE, "outbox s")]
    await streams.pass_on(SESSION, [b"three"], 0)
    assert around.left_for == ["", "", EVERYONE]
