"""Whom a proxy names counts only on the proxy's own connections."""

from __future__ import annotations

import pytest

from gateway.access.trusted_proxy import TrustedProxy
from shared.access.methods import TrustedProxyMethod

PROXY = TrustedProxy(TrustedProxyMethod(addresses=("10.1.2.3", "fd00::/8"), roles=("staff",)))
NAMED = {"x-forwarded-user": ["ann"], "x-forwarded-groups": ["a, b", "c"]}


@pytest.mark.parametrize("peer", ["10.1.2.3", "::ffff:10.1.2.3", "fd00::5", "fd00::5%eth0"])
def test_the_proxy_names_the_caller(peer: str) -> None:
    found = PROXY.identity(NAMED, peer)
    assert found is not None and found.id == "proxy:ann" and found.claims["groups"] == ["a", "b", "c"]
    assert found.given == ("staff",)


@pytest.mark.parametrize("peer", ["10.1.2.4", "127.0.0.1", "::1", "::ffff:10.1.2.4", "", None, "10.1.2.3, 1.1.1.1"])
def test_nobody_else_does(peer: str | None) -> None:
    assert PROXY.identity(NAMED, peer) is None


@pytest.mark.parametrize("users", [[], [""], ["ann", "eve"], ["a" * 513], ["a\udcff"], ["a\nb"]])
def test_a_name_that_is_missing_or_not_single_is_none(users: list[str]) -> None:
    assert PROXY.identity({"x-forwarded-user": users}, "10.1.2.3") is None
