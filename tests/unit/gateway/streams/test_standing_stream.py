"""``gateway.streams.standing_stream``: a client that does not read loses notifications first, and never an answer
without being told."""

from __future__ import annotations

import pytest

from gateway.http.event_stream import EventStream
from gateway.streams import standing_stream
from gateway.streams.standing_stream import StandingStream, Waiting
from shared.mcp import jsonrpc

LIMIT = 10
CHANGED = "notifications/tools/list_changed"


def told(number: int) -> bytes:
    return jsonrpc.notification("notifications/progress", b'{"progress":%d}' % number)


def answer(number: int) -> bytes:
    return jsonrpc.response(b"%d" % number, b"{}")


class Client(EventStream):
    """An event stream that notes what is written, instead of writing it."""

    def __init__(self) -> None:
        super().__init__()
        self.got: list[bytes] = []
        self.told_dropped: list[int] = []

    async def send(self, message: bytes, id: str | None = None, name: str = "message") -> None:
        """Note an event."""
        self.got.append(message)

    async def report_dropped(self, count: int, as_log_message: bool) -> None:
        """Note that so many were dropped."""
        self.told_dropped.append(count)


async def read(stream: StandingStream) -> Client:
    """All that waits on the stream, as its client gets it at last; the stream is over then."""
    client = Client()
    stream.close()
    await stream.write_to(client)
    return client


async def test_the_oldest_notifications_make_room_and_answers_stay() -> None:
    stream, longer = StandingStream("s", LIMIT, {}), StandingStream("s", LIMIT, {})
    for one in (stream, longer):
        one.push(answer(1))
        for number in range(100):
            one.push(told(number))
    longer.push(answer(2))
    assert not stream.closing and not longer.closing
    client = await read(stream)
    assert client.got == [answer(1), *(told(number) for number in range(91, 100))]
    assert client.told_dropped == [91]
    client = await read(longer)
    assert client.got == [answer(1), *(told(number) for number in range(92, 100)), answer(2)]


async def test_who_reads_no_answers_at_all_loses_the_stream() -> None:
    stream = StandingStream("s", LIMIT, {})
    for number in range(LIMIT):
        stream.push(answer(number))
    assert not stream.closing
    stream.push(answer(LIMIT))
    assert stream.closing
    assert (await read(stream)).got == []


async def test_up_to_the_limit_all_answers_wait() -> None:
    stream = StandingStream("s", LIMIT, {})
    for number in range(LIMIT):
        stream.push(answer(number))
    assert (await read(stream)).got == [answer(number) for number in range(LIMIT)]


async def test_bytes_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing_stream, "MAX_WAITING_BYTES", 1000)
    stream = StandingStream("s", LIMIT, {})
    large = jsonrpc.notification("notifications/message", b'{"data":"%b"}' % (b"x" * 700))
    stream.push(large)
    stream.push(large)
    stream.push(answer(1))
    client = await read(stream)
    assert client.got == [large, answer(1)] and client.told_dropped == [1]


def test_what_made_room_does_not_count_any_more() -> None:
    one = jsonrpc.notification("n", b'"%b"' % (b"x" * 100))
    waiting = Waiting(LIMIT, 3 * len(one))
    for _ in range(20):
        waiting.push(one)
    assert len(waiting) == 3 and waiting.dropped == 17
    waiting.take()
    waiting.push(one)
    assert len(waiting) == 3 and waiting.dropped == 17


async def test_that_lists_changed_is_never_dropped_and_what_is_dropped_is_counted() -> None:
    changed = jsonrpc.notification(CHANGED)
    stream = StandingStream("s", LIMIT, {CHANGED: changed})
    stream.announce({CHANGED})
    for number in range(100):
        stream.push(told(number))
        stream.announce({CHANGED})
    client = await read(stream)
    assert client.got == [changed, *(told(number) for number in range(91, 100))]
    assert client.told_dropped == [91]


def test_what_waits_keeps_its_place_in_the_outbox() -> None:
    waiting = Waiting(LIMIT, 1000)
    waiting.push(told(1), "5-0-1")
    waiting.push(answer(2))
    waiting.push(told(3), "6-0-2")
    assert len(waiting) == 3 and answer(2) in waiting and answer(4) not in waiting
    assert [waiting.take() for _ in range(3)] == [(told(1), "5-0-1"), (answer(2), ""), (told(3), "6-0-2")]


def test_the_newest_is_kept_whatever_its_size_and_answers_are_too_many_when_nothing_makes_room() -> None:
    waiting = Waiting(3, 1000)
    assert waiting.push(told(1)) and waiting.push(answer(2)) and waiting.push(answer(3))
    assert waiting.push(answer(4)) and waiting.dropped == 1
    assert not waiting.push(answer(5)), "none of it can be dropped"
    waiting.clear()
    large = jsonrpc.notification("n", b'"%b"' % (b"x" * 5000))
    assert waiting.push(large) and len(waiting) == 1
    assert waiting.push(large) and len(waiting) == 1 and waiting.dropped == 2
