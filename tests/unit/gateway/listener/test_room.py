"""``gateway.listener.room``: who gets a place where there are few."""

from __future__ import annotations

import pytest

from gateway.listener.room import Room, connections_for
from shared.errors import Refused
from shared.settings import ClientSettings


class Visitor:
    """A connection that was idle since ``since``, or is busy."""

    def __init__(self, peer: str = "a", since: float | None = None) -> None:
        self.peer = peer
        self.since = since
        self.gone = False

    def idle_since(self) -> float | None:
        return self.since

    def make_way(self) -> None:
        self.gone = True


def _room(total: int = 10, of_peer: int = 10) -> Room:
    return Room(ClientSettings(max_client_connections=total, max_client_connections_per_peer=of_peer))


def _enter(room: Room, *visitors: Visitor, now: float = 100.0) -> list[Visitor]:
    for visitor in visitors:
        room.enter(visitor, now)
    return list(visitors)


@pytest.mark.parametrize(
    ("open_files", "expected"), [(256, 192), (1024, 896), (20_000, 18_976), (64, 8), (-1, 100_000)]
)
def test_descriptors_are_kept_back_for_links_and_redis(open_files: int, expected: int) -> None:
    assert connections_for(open_files) == expected


def test_one_address_has_half_of_the_room_by_default() -> None:
    room = Room(ClientSettings(max_client_connections=100))
    assert (room.most, room.most_of_peer) == (100, 50)


def test_whoever_was_idle_for_longest_gives_way() -> None:
    room = _room(total=3)
    old, oldest, busy = _enter(room, Visitor("a", 2.0), Visitor("b", 1.0), Visitor("c"))
    _enter(room, Visitor("d"))
    assert (oldest.gone, old.gone, busy.gone, len(room)) == (True, False, False, 3)


def test_an_address_at_its_bound_gives_way_to_itself_alone() -> None:
    room = _room(of_peer=2)
    other, old, young = _enter(room, Visitor("b", 1.0), Visitor("a", 2.0), Visitor("a", 3.0))
    _enter(room, Visitor("a"))
    assert (other.gone, old.gone, young.gone) == (False, True, False)


@pytest.mark.parametrize(("total", "of_peer", "code"), [(10, 2, "too_much_of_peer"), (2, 10, "too_much")])
def test_where_all_are_busy_a_newcomer_is_refused_until_one_leaves(total: int, of_peer: int, code: str) -> None:
    room = _room(total, of_peer)
    first, _ = _enter(room, Visitor(), Visitor())
    with pytest.raises(Refused) as caught:
        _enter(room, Visitor())
    assert caught.value.code == code and len(room) == 2
    room.leave(first)
    room.leave(first)
    _enter(room, Visitor())
    assert len(room) == 2


def test_an_address_with_many_busy_connections_leaves_those_of_others_alone_between_their_calls() -> None:
    room = _room(total=4)
    working, *_ = _enter(room, Visitor("b", 99.9), Visitor("a"), Visitor("a"), Visitor("a"))
    with pytest.raises(Refused):
        _enter(room, Visitor("a"))
    assert not working.gone
    _enter(room, Visitor("a"), now=110.0)  # it is really idle now
    assert working.gone


def test_a_new_address_takes_a_place_of_those_with_many() -> None:
    room = _room(total=4)
    crowd = _enter(room, *(Visitor("a", 99.0 + number / 10) for number in range(4)))
    _enter(room, Visitor("b"))
    assert [one.gone for one in crowd] == [True, False, False, False]


def test_room_is_made_for_several_at_once() -> None:
    room = _room(total=320, of_peer=320)
    crowd = _enter(room, *(Visitor("a", float(number)) for number in range(320)), now=1000.0)
    _enter(room, Visitor("a"), now=1000.0)
    assert [one.gone for one in crowd[:11]] == [True] * 10 + [False]


def test_at_the_bound_of_an_address_who_has_just_come_stays_until_its_request_had_time_to_arrive() -> None:
    room = _room(of_peer=2)
    first, _ = _enter(room, Visitor(since=100.0), Visitor(since=100.5))
    with pytest.raises(Refused):
        _enter(room, Visitor(since=100.0))
    _enter(room, Visitor(since=102.0), now=102.0)
    assert first.gone


def test_only_so_many_that_were_refused_stay_to_read_why() -> None:
    room, crowd = _room(), [Visitor() for _ in range(40)]
    for one in crowd:
        room.see_off(one)
    assert [one.gone for one in crowd] == [True] * 8 + [False] * 32
    assert len(room) == 0 and set(room) == set(crowd[8:])
    for one in crowd:
        room.leave(one)
    assert not list(room)
