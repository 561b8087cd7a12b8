"""``gateway.admission.suspects``: how often a peer may be wrong."""

from __future__ import annotations

from gateway.admission.suspects import Suspects


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def looked_at(suspects: Suspects, peer: str, most: int = 10_000) -> int:
    """How many wrong credentials of a peer are looked at, at this moment."""
    for number in range(most):
        if not suspects.may(peer):
            return number
        suspects.wrong(peer)
    return most


def test_a_peer_may_be_wrong_so_often_and_again_later() -> None:
    clock = Clock()
    suspects = Suspects(10, clock)
    assert looked_at(suspects, "a") == 40
    clock.now += 1.0
    assert looked_at(suspects, "a") == 10
    assert suspects.may("b")
    assert "a" in suspects
    assert "b" not in suspects


def test_a_peer_that_was_not_wrong_for_a_while_is_no_suspect_any_more() -> None:
    clock = Clock()
    suspects = Suspects(10, clock)
    suspects.wrong("a")
    clock.now += 10.0
    assert suspects.may("a")
    assert "a" not in suspects


def test_what_is_looked_at_counts_before_it_is_known_to_be_wrong_and_not_if_it_is_right() -> None:
    suspects = Suspects(1, Clock())
    suspects.wrong("a")
    assert [suspects.may("a") for _ in range(5)] == [True, True, True, False, False]
    suspects.right("a")
    assert [suspects.may("a") for _ in range(2)] == [True, False]


def test_a_grant_is_a_yes_once_more() -> None:
    suspects = Suspects(1, Clock())
    suspects.wrong("a")
    assert [suspects.may("a", grant=True) for _ in range(4)] == [True, True, True, False]
    suspects.wrong("a", granted=True)  # it was wrong at once, and does not come again
    assert [suspects.may("a") for _ in range(3)] == [True, True, False]


def test_many_peers_together_are_bounded_and_who_was_not_wrong_is_not_concerned() -> None:
    clock = Clock()
    suspects = Suspects(10, clock)
    for number in range(500):
        suspects.wrong(f"peer {number}")
    assert not suspects.may("peer 0")
    assert suspects.may("somebody else")


def test_what_is_known_of_peers_is_bounded() -> None:
    suspects = Suspects(10, Clock())
    for number in range(30_000):
        suspects.wrong(f"peer {number}")
    assert suspects.peers <= 10_000
    assert "peer 29999" in suspects


def test_zero_is_any_number() -> None:
    suspects = Suspects(0, Clock())
    assert looked_at(suspects, "a") == 10_000


def test_it_is_counted_what_was_not_looked_at() -> None:
    suspects = Suspects(1, Clock())
    suspects.unread("a")
    suspects.unread("a")
    assert suspects.taken() == 2
    assert suspects.taken() == 0
