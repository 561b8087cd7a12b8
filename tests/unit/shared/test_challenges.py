"""``shared.oauth.challenges``: what an upstream says when it refuses."""

from __future__ import annotations

import time

import pytest

from shared.oauth.challenges import Challenge, read_challenge


@pytest.mark.parametrize(
    ("status", "header", "said"),
    [
        (401, b"", Challenge(401)),
        (401, b"Basic realm=x", Challenge(401)),
        (401, b'Bearer realm="a, b", error="invalid_token"', Challenge(401, "invalid_token")),
        (403, b"Basic x=y, bearer scope=read, error=insufficient_scope", Challenge(403, "insufficient_scope", "read")),
        (401, b'Bearer resource_metadata="https://h/\\"x"', Challenge(401, resource_metadata='https://h/"x')),
        (401, b'Bearer scope="a\x01b"', Challenge(401)),
        (401, b'Bearer scope="a", scope="b"', Challenge(401, scope="a")),
        (401, b'Bearer scope="' + b"a" * 20000, Challenge(401)),
    ],
)
def test_a_challenge_is_read(status: int, header: bytes, said: Challenge) -> None:
    assert read_challenge(status, header) == said


def test_only_a_token_or_scope_that_is_missing_is_a_reason_to_get_another() -> None:
    assert Challenge(401).asks_for_token and Challenge(403, "insufficient_scope").asks_for_token
    assert not Challenge(403).asks_for_token and not Challenge(403, "invalid_token").asks_for_token


@pytest.mark.parametrize("part", [b"a", b"a ", b'a="', b'a="\\', b"a =", b" "])
def test_a_challenge_of_any_letters_is_read_in_one_go(part: bytes) -> None:
    """Trying each letter as the beginning of a name took half a second, in which the worker did nothing else."""
    began = time.process_time()
    for _ in range(20):
        read_challenge(401, b"Bearer " + part * 8000)
    assert time.process_time() - began < 2.0
    assert read_challenge(401, b'Bearer  scope = "a b" , error=x').scope == "a b"
