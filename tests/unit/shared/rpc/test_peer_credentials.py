"""``shared.rpc.peer_credentials``: only our own user and root may be at the other end of a Unix socket."""

from __future__ import annotations

import socket

import pytest

from shared.rpc.peer_credentials import Credentials, credentials, objection, place


@pytest.mark.parametrize(
    "peer, own, fits",
    [(1000, 1000, True), (0, 1000, True), (0, 0, True), (1001, 1000, False), (1000, 0, False), (65534, 1000, False)],
)
def test_the_other_end_must_run_as_we_do_or_as_root(peer: int, own: int, fits: bool) -> None:
    words = objection(Credentials(1, peer), own)
    assert fits == (words == "")
    assert fits or (f"uid {peer}" in words and f"uid {own}" in words)


def test_where_nobody_says_who_it_is_nothing_is_held_against_it() -> None:
    assert objection(None) == ""
    assert credentials(None) is None


class _Tcp:
    family = socket.AF_INET


def test_tcp_has_no_credentials_and_is_named_by_its_address() -> None:
    assert credentials(_Tcp()) is None
    assert place(_Tcp(), ("10.0.0.1", 7)) == "10.0.0.1:7"
    assert place(_Tcp(), ("fd00::1", 7, 0, 0)) == "[fd00::1]:7"
    assert place(None, None) == "a Unix socket"
