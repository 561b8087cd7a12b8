"""Requests are told apart by what they say, not by how it is written."""

from __future__ import annotations

import pytest

from shared.request_state import request_digest

PARAMS = b'{"name":"n","arguments":{"a":1,"b":[{"c":"x"},2.50]}}'


@pytest.mark.parametrize(
    "same",
    [
        b'{ "arguments" : {"b":[{"c":"x"}, 2.50], "a": 1}, "name":"n" }',
        b'{"name":"\\u006e","arguments":{"a":1,"b":[{"c":"x"},2.50]}}',
        PARAMS[:-1] + b',"_meta":{"x":1},"inputResponses":{},"requestState":"s"}',
    ],
)
def test_order_spaces_and_what_a_retry_may_change_do_not_count(same: bytes) -> None:
    assert request_digest("tools/call", same) == request_digest("tools/call", PARAMS)


@pytest.mark.parametrize(
    "other",
    [
        PARAMS.replace(b":1,", b':"1",'),
        PARAMS.replace(b":1,", b":2,"),
        PARAMS.replace(b":1,", b":true,"),
        PARAMS.replace(b'{"c":"x"}', b'[["c","x"]]'),
        PARAMS.replace(b'{"c":"x"}', b'["c","x"]'),
    ],
)
def test_everything_else_does(other: bytes) -> None:
    assert request_digest("tools/call", other) != request_digest("tools/call", PARAMS)
    assert request_digest("prompts/get", PARAMS) != request_digest("tools/call", PARAMS)


def test_numbers_may_have_any_length() -> None:
    one, other = (b'{"a":1' + b"0" * 1_000_000 + end + b"}" for end in (b"1", b"2"))
    assert request_digest("m", one) != request_digest("m", other)
