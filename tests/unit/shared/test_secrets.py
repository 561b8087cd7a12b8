"""``shared.secrets``: session ids that only the fleet can make, and proofs of membership."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.secrets import FleetKey, SessionClaims, digest

KEY = FleetKey.from_secret("unit tests")
CLAIMS = SessionClaims(1_700_000_000, "2025-11-25", "ada", b"12345678", "group", b"salt")


@given(
    st.builds(
        SessionClaims,
        st.integers(0, 2**40),
        st.text(max_size=16),
        st.text(max_size=40),
        st.binary(max_size=8),
        st.text(max_size=40),
        st.binary(max_size=16),
    )
)
def test_a_session_id_says_what_was_sealed(claims: SessionClaims) -> None:
    sid = KEY.seal_session(claims)
    assert re.fullmatch(r"[\x21-\x7e]{40,512}", sid)
    assert KEY.open_session(sid) == claims


def test_any_front_end_with_the_secret_opens_it_and_no_other() -> None:
    sid = KEY.seal_session(CLAIMS)
    assert FleetKey.from_secret("unit tests").open_session(sid) == CLAIMS
    assert FleetKey.from_secret("unit test").open_session(sid) is None


def test_the_same_claims_never_give_the_same_id() -> None:
    assert len({KEY.seal_session(CLAIMS) for _ in range(20)}) == 20


def test_the_id_does_not_show_the_claims() -> None:
    sid = KEY.seal_session(CLAIMS)
    assert "ada" not in sid
    assert "group" not in sid


@given(st.integers(0, 10_000), st.sampled_from("ABCDEFGHabcdefgh01234567-_"))
def test_an_id_that_was_changed_opens_to_nothing_else(index: int, character: str) -> None:
    sid = KEY.seal_session(CLAIMS)
    index %= len(sid) - 1  # the last character may carry bits that base64 does not use
    changed = sid[:index] + character + sid[index + 1 :]
    assert KEY.open_session(changed) == (CLAIMS if changed == sid else None)


@pytest.mark.parametrize("sid", ["", "x", "A" * 39, "A" * 40, "A" * 512, "A" * 513, "é" * 60, "=" * 60, "!" * 60])
def test_what_is_no_session_id_of_ours_is_none(sid: str) -> None:
    assert KEY.open_session(sid) is None


@given(st.text(max_size=600))
def test_opening_never_raises(sid: str) -> None:
    assert KEY.open_session(sid) is None


def test_an_overlong_id_is_not_even_tried() -> None:
    huge = KEY.seal_session(SessionClaims(0, "v", "p" * 600, b"", "", b""))
    assert len(huge) > 512
    assert KEY.open_session(huge) is None


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_a_proof_is_for_one_statement_under_one_key(statement: bytes, other: bytes) -> None:
    proof = KEY.proof(statement)
    assert KEY.proves(statement, proof) == 0
    assert (KEY.proves(other, proof) == 0) == (other == statement)
    assert FleetKey.from_secret("another").proves(statement, proof) is None
    assert KEY.proves(statement, b"") is None
    assert KEY.proves(statement, proof[:-1]) is None


def test_the_key_is_not_in_its_repr() -> None:
    key = b"hush-hush-hush-hush-hush-hush-32"
    assert "hush" not in repr(FleetKey(key)) + str([FleetKey(key)])


def test_a_digest_is_short_and_tells_things_apart() -> None:
    assert len(digest(b"a")) == 8
    assert digest(b"a") == digest(b"a") != digest(b"b")


def test_a_rotated_key_opens_what_older_ones_sealed_and_seals_with_the_first() -> None:
    old, both, new = (FleetKey.from_secret(secret) for secret in ("old", "new, old", "new"))
    sid = old.seal_session(CLAIMS)
    assert both.open_session(sid) == CLAIMS and new.open_session(sid) is None
    sid = both.seal_session(CLAIMS)
    assert new.open_session(sid) == CLAIMS and old.open_session(sid) is None
    said = b"who is who"
    assert both.proves(said, old.proof(said)) == 1 and both.proves(said, new.proof(said)) == 0
    assert new.proves(said, both.proof(said)) == 0 and new.proves(said, old.proof(said)) is None
    assert old.proves(said, both.proof(said, 1)) == 0
