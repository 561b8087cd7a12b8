"""``shared.egress``: where upstreams may be, however their address is written."""

from __future__ import annotations

import pytest

from shared.egress import ANYWHERE, PRIVATE, THIS_MACHINE, Egress, check_rules, nearness

PLAIN = Egress()


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254", "169.254.0.1", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "169.254.43518",
        "[fe80::1]", "fe80::1%eth0", "[fd00:ec2::254]", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1", "100.100.100.200", "0.0.0.0", "0", "0.0.0.7", "::", "224.0.0.1", "ff02::1",
        "::169.254.169.254", "::ffff:0:a9fe:a9fe", "64:ff9b:1:a9fe:a9:fe00::", "64:ff9b:1::a9fe:a9fe",
        "64:ff9b:1:a9:fea9:fe::".replace("a9:fea9:fe", "0:a9:fea9:fe"), "2001::5601:5601", "2001:0:a9fe:a9fe::1",
        "2001:db8::5efe:169.254.169.254", "2001:db8::200:5efe:a9fe:a9fe", "168.63.129.16", "0xA9.0xFE.0xA9.0xFE",
        "\uff11\uff16\uff19.254.169.254", "169\u3002254\u3002169\u3002254", "%31%36%39.254.169.254",
        "\u2460\u2465\u2468.254.169.254", "metadata\uff0egoogle\u3002internal", "metadata.tencentyun.com",
        "255.255.255.255", "metadata.google.internal", "METADATA.google.internal.", "metadata",
    ],
)  # fmt: skip
def test_what_is_never_a_server_is_refused_however_it_is_written(host: str) -> None:
    assert PLAIN.refusal_of_host(host)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "10.0.0.1", "192.168.1.1", "::1", "[::1]", "fd00::1", "8.8.8.8", "2001:db8::1",
     "mcp.example", "169.254.169.254.example", "1.2.3.4.5", "0x", "metadata.example", "2130706433",
     "2001:4860:4860::8888", "64:ff9b::808:808", "2002:808:808::1", "2001:db8::5efe:10.0.0.1", "m\u00fcnchen.example"],
)  # fmt: skip
def test_everything_else_may_be_one(host: str) -> None:
    assert PLAIN.refusal_of_host(host) == ""


def test_the_resolved_address_counts_and_is_named_with_its_name() -> None:
    refusal = PLAIN.refusal_of_address("169.254.169.254", "rebound.example")
    assert refusal.startswith("rebound.example is 169.254.169.254, which is a link-local address")
    assert PLAIN.refusal_of_address("10.1.2.3", "rebound.example") == ""


def test_rules_say_otherwise_and_deny_wins() -> None:
    rules = Egress(
        allow=["169.254.7.0/24", "metadata.google.internal"], deny=["10.0.0.0/8", "*.internal.example", "::1"]
    )
    assert rules.refusal_of_host("169.254.7.9") == "" and rules.refusal_of_host("169.254.8.9")
    assert rules.refusal_of_host("metadata.google.internal") == ""
    assert rules.refusal_of_address("169.254.169.254", "metadata.google.internal") == ""
    assert "egressDeny" in rules.refusal_of_host("10.9.9.9")
    assert "egressDeny" in rules.refusal_of_host("a.internal.example")
    assert "egressDeny" in rules.refusal_of_host("::ffff:10.0.0.1")
    assert "egressDeny" in rules.refusal_of_address("::1", "localhost")
    assert Egress(allow=["169.254.169.254"], deny=["169.254.169.254"]).refusal_of_host("169.254.169.254")


@pytest.mark.parametrize(
    ("host", "near"),
    [("8.8.8.8", ANYWHERE), ("mcp.example", ANYWHERE), ("10.0.0.1", PRIVATE), ("100.64.0.1", PRIVATE),
     ("fd00::1", PRIVATE), ("192.168.0.9", PRIVATE), ("127.9.9.9", THIS_MACHINE), ("::1", THIS_MACHINE),
     ("64:ff9b::7f00:1", THIS_MACHINE), ("0x7f.1", THIS_MACHINE), ("2130706433", THIS_MACHINE)],
)  # fmt: skip
def test_what_a_server_names_may_not_be_nearer_than_it_is_itself(host: str, near: int) -> None:
    assert nearness(host) == near
    for nearest in (ANYWHERE, PRIVATE, THIS_MACHINE):
        refused = PLAIN.refusal_of_host(host, nearest)
        assert bool(refused) == (near > nearest) and ("nearer than the server" in refused) == bool(refused)


def test_what_is_allowed_may_be_nearer_than_what_names_it() -> None:
    rules = Egress(allow=["10.0.0.0/8", "sso.example"])
    assert rules.refusal_of_address("10.1.1.1", "a.example", ANYWHERE) == ""
    assert rules.refusal_of_address("192.168.1.1", "sso.example", ANYWHERE) == ""
    assert rules.refusal_of_address("192.168.1.1", "a.example", ANYWHERE)


@pytest.mark.parametrize("entry", ["10.0.0.0/33", "http://x", "", "fe80::/200", "a/b"])
def test_a_rule_that_cannot_be_understood_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match="no address, network or host name"):
        check_rules([entry])
