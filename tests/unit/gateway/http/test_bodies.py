"""``gateway.http.bodies``: bytes of unfinished bodies are counted, and so is the pace at which they come."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.http.bodies import Arrival, Bodies, peer_of
from shared.errors import Refused
from shared.settings import ClientSettings


def _bodies(in_all: int = 10_000, of_peer: int = 5_000, rate: int = 100, largest: int = 1024) -> Bodies:
    settings = ClientSettings(
        max_bodies_bytes=in_all, max_bodies_bytes_per_peer=of_peer, min_body_rate=rate, body_grace_s=10.0
    )
    return Bodies(settings, largest)


def test_an_address_may_hold_so_much_and_all_together_so_much() -> None:
    bodies = _bodies()
    bodies.hold("a", 5_000)
    with pytest.raises(Refused, match="maxBodiesBytesPerPeer") as of_peer:
        bodies.hold("a", 1)
    bodies.hold("b", 5_000)
    with pytest.raises(Refused, match="maxBodiesBytes") as in_all:
        bodies.hold("c", 1)
    assert (of_peer.value.wire.http, in_all.value.wire.http) == (429, 503)
    assert bodies.held == 10_000


def test_what_has_ended_is_counted_no_more() -> None:
    bodies = _bodies()
    arrivals = [Arrival(bodies, peer, 0.0) for peer in "ab"]
    for arrival in arrivals:
        arrival.add(5_000)
    for arrival in arrivals:
        arrival.end()
        arrival.end()
    assert bodies.held == 0 and bodies.peers == 0


def test_one_body_of_the_largest_size_fits_whatever_the_bounds() -> None:
    bodies = _bodies(in_all=1024, of_peer=1024, largest=1_000_000)
    bodies.hold("a", 1_000_000)
    with pytest.raises(Refused):
        bodies.hold("a", 1_000)


def test_in_every_window_enough_has_to_come() -> None:
    arrival = Arrival(_bodies(of_peer=10_000), "a", 0.0)
    arrival.add(5_000)
    assert arrival.check(9.9) == 10.0
    assert arrival.check(10.0) == 20.0  # what came before does not count for the next
    arrival.add(999)
    with pytest.raises(Refused, match="minBodyRate") as caught:
        arrival.check(20.0)
    assert caught.value.wire.http == 408


def test_a_rate_of_zero_lets_a_body_take_any_time() -> None:
    arrival = Arrival(_bodies(rate=0), "a", 0.0)
    assert arrival.check(1000.0) == 1010.0


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        (("10.1.2.3", 4711), "10.1.2.3"),
        (("::ffff:10.1.2.3", 4711, 0, 0), "10.1.2.3"),
        (("2001:db8:1:2:3:4:5:6", 1, 0, 0), "2001:db8:1:2::/64"),
        (("2001:db8:1:2::6", 1, 0, 0), "2001:db8:1:2::/64"),
        (("2001:db8::6", 1, 0, 0), "2001:db8:0:0::/64"),
        (("fe80::1%eth0", 1, 0, 2), "fe80:0:0:0::/64"),
        (("::1", 1, 0, 0), "0:0:0:0::/64"),
        ("", ""),
        (None, ""),
    ],
)
def test_a_peer_is_an_address_or_the_network_that_one_site_has(name: Any, peer: str) -> None:
    assert peer_of(asyncio.Transport({"peername": name})) == peer
