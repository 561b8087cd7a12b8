"""``worker.bridge.inputs``: needs for input read and written in both eras' shapes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import CallError, Refused
from shared.request_state import request_digest
from worker.bridge import inputs
from worker.bridge.inputs import ELICIT, MAX_REQUESTS, NEEDS, ROOTS, SAMPLE, Need, Required

FORM, URL = Need(ELICIT, b'{"message":"?"}'), Need(ELICIT, b'{"mode":"url","url":"https://x.test","elicitationId":"e"}')


def _result(**members: Any) -> bytes:
    return json.dumps({"resultType": "input_required", **members}).encode()


# ---- input_required results


def test_needs_and_state_are_read_as_they_were_sent() -> None:
    result = (
        b'{"resultType": "input_required", "inputRequests": {"k": {"method": "elicitation/create",'
        b' "params": {"n": 1.10, "big": 123456789012345678901234567890}}, "r": {"method": "roots/list"}},'
        b' "requestState": "a\\u00e9"}'
    )
    assert inputs.read_required(result) == Required(
        {"k": Need(ELICIT, b'{"n": 1.10, "big": 123456789012345678901234567890}'), "r": Need(ROOTS)},
        b'"a\\u00e9"',
    )


@pytest.mark.parametrize(
    "result",
    [
        b"{}",
        b'{"resultType":"complete"}',
        b'{"resultType":"complete","content":[{"type":"text","text":"\\"input_required\\""}]}',
        b'{"content":["input_required"]}',
        b'{"resultType":["input_required"]}',
        b'["input_required"]',
        b'"input_required"',
        b"null",
        b"",
    ],
)
def test_other_results_are_none_of_that(result: bytes) -> None:
    assert inputs.read_required(result) is None


@pytest.mark.parametrize("result", [_result(), _result(inputRequests={}), _result(requestState="s")])
def test_both_members_may_be_missing(result: bytes) -> None:
    required = inputs.read_required(result)
    assert required is not None
    assert required.needs == {}


@pytest.mark.parametrize(
    "members",
    [
        {"inputRequests": []},
        {"inputRequests": "x"},
        {"inputRequests": None},
        {"inputRequests": {"a": None}},
        {"inputRequests": {"a": "roots/list"}},
        {"inputRequests": {"a": {}}},
        {"inputRequests": {"a": {"method": 5}}},
        {"requestState": 5},
        {"requestState": None},
        {"requestState": {"a": "b"}},
        {"inputRequests": {str(n): {"method": ROOTS} for n in range(MAX_REQUESTS + 1)}},
    ],
)
def test_a_malformed_or_oversized_one_is_the_upstreams_error(members: dict[str, Any]) -> None:
    with pytest.raises(CallError) as caught:
        inputs.read_required(_result(**members))
    assert caught.value.code == "upstream_protocol"


def test_as_many_needs_as_allowed_are_read() -> None:
    required = inputs.read_required(_result(inputRequests={str(n): {"method": ROOTS} for n in range(MAX_REQUESTS)}))
    assert required is not None
    assert len(required.needs) == MAX_REQUESTS


_keys = st.text(max_size=8)
_json = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=8), st.lists, max_leaves=5)
_params = st.dictionaries(_keys, _json, max_size=3).map(lambda params: json.dumps(params).encode()) | st.just(b"")
_needs = st.dictionaries(_keys, st.builds(Need, st.sampled_from(sorted(NEEDS)), _params), max_size=5)


@given(_needs, st.text(max_size=20))
def test_what_is_written_is_read_back(needs: dict[str, Need], state: str) -> None:
    required = inputs.read_required(inputs.write_required(needs, state))
    assert required is not None
    assert required.needs == needs
    assert json.loads(required.state) == state


def test_our_state_replaces_the_upstreams_and_nothing_else() -> None:
    result = b'{"resultType":"input_required","inputRequests":{"a": {"x":1.0}},"requestState":"theirs","_meta":{"b":1}}'
    expected = b'{"resultType":"input_required","inputRequests":{"a": {"x":1.0}},"requestState":"ours","_meta":{"b":1}}'
    assert inputs.with_state(result, "ours") == expected


def test_our_state_is_added_where_there_was_none() -> None:
    assert json.loads(inputs.with_state(_result(), "ours"))["requestState"] == "ours"


# ---- retries


@pytest.mark.parametrize(
    ("params", "responses", "state", "expected"),
    [
        (b'{"a": 1.0}', {"k": b'{"x": 1}'}, b'"s"', b'{"a":1.0,"inputResponses":{"k":{"x": 1}},"requestState":"s"}'),
        (b'{"a":1}', None, b'"s"', b'{"a":1,"requestState":"s"}'),
        (b'{"a":1}', {}, b"", b'{"a":1}'),
        (b'{"inputResponses":{"k":{}},"requestState":"ours","a":1}', {}, b"", b'{"a":1}'),
        (b'{"inputResponses":{"k":{}},"requestState":"ours"}', None, b"", b""),
        (b"", {"k": b"{}"}, b"", b'{"inputResponses":{"k":{}}}'),
        (b"", None, b"", b""),
    ],
)
def test_a_retry_carries_these_answers_and_this_state(
    params: bytes, responses: dict[str, bytes] | None, state: bytes, expected: bytes
) -> None:
    assert inputs.answering(params, responses, state) == expected


def test_the_answers_of_a_retry_are_read_as_they_were_sent() -> None:
    found = inputs.responses_in(b'{"inputResponses": {"a": {"n": 1.10}, "b": null}}')
    assert {key: bytes(raw) for key, raw in found.items()} == {"a": b'{"n": 1.10}', "b": b"null"}
    assert inputs.responses_in(b"{}") == inputs.responses_in(b"") == {}


@pytest.mark.parametrize("params", [b'{"inputResponses":[]}', b'{"inputResponses":null}', b"[]", b"5"])
def test_answers_that_are_no_object_are_invalid_params(params: bytes) -> None:
    with pytest.raises(Refused) as caught:
        inputs.responses_in(params)
    assert caught.value.code == "invalid_params"


# ---- telling requests apart


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"a":1,"b":{"c":[1,2],"d":"\xc3\xa9"}}', b'{ "b" : {"d":"\\u00e9","c":[1, 2]}, "a":1 }'),
        (b'{"a":1}', b'{"a":1,"_meta":{"progressToken":7},"inputResponses":{"k":{}},"requestState":"s"}'),
        (b"{}", b""),
        (b'{"requestState":"s"}', b""),
    ],
)
def test_a_retry_is_the_same_request(one: bytes, other: bytes) -> None:
    assert request_digest("tools/call", one) == request_digest("tools/call", other)


@pytest.mark.parametrize(
    "other",
    [b'{"a":2}', b'{"a":"1"}', b'{"a":1.0}', b'{"a":true}', b'{"a":[1]}', b'{"b":1}', b'{"a":1,"b":null}', b"{}", b""],
)
def test_other_arguments_are_another_request(other: bytes) -> None:
    assert request_digest("tools/call", b'{"a":1}') != request_digest("tools/call", other)


def test_another_method_is_another_request() -> None:
    assert request_digest("tools/call", b"{}") != request_digest("prompts/get", b"{}")


@pytest.mark.parametrize("large", [b"9" * 5000, b"-" + b"9" * 5000])
def test_arguments_that_python_cannot_read_are_told_apart_all_the_same(large: bytes) -> None:
    params = b'{"a":%b,"b":[1]}' % large
    retry = b'{"a":%b,"b":[1],"_meta":{},"inputResponses":{},"requestState":"s"}' % large
    assert request_digest("tools/call", params) == request_digest("tools/call", retry)
    other = params.replace(b"1", b"2")
    assert request_digest("tools/call", params) != request_digest("tools/call", other)
    assert request_digest("tools/call", params) != request_digest("prompts/get", params)


@pytest.mark.parametrize("params", [b"[]", b"5", b"null"])
def test_params_that_are_no_object_have_no_digest(params: bytes) -> None:
    with pytest.raises(Refused):
        request_digest("tools/call", params)


# ---- who may be asked what


BOTH: dict[str, Any] = {"elicitation": {"form": {}, "url": {}}}


@pytest.mark.parametrize(
    ("capabilities", "method", "params", "code"),
    [
        ({"sampling": {}}, SAMPLE, b"{}", None),
        ({"roots": {"listChanged": True}}, ROOTS, b"", None),
        ({"elicitation": {}}, ELICIT, b"{}", None),
        ({"elicitation": {}}, ELICIT, b'{"mode":"form"}', None),
        ({"elicitation": {"url": {}}}, ELICIT, b'{"mode":"url","url":"https://x.test/a"}', None),
        ({"elicitation": {"url": {}}}, ELICIT, b'{"mode":"url","url":"http://localhost:1/a"}', None),
        ({"elicitation": {"url": {}}}, ELICIT, b'{"mode":"url","url":"http://127.0.0.1/a"}', None),
        ({"elicitation": {"url": {}}}, ELICIT, b'{"mode":"url","url":"http://x.test/a"}', -32602),
        ({"elicitation": {"url": {}}}, ELICIT, b'{"mode":"url","url":"javascript:alert(1)"}', -32602),
        ({"elicitation": {"url": {}}}, ELICIT, b'{"mode":"url","url":"JavaScript://x.test/%0aalert(1)"}', -32602),
        ({"elicitation": {"url": {}}}, ELICIT, b'{"mode":"url","url":"file:///etc/passwd"}', -32602),
        ({"elicitation": {"url": {}}}, ELICIT, b'{"mode":"url","url":"data:text/html,x"}', -32602),
        ({"elicitation": {"url": {}}}, ELICIT, b'{"mode":"url","url":"//x.test"}', -32602),
        ({"elicitation": {"url": {}}}, ELICIT, b'{"mode":"url","url":"https://"}', -32602),
        ({"elicitation": {"url": {}}}, ELICIT, b'{"mode":"url","url":7}', -32602),
        # a browser goes to x.test
        ({"elicitation": {"url": {}}}, ELICIT, rb'{"mode":"url","url":"http://x.test\\@127.0.0.1/"}', -32602),
        ({"elicitation": {"url": {}}}, ELICIT, b'{"mode":"url","url":"https://bank.test@x.test/"}', -32602),
        ({"elicitation": {"url": {}}}, ELICIT, rb'{"mode":"url","url":"https://x.test/\u202egpj"}', -32602),
        # another reader takes the other one, or names in any case
        (BOTH, ELICIT, b'{"mode":"url","url":"file:///a","url":"https://x.test"}', -32602),
        (BOTH, ELICIT, b'{"mode":"url","url":"file:///a","mode":"form"}', -32602),
        (BOTH, ELICIT, b'{"Mode":"url","Url":"file:///a"}', -32602),
        (BOTH, ELICIT, b'{"mode":"form","url":"https://x.test"}', None),
        ({"elicitation": {"url": {}}}, ELICIT, b'{"mode":"url"}', -32602),
        ({"elicitation": {}}, ELICIT, b'{"mode":"url"}', -32602),
        ({"elicitation": {"form": {}}}, ELICIT, b'{"mode":"url"}', -32602),
        ({"elicitation": {"url": {}}}, ELICIT, b"{}", -32602),
        ({"elicitation": {"form": {}}}, ELICIT, b'{"mode":"voice"}', -32602),
        ({"elicitation": {"form": {}}}, ELICIT, b'{"mode":null}', -32602),
        ({"elicitation": {"form": {}}}, ELICIT, b"[]", -32602),
        ({}, ELICIT, b"{}", -32601),
        ({}, SAMPLE, b"{}", -32601),
        ({"sampling": {}, "elicitation": {}}, ROOTS, b"", -32601),
        ({"sampling": None}, SAMPLE, b"{}", -32601),
        ({"sampling": True}, SAMPLE, b"{}", -32601),
        ({"elicitation": []}, ELICIT, b"{}", -32601),
        ({"tools": {}}, "tools/call", b"{}", -32601),
        ({"sampling": {}}, "sampling/createmessage", b"{}", -32601),
        ({}, "", b"", -32601),
    ],
)
def test_a_client_is_only_asked_for_what_it_declared(
    capabilities: dict[str, Any], method: str, params: bytes, code: int | None
) -> None:
    why = inputs.refusal(capabilities, method, params)
    assert (why and why[0]) == code


@pytest.mark.parametrize(
    ("url", "unsafe"), [("https://x.test", False), ("javascript:alert(1)", True), ("http://x.test", True)]
)
def test_an_error_that_asks_for_an_unsafe_url_is_known(url: str, unsafe: bool) -> None:
    assert inputs.has_unsafe_url(_urls({"mode": "url", "url": url, "elicitationId": "1"})) is unsafe
    assert not inputs.has_unsafe_url(b'{"code":-32602,"message":"javascript:"}')


def test_a_refusal_repeats_an_upstreams_words_in_bounds() -> None:
    for why in (
        inputs.refusal({}, "m" * 100_000, b""),
        inputs.refusal({"elicitation": {}}, ELICIT, json.dumps({"mode": "m" * 100_000}).encode()),
    ):
        assert why is not None
        assert len(why[1]) < 200


# ---- URL elicitation


def test_a_url_elicitation_gets_the_id_that_legacy_clients_expect() -> None:
    minted = inputs.for_legacy(Need(ELICIT, b'{"mode":"url","url":"https://x.test"}'), "minted")
    assert minted == Need(ELICIT, b'{"mode":"url","url":"https://x.test","elicitationId":"minted"}')


@pytest.mark.parametrize("need", [FORM, URL, Need(SAMPLE, b'{"mode":"url"}'), Need(ROOTS), Need(ELICIT)])
def test_other_needs_and_ids_that_are_there_stay(need: Need) -> None:
    assert json.loads(inputs.for_legacy(need, "minted").params or b"{}") == json.loads(need.params or b"{}")


def _urls(*elicitations: Any, code: Any = inputs.URL_REQUIRED) -> bytes:
    return json.dumps({"code": code, "message": "go there", "data": {"elicitations": list(elicitations)}}).encode()


def test_a_legacy_url_error_is_read_as_needs() -> None:
    error = _urls({"mode": "url", "url": "https://a.test", "elicitationId": "1"}, {"url": "https://b.test"})
    needs = inputs.urls_required(error)
    assert needs is not None
    assert [need.method for need in needs.values()] == [ELICIT, ELICIT]
    assert [json.loads(need.params) for need in needs.values()] == [
        {"mode": "url", "url": "https://a.test"},
        {"mode": "url", "url": "https://b.test"},
    ]


@pytest.mark.parametrize(
    "error",
    [
        _urls(),
        _urls(5),
        _urls({"url": "u"}, "x"),
        _urls({"url": "u"}, code=-32602),
        _urls({"url": "u"}, code="-32042"),
        b'{"code":-32042}',
        b'{"code":-32042,"data":null}',
        b'{"code":-32042,"data":{}}',
        b'{"code":-32042,"data":{"elicitations":{}}}',
        b"[-32042]",
        b"-32042",
        b"",
    ],
)
def test_any_other_error_is_none_of_that(error: bytes) -> None:
    assert inputs.urls_required(error) is None


def test_urls_are_bounded() -> None:
    needs = inputs.urls_required(_urls(*[{"url": "u"}] * (MAX_REQUESTS + 5)))
    assert needs is not None
    assert len(needs) == MAX_REQUESTS


# ---- whatever arrives


@given(st.binary(max_size=40) | _json.map(lambda value: json.dumps(value).encode()))
def test_reading_raises_nothing_else(data: bytes) -> None:
    for read in (inputs.read_required, inputs.urls_required, inputs.elicitation_mode):
        read(data)
    for parse in (inputs.responses_in, lambda params: request_digest("m", params)):
        try:
            parse(data)
        except Refused:
            pass


def test_a_person_sees_what_is_to_be_confirmed() -> None:
    """Nothing in the arguments hides or turns the rest, and what is not shown is counted."""

    def asked(arguments: str) -> str:
        params = b'{"name":"t","arguments":%b}' % arguments.encode()
        return str(json.loads(inputs.confirmation("drop", params).params)["message"])

    assert 'Run it with {  "a": 1}?' in asked('{\n\t"a": 1}')
    hidden = asked('{"file": "a\u202etxt.exe\u200b", "b": "\u00e9\u4f60"}')
    assert hidden.isprintable() and "a\\u202etxt.exe\\u200b" in hidden and "\u00e9\u4f60" in hidden
    assert "(514 more characters, not shown)?" in asked('{"pad": "%s", "file": "x"}' % ("a" * 1490))
