"""``worker.transports.eras``: the verdicts on what answers ``server/discover``."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import NotDelivered
from worker.transports.eras import http_verdict, is_modern, speaks_modern


def _answer(**members: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": "probe", **members}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (_answer(result={"supportedVersions": ["2026-07-28"]}), True),
        (_answer(result={"supportedVersions": ["2099-01-01", "2026-07-28"]}), True),
        (_answer(result={"supportedVersions": ["2099-01-01"]}), False),
        (_answer(result={"supportedVersions": ["2025-11-25"]}), False),
        (_answer(result={"supportedVersions": []}), False),
        (_answer(result={"supportedVersions": "2026-07-28"}), False),
        (_answer(result={"supportedVersions": [None, {}, 5]}), False),
        (_answer(result={}), False),
        (_answer(result=None), False),
        (_answer(result=5), False),
        (_answer(error={"code": -32020}), True),
        (_answer(error={"code": -32021}), True),
        (_answer(error={"code": -32022, "data": {"supported": ["2026-07-28"]}}), True),
        (_answer(error={"code": -32022, "data": {"supported": ["2099-01-01"]}}), False),
        (_answer(error={"code": -32022, "data": {"supported": "all"}}), True),
        (_answer(error={"code": -32022, "data": "text"}), True),
        (_answer(error={"code": -32601, "message": "unknown method"}), False),
        (_answer(error={"code": -32600}), False),
        (_answer(error={"code": -32000, "message": "Server not initialized"}), False),
        (_answer(error={}), False),
        (_answer(error="no"), False),
        (_answer(error=None), False),
        (_answer(), None),
        ({"detail": "Not Found"}, None),
        ([], None),
        ("text", None),
        (None, None),
        (5, None),
    ],
)
def test_an_answer_to_discover_tells_the_era(answer: Any, expected: bool | None) -> None:
    assert is_modern(answer) is expected


@pytest.mark.parametrize("code", [None, "-32020", -32023, -32019, 0, [], {}])
def test_only_the_modern_codes_are_modern(code: Any) -> None:
    assert not speaks_modern({"code": code})


MODERN = json.dumps(_answer(result={"supportedVersions": ["2026-07-28"]})).encode()
LEGACY = json.dumps(_answer(error={"code": -32601})).encode()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, MODERN, True),
        (400, json.dumps(_answer(error={"code": -32022})).encode(), True),
        (404, json.dumps(_answer(error={"code": -32020})).encode(), True),
        (200, LEGACY, False),
        (400, LEGACY, False),
        (400, b"Bad Request: no session", False),
        (404, b"<html>not here</html>", False),
        (405, b"", False),
        (406, b"{}", False),
        (200, b"<html>hello</html>", False),
        (200, b"\xff\xfe", False),
        (202, b"", False),
        (302, b"", False),
        (404, b'{"detail":"Not Found"}', False),
    ],
)
def test_an_http_answer_tells_modern_or_not(status: int, body: bytes, expected: bool) -> None:
    assert http_verdict(status, body) is expected


@pytest.mark.parametrize("status", [401, 403, 429, 500, 502, 503, 504, 599])
@pytest.mark.parametrize("body", [b"", MODERN, LEGACY])
def test_some_statuses_tell_nothing_yet(status: int, body: bytes) -> None:
    with pytest.raises(NotDelivered, match=f"HTTP {status}") as caught:
        http_verdict(status, body)
    assert caught.value.code == "upstream_unavailable"
    assert caught.value.data == {"http": str(status)}


def test_a_refusal_of_credentials_says_where_to_look() -> None:
    with pytest.raises(NotDelivered, match="check the headers configured for it"):
        http_verdict(401, b"")


def test_a_refusal_of_credentials_says_what_the_upstream_says_of_it() -> None:
    refusal = b'Bearer error="invalid_token", error_description="token expired"'
    with pytest.raises(NotDelivered, match=r"HTTP 401 \(invalid_token: token expired\): check"):
        http_verdict(401, b"", refusal)
    with pytest.raises(NotDelivered, match="HTTP 401: check"):
        http_verdict(401, b"", b'Bearer error_description="\x1b[2J"')


@given(st.sampled_from([200, 202, 400, 404]), st.binary(max_size=40))
def test_no_body_makes_a_verdict_fail(status: int, body: bytes) -> None:
    assert http_verdict(status, body) is False
