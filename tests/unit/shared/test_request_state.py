"""``shared.request_state``: only what this fleet sealed, for this principal, in time, is believed."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import request_state
from shared.errors import CallError, Refused
from shared.request_state import MAX_STATE, RequestState
from shared.secrets import FleetKey, SessionClaims

KEY = FleetKey.from_secret("unit tests")
NOW = 1_700_000_000.0
STATE = RequestState(NOW + 600, "up", "w1", "ada", b"d" * 16, "parked", 3, b'"theirs"', True)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, as ``clock[0]``."""
    now = [NOW]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


def _refused(text: str, principal: str = "ada", key: FleetKey = KEY) -> str:
    with pytest.raises(Refused) as caught:
        request_state.unseal(key, text, principal)
    assert caught.value.code == "invalid_params"
    return caught.value.message


def test_what_was_sealed_comes_back() -> None:
    assert request_state.unseal(KEY, request_state.seal(KEY, STATE), "ada") == STATE


def test_any_process_of_the_fleet_reads_it_and_no_other() -> None:
    text = request_state.seal(KEY, STATE)
    assert request_state.unseal(FleetKey.from_secret("unit tests"), text, "ada") == STATE
    assert "issued" in _refused(text, key=FleetKey.from_secret("unit test"))


def test_a_state_is_plain_text_that_shows_nothing() -> None:
    text = request_state.seal(KEY, STATE)
    assert re.fullmatch(r"[A-Za-z0-9_-]+", text)
    for word in ("ada", "theirs", "parked"):
        assert word not in text
    assert request_state.seal(KEY, STATE) != text


def test_no_character_of_it_can_be_changed() -> None:
    text = request_state.seal(KEY, STATE)
    # Of the last character base64 may not use every bit; four steps away the used ones differ for certain.
    for index, character in enumerate(text):
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        other = alphabet[(alphabet.index(character) + 16) % 64]
        assert "issued" in _refused(text[:index] + other + text[index + 1 :])


@given(st.data())
def test_nothing_can_be_cut_or_added(data: st.DataObject) -> None:
    text = request_state.seal(KEY, STATE)
    index = data.draw(st.integers(0, len(text) - 1))
    assert "issued" in _refused(text[:index])
    assert "issued" in _refused(text[index + 1 :])
    assert "issued" in _refused(text[:index] + data.draw(st.text("ABCabc012-_", min_size=1, max_size=8)) + text[index:])


def test_a_seal_of_another_purpose_is_not_one() -> None:
    claims = SessionClaims(int(NOW), "2025-11-25", "ada", b"12345678", "", b"salt")
    assert "issued" in _refused(KEY.seal_session(claims))
    assert "issued" in _refused(KEY.seal(STATE, b"session"))
    assert KEY.unseal(request_state.seal(KEY, STATE), SessionClaims, b"session") is None
    assert KEY.open_session(request_state.seal(KEY, STATE)) is None


def test_a_seal_of_this_purpose_over_something_else_is_not_one() -> None:
    assert "issued" in _refused(KEY.seal(SessionClaims(1, "v", "ada", b"", "", b""), b"state"))


@pytest.mark.parametrize("principal", ["", "eve", "Ada", "ada ", "adaa"])
def test_another_principals_is_refused(principal: str) -> None:
    assert _refused(request_state.seal(KEY, STATE), principal) == _refused("made up")


def test_nobodys_is_for_nobody() -> None:
    text = request_state.seal(KEY, RequestState(NOW + 1, "up", "w1", "", b""))
    assert request_state.unseal(KEY, text, "").upstream == "up"
    assert _refused(text, "ada") == _refused("made up")


def test_it_counts_until_it_expires(clock: list[float]) -> None:
    text = request_state.seal(KEY, STATE)
    clock[0] = STATE.expires
    assert request_state.unseal(KEY, text, "ada") == STATE
    clock[0] = STATE.expires + 0.001
    assert "expired" in _refused(text)


def test_who_it_is_comes_before_whether_it_expired(clock: list[float]) -> None:
    clock[0] = STATE.expires + 1
    assert _refused(request_state.seal(KEY, STATE), "eve") == _refused("made up")


def test_fields_of_a_later_version_are_tolerated() -> None:
    class Later(RequestState, array_like=True, frozen=True):
        added: str = "new"

    later = Later(NOW + 1, "up", "w1", "ada", b"d")
    found = request_state.unseal(KEY, KEY.seal(later, b"state"), "ada")
    assert (found.upstream, found.worker, found.parked) == ("up", "w1", "")


@pytest.mark.parametrize("text", ["", "x", "A", "=" * 8, "A===", "é" * 60, "\ud800" * 60, "!" * 60, "A" * 500])
def test_what_is_no_seal_is_refused(text: str) -> None:
    assert "issued" in _refused(text)


@given(st.text(max_size=200))
def test_whatever_comes_is_refused(text: str) -> None:
    assert "issued" in _refused(text)


def test_what_is_huge_is_not_even_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []
    monkeypatch.setattr(FleetKey, "unseal", lambda self, text, kind, purpose: tried.append(text))
    _refused("A" * (MAX_STATE + 1))
    assert tried == []
    _refused("A" * MAX_STATE)
    assert len(tried) == 1


def _with_inner(size: int) -> RequestState:
    return RequestState(NOW + 600, "up", "w1", "ada", b"d" * 16, inner=b'"%b"' % (b"x" * size))


def test_a_large_state_of_an_upstream_survives() -> None:
    state = _with_inner(700_000)
    assert request_state.unseal(KEY, request_state.seal(KEY, state), "ada") == state


@pytest.mark.parametrize("size", [790_000, 5_000_000])
def test_what_could_not_be_taken_back_is_not_given_out(size: int) -> None:
    with pytest.raises(CallError) as caught:
        request_state.seal(KEY, _with_inner(size))
    assert caught.value.code == "upstream_protocol"


def test_long_params_are_compared_as_they_were_written() -> None:
    """To read a megabyte of small objects for its digest took 300 ms, in which nobody else was served."""
    table = b"[%b]" % b",".join([b'{"a":1}'] * 20_000)
    params = b'{"name":"t","arguments":{"rows":%b}%b}'
    digest = request_state.request_digest("tools/call", params % (table, b""))
    retry = params % (table, b',"requestState":"s","inputResponses":{},"_meta":{"a":1}')
    assert request_state.request_digest("tools/call", retry) == digest
    for other in (params.replace(b'"t"', b'"u"') % (table, b""), params % (table[:-2] + b"2}]", b"")):
        assert request_state.request_digest("tools/call", other) != digest
    assert request_state.request_digest("prompts/get", params % (table, b"")) != digest
    spaced = table.replace(b":", b": ")
    assert request_state.request_digest("tools/call", params % (spaced, b"")) != digest
    short = request_state.request_digest("tools/call", params % (b'[{"a":1}]', b""))
    assert request_state.request_digest("tools/call", params % (b'[{"a": 1}]', b"")) == short
