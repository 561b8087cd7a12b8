"""Which worker gets a call: together while few are in flight, evenly when many are, and never all front ends at one."""

from __future__ import annotations

import random

import pytest

from gateway.fleet.worker_affinity import TOGETHER, WorkerAffinity

OWNERS = ("a", "b")


class Link:
    """A link with calls in flight."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.in_flight = 0


def put(homes: WorkerAffinity, links: list[Link], count: int, owners: tuple[str, ...] = OWNERS) -> None:
    for _ in range(count):
        homes.choose(owners, links).in_flight += 1


@pytest.fixture(autouse=True)
def same_dice() -> None:
    random.seed(7)


def test_few_calls_go_together_and_many_evenly() -> None:
    homes, links = WorkerAffinity(), [Link("a"), Link("b")]
    put(homes, links, TOGETHER)
    assert sorted(link.in_flight for link in links) == [0, TOGETHER]
    put(homes, links, 9 * TOGETHER)
    assert abs(links[0].in_flight - links[1].in_flight) <= 1


def test_a_home_that_takes_no_calls_is_replaced_and_the_same_owners_share_one() -> None:
    homes, links = WorkerAffinity(), [Link("a"), Link("b")]
    home = homes.choose(OWNERS, links)
    assert homes.choose(OWNERS, links) is home
    other = next(link for link in links if link is not home)
    assert homes.choose(OWNERS, [other]) is other
    assert homes.choose(OWNERS, links) is other, "what moved stays: nothing is gained by moving back"


def test_who_comes_later_goes_where_less_is_done() -> None:
    homes, links = WorkerAffinity(), [Link("a"), Link("b")]
    homes.reconsider({"a": 9, "b": 3})
    assert homes.choose(OWNERS, links).worker == "b"


def test_front_ends_that_chose_the_same_part() -> None:
    frontends = [WorkerAffinity() for _ in range(8)]
    links = [Link("a"), Link("b")]
    for homes in frontends:
        homes.reconsider({"a": 0, "b": 1})
        assert homes.choose(OWNERS, links).worker == "a"
    for _ in range(20):
        at = [homes.choose(OWNERS, links).worker for homes in frontends]
        loads = {worker: 16 * at.count(worker) for worker in ("a", "b")}
        for homes in frontends:
            homes.reconsider(loads)
    assert 2 <= at.count("a") <= 6, loads


def test_who_is_even_or_idle_stays() -> None:
    homes, links = WorkerAffinity(), [Link("a"), Link("b")]
    home = homes.choose(OWNERS, links).worker
    other = "b" if home == "a" else "a"
    for loads in ({home: 24, other: 12}, {home: 8, other: 0}, {other: 0}, {home: 500}, {}):
        for _ in range(20):
            homes.reconsider(loads)
        assert homes.choose(OWNERS, links).worker == home, loads


def test_what_is_remembered_is_bounded() -> None:
    homes, links = WorkerAffinity(), [Link("a"), Link("b")]
    for number in range(5000):
        homes.choose((*OWNERS, str(number)), links)
    assert homes.remembered <= 1000
