"""``worker.bridge.errors``: what upstreams have as ``error`` becomes a code and a message."""

from __future__ import annotations

import json
from typing import Any

import pytest

from worker.bridge.errors import well_formed

NOTHING = "the upstream gives no reason"


@pytest.mark.parametrize(
    "raw",
    [b'{"code":-32000,"message":"boom"}', b'{ "message": "", "code": 5, "data": null, "more": 1.0 }', b"{no JSON"],
)
def test_a_good_error_keeps_its_bytes(raw: bytes) -> None:
    assert well_formed(raw) is raw


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("boom", {"code": -32603, "message": "boom"}),
        ({"message": "boom", "data": 1}, {"code": -32603, "message": "boom", "data": 1}),
        ({"code": None, "message": "boom"}, {"code": -32603, "message": "boom"}),
        ({"code": "E1", "message": "boom"}, {"code": -32603, "message": "boom (E1)"}),
        ({"code": "-32001", "message": "boom"}, {"code": -32001, "message": "boom"}),
        ({"code": -32001.0, "message": "boom"}, {"code": -32001, "message": "boom"}),
        ({"code": True, "message": "boom"}, {"code": -32603, "message": "boom (true)"}),
        ({"code": 5}, {"code": 5, "message": NOTHING}),
        ({"code": 5, "message": None}, {"code": 5, "message": NOTHING}),
        ({"code": 5, "message": {"a": 1}}, {"code": 5, "message": '{"a":1}'}),
        ({"code": 5, "error": "boom"}, {"code": 5, "message": "boom", "error": "boom"}),
        (["boom"], {"code": -32603, "message": '["boom"]'}),
        (False, {"code": -32603, "message": NOTHING}),
        ({}, {"code": -32603, "message": NOTHING}),
    ],
)
def test_any_other_gets_a_code_and_a_message(given: Any, expected: dict[str, Any]) -> None:
    assert json.loads(bytes(well_formed(json.dumps(given).encode()))) == expected
