"""``shared.rpc.messages``: small heads that processes of two versions both understand."""

from __future__ import annotations

import typing
from typing import Any

import msgspec
import pytest
from msgspec import Struct

from shared.rpc import messages as rpc

KINDS: tuple[type[Struct], ...] = typing.get_args(rpc.Head)
SAMPLES: list[Any] = [
    rpc.Challenge(b"nonce", "w1"),
    rpc.Hello("f1", b"proof"),
    rpc.OpenSession("sid", "me", "2025-11-25", b'{"roots":{}}', b'{"name":"c"}'),
    rpc.EndSession("sid"),
    rpc.Call(1, "up", "tools/call", 1, "sid", "me", "echo", b'"t"', {"Mcp-Param-A": "1"}, 70_000, trace="00-ab-cd-01"),
    rpc.Cancel(1, "gave up"),
    rpc.Interim(1),
    rpc.Answer(1, True, 99),
    rpc.Failed(1, "timeout", "too slow", True, {"upstream": "up"}),
    rpc.Chunk(1),
    rpc.Grant(1, 2),
    rpc.Ping(1),
    rpc.Pong(1),
    rpc.GoAway(9),
    rpc.Welcome(),
    rpc.Reply("ask-1", "sid", True),
    rpc.Watch(1, "up", "file:///a", "sid", False),
    rpc.Watched(1, False),
    rpc.Updated("up", "file:///a", "sid"),
    rpc.Detach(1),
    rpc.CancelRequest("sid", b"7"),
    rpc.Resume(2, "sid", "frontend", 1, 5),
    rpc.Resumed(2, b"7", "file:///a", "file:///b"),
    rpc.RootsChanged("sid"),
    rpc.Unsolicited("sid"),
    rpc.QuestionNews("w1.1", "sid"),
    rpc.Notice("up", "sid"),
    rpc.Alive("sid"),
]


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_every_head_survives_the_wire(sample: Any) -> None:
    decoded = rpc.decode(rpc.encode(sample))
    assert type(decoded) is type(sample)
    assert decoded == sample


def test_every_kind_of_head_has_a_sample_here() -> None:
    assert {type(sample) for sample in SAMPLES} == set(KINDS)


def test_tags_are_fixed_because_other_versions_know_them() -> None:
    assert {kind.__name__: kind.__struct_config__.tag for kind in KINDS} == {
        "Challenge": 1,
        "Hello": 2,
        "OpenSession": 3,
        "EndSession": 4,
        "Call": 5,
        "Cancel": 6,
        "Interim": 7,
        "Answer": 8,
        "Failed": 9,
        "Chunk": 10,
        "Grant": 11,
        "Ping": 12,
        "Pong": 13,
        "GoAway": 14,
        "Welcome": 15,
        "Reply": 16,
        "Watch": 17,
        "Watched": 18,
        "Updated": 19,
        "Detach": 20,
        "CancelRequest": 21,
        "Resume": 22,
        "Resumed": 23,
        "RootsChanged": 24,
        "Unsolicited": 25,
        "QuestionNews": 26,
        "Notice": 27,
        "Alive": 28,
    }


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: type(sample).__name__)
def test_a_field_that_a_newer_version_added_is_ignored(sample: Any) -> None:
    newer = msgspec.msgpack.encode([*msgspec.msgpack.decode(rpc.encode(sample)), "something new"])
    assert rpc.decode(newer) == sample


def test_fields_that_an_older_version_does_not_send_have_defaults() -> None:
    assert rpc.decode(msgspec.msgpack.encode([5, 1, "up", "ping"])) == rpc.Call(1, "up", "ping")
    assert rpc.decode(msgspec.msgpack.encode([8, 1])) == rpc.Answer(1, False, 0)
    assert rpc.decode(msgspec.msgpack.encode([9, 1, "c", "m", False])) == rpc.Failed(1, "c", "m", False)


@pytest.mark.parametrize("head", [b"", b"\xc1", msgspec.msgpack.encode([99, 1]), msgspec.msgpack.encode({"a": 1})])
def test_nonsense_is_a_decode_error(head: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        rpc.decode(head)


def test_a_head_with_every_small_field_is_small() -> None:
    assert len(rpc.encode(rpc.Call(1, "upstream", "tools/call", 1, "", "", "echo"))) < 64
