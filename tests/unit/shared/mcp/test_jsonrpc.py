"""``shared.mcp.jsonrpc``: what is a message, and that payloads stay the bytes that were sent."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from shared.errors import Refused
from shared.mcp import jsonrpc
from shared.mcp.once import MAX_MEMBERS

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def _head(rest: str) -> bytes:
    return b'{"jsonrpc":"2.0",' + rest.encode() + b"}"


def _code_of(call, *arguments) -> str:  # type: ignore[no-untyped-def]
    with pytest.raises(Refused) as caught:
        call(*arguments)
    return caught.value.code


def test_a_request_has_a_method_and_an_id() -> None:
    message = jsonrpc.decode(_head('"id":7,"method":"tools/call","params":{"name":"x"}'))
    assert (message.method, bytes(message.id), bytes(message.params)) == ("tools/call", b"7", b'{"name":"x"}')
    assert message.is_request


@pytest.mark.parametrize("rest", ['"method":"notifications/initialized"', '"id":1,"result":{}', '"id":1,"error":{}'])
def test_notifications_and_responses_are_no_requests(rest: str) -> None:
    assert not jsonrpc.decode(_head(rest)).is_request


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "parse_error"),
        (b"{", "parse_error"),
        (b"not json", "parse_error"),
        (_head('"id":1,"method":"x"') + b"x", "parse_error"),
        (b'{"jsonrpc":"2.0","method":"\xff"}', "parse_error"),
        (b'{"jsonrpc":"2.0","id":1,"method":"x","params":{"a":"\xc3("}}', "parse_error"),
        (
            b'{"jsonrpc":"2.0","id":1,"method":"x","params":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}",
            "parse_error",
        ),
        (b"[]", "invalid_request"),
        (b"5", "invalid_request"),
        (b"null", "invalid_request"),
        (b"{}", "invalid_request"),
        (b'{"id":1,"method":"x"}', "invalid_request"),
        (b'{"jsonrpc":"1.0","id":1,"method":"x"}', "invalid_request"),
        (b'{"jsonrpc":2.0,"id":1,"method":"x"}', "invalid_request"),
        (_head('"id":1'), "invalid_request"),
        (_head('"id":1,"method":5'), "invalid_request"),
        (_head('"id":1,"method":null'), "invalid_request"),
    ],
)
def test_what_is_no_message_is_refused_with_its_own_code(body: bytes, code: str) -> None:
    assert _code_of(jsonrpc.decode, body) == code


@pytest.mark.parametrize("id", ["0", "-1", "12345678901234567890123", '""', '"a-1"', '"\\u00e9"'])
def test_ids_are_strings_or_integers_and_keep_their_bytes(id: str) -> None:
    assert bytes(jsonrpc.decode(_head(f'"id":{id},"method":"x"')).id) == id.encode()


@pytest.mark.parametrize("id", ["null", "1.0", "1e3", "0.5", "true", "{}", "[1]"])
def test_any_other_id_is_refused(id: str) -> None:
    assert _code_of(jsonrpc.decode, _head(f'"id":{id},"method":"x"')) == "invalid_request"


def test_only_an_error_may_answer_to_id_null() -> None:
    assert bytes(jsonrpc.decode(_head('"id":null,"error":{"code":-32700}')).id) == b"null"
    assert _code_of(jsonrpc.decode, _head('"id":null,"result":{}')) == "invalid_request"


def test_payloads_are_the_bytes_that_were_sent() -> None:
    params = b'{ "z":1.10, "a":123456789012345678901234567890, "z2":[ ], "\\u00e9":"\\/" }'
    message = jsonrpc.decode(b'{"jsonrpc":"2.0","id":1,"method":"x","params":%b}' % params)
    assert bytes(message.params) == params


def test_an_absent_member_is_falsy_unlike_any_json_value() -> None:
    assert not jsonrpc.ABSENT
    assert bool(jsonrpc.decode(_head('"id":1,"result":null')).result)
    assert bool(jsonrpc.decode(_head('"id":1,"result":0')).result)


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_body_raises_anything_but_refused(body: bytes) -> None:
    for read in (jsonrpc.decode, jsonrpc.decode_batch):
        try:
            read(body)
        except Refused:
            continue


@given(JSON)
def test_reading_params_raises_nothing_but_refused(value: object) -> None:
    message = jsonrpc.decode(_head(f'"id":1,"method":"x","params":{json.dumps(value)}'))
    try:
        jsonrpc.decode_params(message)
    except Refused as error:
        names = [name.casefold() for name in value] if isinstance(value, dict) else []
        assert error.code == ("invalid_params" if len(set(names)) == len(names) else "invalid_request")
    else:
        assert value is None or value == [] or isinstance(value, dict)


def test_a_batch_is_its_messages_in_order() -> None:
    batch = jsonrpc.decode_batch(b" [" + _head('"id":1,"method":"a"') + b"," + _head('"method":"b"') + b"]")
    assert [message.method for message in batch] == ["a", "b"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"[]", "invalid_request"),
        (b"[1]", "invalid_request"),
        (b"[", "parse_error"),
        (b"[\xff]", "parse_error"),
        (b"[" + _head('"id":1,"method":"a"') + b",{}]", "invalid_request"),
    ],
)
def test_a_bad_batch_is_refused_as_a_whole(body: bytes, code: str) -> None:
    assert _code_of(jsonrpc.decode_batch, body) == code


def test_routing_members_of_params_are_found() -> None:
    message = jsonrpc.decode(
        _head(
            '"id":1,"method":"x","params":{"name":"n","uri":"u","cursor":"c","arguments":{},"_meta":'
            '{"progressToken":"t","io.modelcontextprotocol/protocolVersion":"2026-07-28",'
            '"io.modelcontextprotocol/clientCapabilities":{"a":1},"io.modelcontextprotocol/clientInfo":{"b":2}}}'
        )
    )
    params = jsonrpc.decode_params(message)
    assert (bytes(params.name), bytes(params.uri), bytes(params.cursor)) == (b'"n"', b'"u"', b'"c"')
    assert params.meta is not None
    assert bytes(params.meta.progress_token) == b'"t"'
    assert bytes(params.meta.version) == b'"2026-07-28"'
    assert bytes(params.meta.capabilities) == b'{"a":1}'
    assert bytes(params.meta.client_info) == b'{"b":2}'


@pytest.mark.parametrize("params", ["[1]", "5", '"x"', '{"_meta":5}', '{"_meta":[]}'])
def test_params_of_a_wrong_type_are_invalid_params(params: str) -> None:
    message = jsonrpc.decode(_head(f'"id":1,"method":"x","params":{params}'))
    assert _code_of(jsonrpc.decode_params, message) == "invalid_params"


def test_missing_params_have_no_members() -> None:
    params = jsonrpc.decode_params(jsonrpc.decode(_head('"id":1,"method":"x"')))
    assert not params.name
    assert params.meta is None


def test_text_gives_the_string_and_refuses_everything_else() -> None:
    assert jsonrpc.text(Raw(b'"a\\u00e9"'), "name") == "aé"
    for raw in (jsonrpc.ABSENT, Raw(b"5"), Raw(b"null"), Raw(b"{}")):
        with pytest.raises(Refused, match=r"params\.name must be a string") as caught:
            jsonrpc.text(raw, "name")
        assert caught.value.code == "invalid_params"


@given(st.dictionaries(st.text(), JSON, max_size=6))
def test_taking_an_object_apart_and_together_changes_nothing(value: dict[str, object]) -> None:
    body = json.dumps(value, ensure_ascii=False).encode()
    parts = jsonrpc.members(body)
    assert list(parts) == list(value)
    for name, raw in parts.items():
        assert bytes(raw) in body
        assert json.loads(bytes(raw)) == value[name]
    assert json.loads(jsonrpc.assemble(dict(parts))) == value


def test_members_of_nothing_are_none_and_of_no_object_refused() -> None:
    assert jsonrpc.members(b"") == {}
    for body in (b"[]", b"5", b"null", b"{"):
        assert _code_of(jsonrpc.members, body) == "invalid_params"


@pytest.mark.parametrize("params", [b"", b'{"a":1}'])
def test_written_requests_and_notifications_read_back(params: bytes) -> None:
    asked = jsonrpc.decode(jsonrpc.request(b'"i"', 'm"é', params))
    assert (bytes(asked.id), asked.method, bytes(asked.params)) == (b'"i"', 'm"é', params)
    told = jsonrpc.decode(jsonrpc.notification("n", params))
    assert (bytes(told.id), told.method, bytes(told.params)) == (b"", "n", params)


def test_written_responses_read_back() -> None:
    done = jsonrpc.decode(jsonrpc.response(b"3", b'{"x":1.0}'))
    assert (bytes(done.id), bytes(done.result), done.method) == (b"3", b'{"x":1.0}', "")
    failed = jsonrpc.decode(jsonrpc.error_response(b"", jsonrpc.error_object(-5, "no", {"code": "c"})))
    assert bytes(failed.id) == b"null"
    assert json.loads(bytes(failed.error)) == {"code": -5, "message": "no", "data": {"code": "c"}}
    assert json.loads(jsonrpc.error_object(1, "m", {})) == {"code": 1, "message": "m"}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"jsonrpc":"2.0","id":1,"result":{},"error":null}', (b"{}", b"")),
        (b'{"jsonrpc":"2.0","id":1,"result":null,"error":{"code":1}}', (b"null", b'{"code":1}')),
        (b'\xef\xbb\xbf{"jsonrpc":"2.0","id":1,"result":{}}', (b"{}", b"")),
        (rb'{"jsonrpc":"2.0","id":1,"result":{"a":"\ud83d"}}', (rb'{"a":"\ufffd"}', b"")),
        (rb'{"jsonrpc":"2.0","id":1,"result":{"a":"\ud83d\ude00"}}', (rb'{"a":"\ud83d\ude00"}', b"")),
    ],
)
def test_what_many_programs_write_is_read(body: bytes, expected: tuple[bytes, bytes]) -> None:
    for decode in (jsonrpc.decode, jsonrpc.decode_answer):
        message = decode(body)
        assert (bytes(message.result), bytes(message.error)) == expected


def test_null_params_are_absent() -> None:
    message = jsonrpc.decode(b'{"jsonrpc":"2.0","id":1,"method":"ping","params":null}')
    assert not message.params
    message, params = jsonrpc.decode_request(b'{"jsonrpc":"2.0","id":1,"method":"ping","params":null}')
    assert not message.params and params == jsonrpc.NO_PARAMS


def test_half_a_character_in_arguments_of_any_size_is_replaced() -> None:
    for size in (10, 100_000, 1_000_000):
        body = rb'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":"%b","b":"x\ud83dy"}}' % (b"a" * size)
        for message in (jsonrpc.decode(body), jsonrpc.decode_request(body)[0]):
            assert bytes(message.params).endswith(rb'"b":"x\ufffdy"}')


def test_one_member_of_very_many_is_read_and_where_all_must_be_known_there_is_a_bound() -> None:
    many = b",".join(b'"k%d":1' % number for number in range(MAX_MEMBERS))
    params = b'{"arguments":{"a":1},%b,"_meta":{"b":2}}' % many
    assert jsonrpc.meta_of(params) == b'{"b":2}' and jsonrpc.arguments_of(params) == b'{"a":1}'
    with pytest.raises(Refused, match="more than 20000 members"):
        jsonrpc.few_members(params)
    text = b'{"arguments":{"a":"%b"},"_meta":{"b":2}}' % (b"x" * 100_000)
    assert jsonrpc.meta_of(text) == b'{"b":2}' and jsonrpc.arguments_of(text) == b'{"a":"%b"}' % (b"x" * 100_000)
    assert set(jsonrpc.few_members(text)) == {"arguments", "_meta"}


@pytest.mark.parametrize("head", ["", '"jsonrpc":2.0,', '"jsonrpc":"1.0",', '"jsonrpc":null,'])
def test_an_answer_of_an_upstream_need_not_say_its_version_rightly(head: str) -> None:
    body = f'{{{head}"id":7.0,"result":{{"a":1}},"error":null}}'.encode()
    message = jsonrpc.decode_answer(body)
    assert (message.method, bytes(message.id), bytes(message.result), bytes(message.error)) == (
        "",
        b"7.0",
        b'{"a":1}',
        b"",
    )
    with pytest.raises(Refused):
        jsonrpc.decode(body)  # of clients it is asked
    for wrong in (b'{"jsonrpc":"3.0","id":1,"result":{}}', b'{"id":1,"method":"x"}', b'{"id":1}', b'{"result":{}}'):
        with pytest.raises(Refused):
            jsonrpc.decode_answer(wrong)


def test_members_that_are_null_because_nothing_is_in_them_are_absent() -> None:
    nulls = '"method":null,"params":null,"error":null'
    message = jsonrpc.decode_answer(f'{{"jsonrpc":"2.0","id":7,"result":{{}},{nulls}}}'.encode())
    assert (message.method, bytes(message.params), bytes(message.error)) == ("", b"", b"")
    message = jsonrpc.decode_answer(b'{"jsonrpc":"2.0","id":null,"method":"n","params":{"a":1},"result":null}')
    assert (bytes(message.id), message.method, bytes(message.params)) == (b"", "n", b'{"a":1}')
