"""``worker.transports.session_doubts``: which refusals may be about the session."""

from __future__ import annotations

import pytest

from worker.transports.session_doubts import (
    Refusal,
    is_broken,
    is_over,
    names_lost_session,
    refusal_by_error,
    refusal_by_http,
    speaks_of_session,
)

IDLESS = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"who"}}'
OWN = b'{"jsonrpc":"2.0","id":7,"error":{"code":-32602,"message":"bad"}}'


@pytest.mark.parametrize(
    ("status", "body", "refusal"),
    [
        (400, IDLESS, Refusal(0, -32000, "who")),
        (401, b"", Refusal(401)),
        (409, b"<html>", Refusal(409)),
        (403, b'{"detail":"no"}', Refusal(403)),
        (400, b'{"error":{"code":"invalid"}}', Refusal(400)),
        (400, b'{"error":{"code":-1,"message":"x"},"id":7}', Refusal(0, -1, "x")),
        (400, OWN, None),
        (404, OWN, None),
        (500, IDLESS, None),
        (429, b"", None),
        (413, b"", None),
        (200, IDLESS, None),
        (400, b"x" * 100_000, Refusal(400)),
    ],
)
def test_refusals_by_http(status: int, body: bytes, refusal: Refusal | None) -> None:
    assert refusal_by_http(status, body) == refusal


def test_refusals_by_an_error_and_their_words() -> None:
    error = b'{"code":-32600,"message":"Session terminated","data":1}'
    assert refusal_by_error(error) == Refusal(0, -32600, "Session terminated")
    assert refusal_by_error(b"\xff") is None and refusal_by_error(b"[]") is None
    assert speaks_of_session(error) and speaks_of_session(b'{"message":"not initialised"}')
    assert not speaks_of_session(b'{"message":"bad"}') and not speaks_of_session(b"session" * 10_000)
    assert [is_over(status) for status in (404, 410, 400, 401)] == [True, True, False, False]


def test_errors_that_a_lost_session_may_mean() -> None:
    assert [is_broken(status) for status in (500, 501, 502, 503, 504, 404)] == [True, True, False, False, False, False]
    assert names_lost_session(404, b"") and names_lost_session(410, b"")
    assert names_lost_session(400, b"No transport found for sessionId") and names_lost_session(400, b"Invalid session")
    assert not names_lost_session(400, b"Could not parse message") and not names_lost_session(500, b"session")
