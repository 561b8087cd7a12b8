"""``worker.transports.http_refusals``: which response is an answer, and what one says that is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shared.connections import HttpConnection
from worker.transports.http_endpoint import HttpEndpoint
from worker.transports.http_refusals import is_answer, refusal


def body(id: Any, **members: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": id, **(members or {"error": {"code": 1, "message": "no"}})}).encode()


@pytest.mark.parametrize("status", [403, 500, 502])
def test_an_error_with_the_id_of_the_request_is_its_answer(status: int) -> None:
    assert is_answer(status, body(7), 7, "tools/call") and is_answer(status, body("7"), 7, "ping")
    for other in (body(None), body(8), body(7, result={}), b'{"id":7,"error":{}}', b"<html>", b"", b"[" * 10_000):
        assert not is_answer(status, other, 7, "tools/call")


def test_what_concerns_more_than_the_request_answers_none() -> None:
    for status in (401, 407, 429, 503):
        assert not is_answer(status, body(7), 7, "tools/call")
    for status in (200, 202, 400, 402, 404, 405, 409, 422):
        assert is_answer(status, b"", 7, "tools/call"), "it is looked at as one"


def test_how_initialize_is_refused_is_told_by_the_status() -> None:
    """A 405 means that an older server may be there, whatever JSON it comes with."""
    answers = [one for one in (200, 400, 403, 404, 405, 500) if is_answer(one, body(7), 7, "initialize")]
    assert answers == [200, 400, 404]


def said(status: int, text: Any, **headers: str) -> str:
    endpoint = HttpEndpoint("http://u.test/mcp", HttpConnection("http://u.test/mcp", headers=headers))
    content = text if isinstance(text, bytes) else json.dumps(text).encode()
    return refusal(endpoint, "upstream_unavailable", status, b"text/html", b"", b"", content).message


@pytest.mark.parametrize(
    "text",
    [
        {"error": {"message": "disk  full\n"}},
        {"error": "disk full"},
        {"detail": "disk full"},
        {"title": "disk full", "status": 500},
        {"error": "server_error", "error_description": "disk full"},
    ],
)
def test_what_a_server_says_is_said(text: Any) -> None:
    assert said(500, text) == "u.test answered HTTP 500 (disk full); the call may have run"
    assert said(422, text) == "u.test answered HTTP 422 (disk full), no MCP answer"


@pytest.mark.parametrize("text", [b"<html>", b"", {"error": {"code": 5}}, [1], {"detail": [{"loc": ["x"]}]}, 5])
def test_what_is_no_text_is_not_said(text: Any) -> None:
    assert said(500, text) == "u.test answered HTTP 500; the call may have run"


def test_no_secret_comes_back_and_a_long_text_is_cut() -> None:
    told = said(500, {"error": "no key tok-123456 here, nor Bearer tok-123456"}, Authorization="Bearer tok-123456")
    assert "tok-123456" not in told and "no key *** here" in told
    assert len(said(500, {"error": "x" * 9000})) < 300
