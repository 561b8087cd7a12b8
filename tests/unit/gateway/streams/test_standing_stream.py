"""``gateway.streams.standing_stream.StandingStream``: a client that does not read loses notifications first, and never an answer
without being told."""

from __future__ import annotations

import pytest

from gateway.streams import standing_stream
from gateway.streams.standing_stream import StandingStream, Waiting
from shared.mcp import jsonrpc

LIMIT = 10


def told(number: int) -> bytes:
    return jsonrpc.notification("notifications/progress", b'{"progress":%d}' % number)


def answer(number: int) -> bytes:
    return jsonrpc.response(b"%d" % number, b"{}")


def queue(stream: StandingStream) -> list[bytes]:
    return [message for message, _ in stream._queue._entries]


def test_the_oldest_notifications_make_room_and_answers_stay() -> None:
    stream = StandingStream("s", LIMIT, {})
    stream.push(answer(1))
    for number in range(100):
        stream.push(told(number))
    assert queue(stream) == [answer(1), *(told(number) for number in range(91, 100))]
    stream.push(answer(2))
    assert queue(stream)[0] == answer(1) and queue(stream)[-1] == answer(2) and len(queue(stream)) == LIMIT
    assert not stream.closing


def test_who_reads_no_answers_at_all_loses_the_stream() -> None:
    stream = StandingStream("s", LIMIT, {})
    for number in range(LIMIT):
        stream.push(answer(number))
    assert len(queue(stream)) == LIMIT and not stream.closing
    stream.push(answer(LIMIT))
    assert queue(stream) == [] and stream.closing


def test_bytes_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing_stream, "_MAX_WAITING_BYTES", 1000)
    stream = StandingStream("s", LIMIT, {})
    large = jsonrpc.notification("notifications/message", b'{"data":"%b"}' % (b"x" * 700))
    stream.push(large)
    stream.push(large)
    assert queue(stream) == [large]
    stream.push(answer(1))
    assert queue(stream) == [large, answer(1)] and stream._queue._bytes == len(large) + len(answer(1))


def test_that_lists_changed_is_never_dropped_and_what_is_dropped_is_counted() -> None:
    changed = jsonrpc.notification("notifications/tools/list_changed")
    stream = StandingStream("s", LIMIT, {"notifications/tools/list_changed": changed})
    stream.announce({"notifications/tools/list_changed"})
    for number in range(100):
        stream.push(told(number))
        stream.announce({"notifications/tools/list_changed"})
    assert queue(stream) == [changed, *(told(number) for number in range(91, 100))]
    assert stream._queue.dropped == 91


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
