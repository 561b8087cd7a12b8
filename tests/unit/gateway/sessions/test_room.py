"""``gateway.sessions.room``: sessions that are not used give way."""

from __future__ import annotations

from typing import Any, cast

from gateway.sessions.room import SessionRoom
from gateway.sessions.session import ClientSession


def _session(sid: str, at: float = 0.0) -> ClientSession:
    session = ClientSession(sid, "2025-11-25", "", "")
    session.touched_at = at
    return session


def test_of_one_peer_the_oldest_that_was_never_used_gives_way() -> None:
    room = SessionRoom(100, 3)
    opened = {sid: _session(sid) for sid in "abcd"}
    for sid in "abc":
        assert room.enter(opened[sid], "1.2.3.4", 10, 0.0) == []
    assert room.enter(_session("other"), "5.6.7.8", 10, 0.0) == [], "another peer has room of its own"
    opened["a"].touched_at = 5.0
    assert room.enter(opened["d"], "1.2.3.4", 10, 6.0) == ["b"]
    assert room.enter(_session("e"), "1.2.3.4", 10, 7.0) == ["c"]
    assert len(room) == 4


def test_a_session_with_a_call_or_a_stream_is_in_use() -> None:
    room = SessionRoom(100, 3)
    calling, streaming, idle = _session("calling"), _session("streaming"), _session("idle")
    for one in (calling, streaming, idle):
        room.enter(one, "p", 10, 0.0)
    calling.under_way = cast(Any, {b"1": object()})
    streaming.holder = "front-end"
    assert room.enter(_session("new"), "p", 10, 1.0) == ["idle"]


def test_use_counts_from_the_last_look_and_is_noted_at_once() -> None:
    room = SessionRoom(100, 2)
    first, second = _session("first"), _session("second")
    first.round = second.round = 7
    room.enter(first, "p", 10, 0.0)
    room.enter(second, "p", 10, 0.0)
    assert first.round == second.round == -1, "the next use of either is noted whatever the round"
    first.touched_at, second.touched_at = 1.0, 2.0
    assert room.enter(_session("third"), "p", 10, 3.0) == ["first"], "all were used: the one that was looked at first"
    second.touched_at = 4.0
    assert room.enter(_session("fourth"), "p", 10, 5.0) == ["third"]


def test_facts_count_and_all_peers_together_have_a_bound() -> None:
    room = SessionRoom(6, 5)
    assert room.enter(_session("large"), "p", 16 * 1024, 0.0) == []
    assert room.enter(_session("small"), "p", 10, 0.0) == ["large"]
    for number in range(5):
        assert room.enter(_session(f"of {number}"), f"peer {number}", 10, 1.0) == []
    assert room.enter(_session("one more"), "another", 10, 2.0) == ["small"]


def test_what_has_ended_is_not_counted() -> None:
    room = SessionRoom(100, 2)
    for number in range(50):
        assert room.enter(_session(str(number)), "p", 10, 0.0) == []
        room.leave(str(number))
        room.leave("unknown")
    assert len(room) == 0 and room.peers == 0
