"""The screen of ``gateway status --watch``: what fits on it, in which order, and where keys lead."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.cli.screen import Looked, Place, keys, moved, picture, upstreams


def server(id: str, status: str = "connected", **more: Any) -> dict[str, Any]:
    made = {"id": id, "name": id, "transport": "http", "status": status, "duty": "active", "statusSince": 1.0}
    return {**made, "error": None, "notes": [], "tools": [], "owners": ["w1"], **more}


def looked(at: float, calls: int = 0, servers: tuple[dict[str, Any], ...] = (), **more: Any) -> Looked:
    end = {"id": "f1", "calls": calls, "errors": 0, "failures": {"timeout": calls // 10}, "inFlight": 2}
    overview = {"name": "city", "redis": True, "workers": [{}, {}], "frontends": [{**end, "buckets": [calls, 0, 0]}]}
    row = {"upstream": "a", "calls": calls, "errors": calls // 10, "waiting": 3}
    return Looked(at, {**overview, **more}, list(servers), {"upstreams": [row]}, [])


def text(now: Looked, before: Looked | None = None, place: Place | None = None, closer: Any = None) -> list[str]:
    return [line.plain for line in picture(now, before, place or Place(), closer or {}, 24)]


MANY = tuple(server(f"s{number:04}") for number in range(1000))


def test_a_thousand_upstreams_fit_on_one_screen_and_what_fails_stands_above() -> None:
    lines = text(looked(0.0, servers=(*MANY, server("broken", "error", error="connection refused"))))
    assert len(lines) == 24
    assert "> broken" in lines[4] and "error" in lines[4] and lines[4].endswith("connection refused")
    assert any("1 to " in line and "of 1001" in line for line in lines)


def test_rates_are_of_the_time_between_two_looks() -> None:
    lines = text(looked(12.0, 150, (server("a"),)), looked(10.0, 50, (server("a"),)))
    assert "50.0 calls/s   5.0 errors/s   half <1ms   99 % <1ms   2 in flight   3 waiting" in lines[1]
    assert "50.0     10" in lines[4]


def test_without_redis_workers_are_not_counted() -> None:
    assert "2 workers" in text(looked(0.0))[0]
    lines = text(looked(0.0, redis=False, workers=[]))
    assert "Redis does not answer" in lines[0] and "worker" not in lines[0]


def test_a_front_end_that_was_replaced_counts_from_zero_and_nothing_is_negative() -> None:
    assert "10.0 calls/s" in text(looked(12.0, 20), looked(10.0, 0))[1]
    assert "0.0 calls/s" in text(looked(12.0, 20), looked(10.0, 50))[1]


def test_only_what_fails_is_shown_if_that_is_wanted() -> None:
    now = looked(0.0, servers=(server("a"), server("b", "error"), server("c", duty="draining")))
    assert [one["id"] for one in upstreams(now, failing=True)] == ["b", "c"]
    assert any("every upstream takes calls" in line for line in text(looked(0.0), place=Place(failing=True)))


@pytest.mark.parametrize(
    ("pressed", "chosen"),
    [(["down"], "b"), (["down", "down", "down"], "c"), (["up"], "a"), (["page down"], "c"), (["down", "page up"], "a")],
)
def test_keys_choose_and_end_at_both_ends_of_the_list(pressed: list[str], chosen: str) -> None:
    place = Place("a")
    for key in pressed:
        moved(place, ["a", "b", "c"], key, 10)
    assert place.chosen == chosen


@pytest.mark.parametrize(
    ("typed", "meaning"),
    [
        ("k\r", ["up", "open"]),
        ("\x1b[B\x1b[B\x1bOA", ["down", "down", "up"]),
        ("\x1b", ["back"]),
        ("\x1b[5~q", ["page up", "end"]),
        ("x", [""]),
        ("", ["end"]),
    ],
)
def test_keys_that_come_together_are_told_apart(typed: str, meaning: list[str]) -> None:
    assert keys(typed) == meaning


def test_the_choice_stays_in_sight() -> None:
    assert any(line.startswith("> s0500") for line in text(looked(0.0, servers=MANY), place=Place("s0500")))


def test_a_closer_look_says_why_and_what_helps_and_cannot_steer_the_terminal() -> None:
    down = server("a", "error", error="refused\x1b[2J", advice="start it", lastHealthCheck=None)
    closer = {"server": down, "errors": ["1s ago  pay  timeout: late"], "logs": [f"line {n}" for n in range(100)]}
    lines = text(looked(0.0, servers=(down,)), place=Place("a", closer=True), closer=closer)
    assert len(lines) == 24 and lines[-1].startswith("esc back")
    assert "what helps  start it" in lines and any("timeout: late" in line for line in lines)
    assert not any("\x1b" in line for line in lines)
