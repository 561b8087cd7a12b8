"""``worker.sessions.correlation``: each answer reaches its own call, once, and nobody else's."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.mcp import jsonrpc
from worker.calls.call import Call
from worker.sessions.correlation import (
    Announced,
    Answered,
    Asked,
    Correlation,
    Ignored,
    Outcome,
    Progressed,
)


def _call(token: bytes = b"") -> Call:
    call = Call("tools/call", b"{}", 0, 30.0)
    call.token = token
    return call


def _receive(correlation: Correlation, **members: Any) -> Outcome:
    return correlation.receive(jsonrpc.decode(json.dumps({"jsonrpc": "2.0", **members}).encode()))


@given(st.permutations(range(6)))
def test_answers_find_their_calls_in_any_order(order: list[int]) -> None:
    correlation = Correlation()
    calls = [_call() for _ in order]
    ids = [correlation.begin(call) for call in calls]
    assert len(set(ids)) == len(ids)
    for index in order:
        outcome = _receive(correlation, id=ids[index], result={"n": index})
        assert isinstance(outcome, Answered)
        assert outcome.call is calls[index]
        assert (outcome.is_error, json.loads(bytes(outcome.raw))) == (False, {"n": index})
    assert correlation.calls == {}


def test_an_error_is_an_answer() -> None:
    correlation, call = Correlation(), _call()
    outcome = _receive(correlation, id=correlation.begin(call), error={"code": -5, "message": "no"})
    assert isinstance(outcome, Answered)
    assert outcome.call is call
    assert outcome.is_error
    assert json.loads(bytes(outcome.raw)) == {"code": -5, "message": "no"}


def test_an_upstream_that_makes_a_string_of_our_id_is_understood() -> None:
    correlation = Correlation()
    assert isinstance(_receive(correlation, id=str(correlation.begin(_call())), result={}), Answered)


@pytest.mark.parametrize("id", [2, 0, -1, "x", "", "1x", " 1", 10**18, 10**30])
def test_an_answer_to_what_was_never_asked_reaches_nobody(id: Any) -> None:
    correlation = Correlation()
    correlation.begin(_call())
    assert isinstance(_receive(correlation, id=id, result={}), Ignored)
    assert len(correlation.calls) == 1


def test_an_error_without_an_id_reaches_nobody() -> None:
    correlation = Correlation()
    correlation.begin(_call())
    assert isinstance(_receive(correlation, id=None, error={"code": -32700}), Ignored)
    assert isinstance(_receive(correlation, error={"code": -32700}), Ignored)
    assert len(correlation.calls) == 1


def test_a_second_answer_reaches_nobody() -> None:
    correlation = Correlation()
    id = correlation.begin(_call())
    assert isinstance(_receive(correlation, id=id, result={}), Answered)
    assert isinstance(_receive(correlation, id=id, result={}), Ignored)


def test_an_answer_to_a_forgotten_call_reaches_nobody_not_even_a_later_call() -> None:
    correlation, call = Correlation(), _call()
    id = correlation.begin(call)
    assert correlation.id_of(call) == id
    assert correlation.forget(id) is call
    assert correlation.id_of(call) is None
    assert correlation.forget(id) is None
    assert correlation.begin(_call()) != id
    assert isinstance(_receive(correlation, id=id, result={}), Ignored)


def test_draining_gives_every_call_once_in_order() -> None:
    correlation = Correlation()
    calls = [_call() for _ in range(3)]
    ids = [correlation.begin(call) for call in calls]
    correlation.forget(ids[1])
    assert correlation.drain() == [calls[0], calls[2]]
    assert correlation.drain() == []
    assert isinstance(_receive(correlation, id=ids[0], result={}), Ignored)
    assert correlation.begin(_call()) not in ids


@pytest.mark.parametrize("token", [b'"client-token"', b"7", b'"1"'])
@pytest.mark.parametrize("as_text", [False, True])
def test_progress_carries_the_clients_own_token_again(token: bytes, as_text: bool) -> None:
    correlation = Correlation()
    correlation.begin(_call(b'"other"'))
    call = _call(token)
    id: Any = correlation.begin(call)
    params = {"progress": 1, "total": 2, "progressToken": str(id) if as_text else id, "message": "m"}
    outcome = _receive(correlation, method="notifications/progress", params=params)
    assert isinstance(outcome, Progressed)
    assert outcome.call is call
    told = json.loads(outcome.message)
    assert told["method"] == "notifications/progress"
    assert told["params"] == {"progress": 1, "total": 2, "progressToken": json.loads(token), "message": "m"}
    assert isinstance(_receive(correlation, id=id, result={}), Answered)


@pytest.mark.parametrize(
    "params", [None, {}, {"progressToken": 99}, {"progressToken": "x"}, {"progressToken": None}, []]
)
def test_progress_that_names_no_call_is_ignored(params: Any) -> None:
    correlation = Correlation()
    correlation.begin(_call(b'"t"'))
    members = {} if params is None else {"params": params}
    assert isinstance(_receive(correlation, method="notifications/progress", **members), Ignored)


def test_progress_for_a_call_whose_client_did_not_ask_is_ignored() -> None:
    correlation = Correlation()
    id = correlation.begin(_call())
    assert isinstance(
        _receive(correlation, method="notifications/progress", params={"progressToken": id, "progress": 1}),
        Ignored,
    )


def test_requests_of_the_upstream_are_not_mistaken_for_answers() -> None:
    correlation = Correlation()
    id = correlation.begin(_call())
    outcome = _receive(correlation, id=id, method="sampling/createMessage", params={"a": 1})
    assert outcome == Asked(str(id).encode(), "sampling/createMessage", b'{"a": 1}')
    assert len(correlation.calls) == 1
    assert _receive(correlation, id="s", method="ping") == Asked(b'"s"', "ping", b"")


def test_other_notifications_are_announced() -> None:
    method = "notifications/tools/list_changed"
    assert _receive(Correlation(), method=method) == Announced(method, b"")
    assert _receive(Correlation(), method=method, params={"a": 1}) == Announced(method, b'{"a": 1}')


@pytest.mark.parametrize("nothing", [None, {}, [], "", False])
def test_an_error_in_which_nothing_is_does_not_hide_the_result(nothing: Any) -> None:
    correlation = Correlation()
    outcome = _receive(correlation, id=correlation.begin(_call()), result={"a": 1}, error=nothing)
    assert isinstance(outcome, Answered)
    assert (outcome.is_error, json.loads(bytes(outcome.raw))) == (False, {"a": 1})
