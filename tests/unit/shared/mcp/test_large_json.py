"""``shared.mcp.large_json``: whatever is in a large message, its members come out as the bytes that were sent."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from shared.errors import Refused
from shared.mcp import jsonrpc
from shared.mcp.large_json import WORTHWHILE, ShortenedJson

LONG = WORTHWHILE + 1000
TEXTS = st.builds(
    lambda piece, times, end: piece * times + end,
    st.sampled_from(["x", "\\", '"', "\\\\n", "é", "𝄞", "~", "a\n", 'say "hi" ', "\u2028"]),
    st.sampled_from([0, 1, 3000, 9000, 20_000]),
    st.text(max_size=8),
)
VALUES = st.recursive(
    TEXTS | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def plain(data: bytes) -> dict[str, bytes]:
    """The members as a reader without this module finds them."""
    return {name: bytes(value) for name, value in msgspec.json.decode(data, type=dict[str, Raw]).items()}


@given(VALUES, VALUES, st.booleans(), st.integers(0, 3))
def test_members_are_what_was_sent(first: object, second: object, ascii: bool, spaces: int) -> None:
    parts = {"id": 1, "first": first, "between": "y" * LONG, "second": second}
    data = json.dumps(parts, ensure_ascii=ascii, indent=spaces or None).encode("utf-8", "replace")
    found = {name: bytes(value) for name, value in jsonrpc.members(data).items()}
    assert found == plain(data)


@given(VALUES)
def test_a_message_is_what_was_sent(params: object) -> None:
    message = {"jsonrpc": "2.0", "id": "a", "method": "tools/call", "params": {"name": "n", "arguments": params}}
    body = json.dumps(message).encode()
    for decoded in (jsonrpc.decode(body), jsonrpc.decode_answer(body), jsonrpc.decode_request(b"POST" + body, 4)[0]):
        assert bytes(decoded.params) == plain(body)["params"]
        assert json.loads(bytes(jsonrpc.params_of(decoded.params).name)) == "n"


@pytest.mark.parametrize("filling", [b"z", b"1,", b"\\", b"\\u0041", b'\\"'])
@pytest.mark.parametrize("end", [b"", b'"', b'\\"', b"\\", b"\\\\", b"z" * 20 + b"\\" * 11, b"\\u00", b"1,"])
@given(odd=st.just(b"") | st.binary(max_size=12))
@settings(max_examples=20)
def test_there_is_no_other_reading_than_that_of_json(odd: bytes, filling: bytes, end: bytes) -> None:
    """A text that ends where it should not, an escape that is cut, numbers without end, garbage between."""
    data = b'{"a":"%b%b","b":%b[1],"c":"%b"}' % (filling * (LONG // len(filling)), end, odd, b"w" * LONG)
    try:
        expected = plain(data)
    except msgspec.DecodeError:
        with pytest.raises(Refused):
            jsonrpc.members(data)
    else:
        assert {name: bytes(value) for name, value in jsonrpc.members(data).items()} == expected


def test_what_a_long_text_says_is_its_senders_business() -> None:
    """No reader takes this escape; an upstream's own client is told what it would be told directly. A request is read
    whole, because others share the upstream that gets it."""
    data = b'{"jsonrpc":"2.0","id":1,"result":"\\q%b"}' % (b"x" * LONG)
    assert bytes(jsonrpc.decode_answer(data).result) == data[33:-1]
    with pytest.raises(Refused):
        jsonrpc.decode(data)


@pytest.mark.parametrize("filling", [b"z", b"\\n", b"\\\\", "é".encode()])
@given(odd=st.binary(max_size=6), at=st.integers(0, LONG), name=st.text(max_size=4))
@settings(max_examples=60)
def test_a_request_is_taken_if_a_reader_of_all_of_it_takes_it(filling: bytes, odd: bytes, at: int, name: str) -> None:
    text = filling * (LONG // len(filling))
    at -= at % len(filling)
    head = json.dumps({"_meta": {"progressToken": 1}, "name": name}).encode()[:-1]
    params = b'%b,"arguments":{"text":"%b%b%b"}}' % (head, text[:at], odd, text[at:])
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":%b}' % params
    try:
        body.decode()
        plain(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        for decode in (jsonrpc.decode, jsonrpc.decode_request):
            with pytest.raises(Refused):
                decode(body)
    else:
        assert bytes(jsonrpc.decode(body).params) == plain(body)["params"]
        message, found = jsonrpc.decode_request(b"POST" + body, 4)
        assert (bytes(message.id), message.method) == (b"1", "tools/call")
        assert (bytes(message.params), bytes(found.name)) == (plain(body)["params"], plain(params)["name"])
        assert found.meta is not None and bytes(found.meta.progress_token) == b"1"


@pytest.mark.parametrize("odd", [b"\0", b"\n", b"\x1f", b"\x7f", b"\x80", b"\\q", b"\\u00x0"])
@pytest.mark.parametrize("at", [0, 1, 7, 300_000, -1])
def test_nothing_that_is_no_json_hides_in_a_clear_text(odd: bytes, at: int) -> None:
    text = b"x" * 600_000
    at %= len(text)
    body = b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"text":"%b%b%b"}}' % (text[:at], odd, text[at:])
    if odd == b"\x7f":
        assert jsonrpc.decode_request(body)[0].method == "m"
    else:
        for decode in (jsonrpc.decode, jsonrpc.decode_request):
            with pytest.raises(Refused):
                decode(body)


@pytest.mark.parametrize("member", [b'"jsonrpc":"2.0%b"', b'"method":"%b"', b'"%b":1', b'"id":"%b"'])
@pytest.mark.parametrize("odd", [b"\xff", b"\0", b"\xc3"])
def test_what_stands_beside_a_long_text_is_read(member: bytes, odd: bytes) -> None:
    body = b'{"jsonrpc":"2.0","id":1,"method":"m",%b,"params":{"text":"%b"}}' % (member % odd, b"x" * LONG)
    for decode in (jsonrpc.decode, jsonrpc.decode_request, jsonrpc.decode_answer):
        with pytest.raises(Refused):
            decode(body)


def test_routing_members_may_be_long_too() -> None:
    name, uri = "n" * LONG, "u" * LONG
    members = {"name": name, "uri": uri, "_meta": {"progressToken": name}}
    request = {"jsonrpc": "2.0", "id": 1, "method": "m", "params": members}
    _, params = jsonrpc.decode_request(json.dumps(request).encode())
    assert [json.loads(bytes(one)) for one in (params.name, params.uri)] == [name, uri]
    assert params.meta is not None and json.loads(bytes(params.meta.progress_token)) == name


def test_an_escape_at_the_end_of_a_text_does_not_hinder() -> None:
    for end in range(40):
        data = b'{"a":"%b"}' % (b"lines\\n" * 3000 + b"x" * end)
        assert 0 < len(ShortenedJson(data).text) < 200


def test_clear_text_is_not_read() -> None:
    before = b'POST "%b"' % (b"y" * LONG)
    data = before + b'{"a":"%b","b":1}' % (b"x" * 1_000_000)
    text = ShortenedJson(data, len(before), clear=True).text
    assert text.startswith(b'{"a":"') and len(text) < 200


def test_a_long_text_is_not_read() -> None:
    data = b'{"a":"%b","b":1}' % (b"x" * 1_000_000)
    assert 0 < len(ShortenedJson(data).text) < 1000


@pytest.mark.parametrize("number", [b"1" * LONG, b"[" + b"1," * LONG + b"1]", b" " * LONG + b"1"])
def test_what_is_no_text_is_left_alone(number: bytes) -> None:
    data = b'{"a":%b,"b":"c"}' % number
    assert bytes(jsonrpc.members(data)["a"]) == number.strip()


def test_a_sender_cannot_write_marks() -> None:
    """They are made for each message anew."""
    data = b'{"a":"%b"}' % (b"x" * LONG)
    assert ShortenedJson(data).text != ShortenedJson(data).text


def test_names_of_members_and_methods_may_be_long_too() -> None:
    name = "n" * LONG
    assert list(jsonrpc.members(json.dumps({name: 1}).encode())) == [name]
    message = json.dumps({"jsonrpc": "2.0", "id": 1, "method": name}).encode()
    assert jsonrpc.decode_answer(message).method == jsonrpc.decode_request(message)[0].method == name
