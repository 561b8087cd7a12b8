"""``shared.mcp.once``: a member that is there twice is refused, whatever way it is written."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Refused
from shared.mcp import jsonrpc
from shared.mcp.once import MAX_ANSWERS, MAX_KNOWN, MAX_MEMBERS, check_members


def _read(body: bytes) -> jsonrpc.Message:
    message = jsonrpc.decode(body)
    jsonrpc.decode_params(message)
    return message


CALL = '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":%s}'


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ('{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', "id"),
        ('{"jsonrpc":"2.0","method":"a","id":1,"method":"ping"}', "method"),
        ('{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":1},"params":{}}', "params"),
        ('{"jsonrpc":"2.0","id":1,"method":"ping","m\\u0065thod":"ping"}', "method"),
        ('{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}', "Method"),
        ('{"jsonrpc":"2.0","id":1,"result":{},"result":{"a":1}}', "result"),
        ('{"jsonrpc":"2.0","jsonrpc":"2.0","id":1,"method":"ping"}', "jsonrpc"),
        (CALL % '{"name":"danger","name":"safe"}', "name"),
        (CALL % '{"n\\u0061me":"danger","name":"safe"}', "name"),
        (CALL % '{"name":"safe","Name":"danger"}', "Name"),
        (CALL % '{ "name" : "safe" , "arguments" : { "a" : 1 } , "arguments" : { "a" : 1 } }', "arguments"),
        (CALL % '{"name":"a","arguments":{"a":12},"arguments":{"a":1}}', "arguments"),
        (CALL % '{"name":"a","x":1,"y":2,"x":3}', "x"),
        (CALL % '{"_meta":{"progressToken":1},"name":"a","_meta":{}}', "_meta"),
        (CALL % '{"name":"a","_meta":{"progressToken":1,"progressToken":2}}', "progressToken"),
        (CALL % ('{"name":"a","_meta":{"x":"%s","k":1,"k":2}}' % ("y" * 5000)), "k"),
        (CALL % ('{"name":"a","arguments":{"t":"%s"},"name":"b"}' % ("y" * 50_000)), "name"),
        (CALL % ('{"name":"a","arguments":{"t":"%s\\n"},"name":"b"}' % ("é" * 50_000)), "name"),
        (CALL % '{"":1,"":2}', ""),
        (CALL % '{"name":"a","arguments":{},"argument\u017f":{}}', "argument\u017f"),
        (CALL % '{"task":{},"name":"a","tas\u212a":{}}', "tas\u212a"),
        (CALL % '{"name":"a","inputResponses":{"k":1,"k":2}}', "k"),
        (CALL % '{"name":"a","inputResponses":{"q":{"action":"accept","action":"decline"}}}', "action"),
        (
            CALL % '{"name":"a","_meta":{"io.modelcontextprotocol/clientCapabilities":{"roots":{},"roots":{"a":1}}}}',
            "roots",
        ),
        (CALL % ('{"name":"a","arguments":{"t":"%s"},"inputResponses":{"k":1,"k":2}}' % ("y" * 50_000)), "k"),
    ],
)
def test_a_member_twice_is_refused(body: str, name: str) -> None:
    for written in (body, f" {body} ", body.replace('","', '" ,\n"')):
        with pytest.raises(Refused, match="is there twice") as caught:
            _read(written.encode())
        assert caught.value.code == "invalid_request" and repr(name) in caught.value.message
    with pytest.raises(Refused, match="is there twice"):
        jsonrpc.decode_request(b"head" + body.encode(), 4)


@pytest.mark.parametrize(
    "body",
    [
        '{"jsonrpc":"2.0","id":1,"method":"ping"}',
        '{"method":"ping","id":"1","jsonrpc":"2.0"}',
        ' { "jsonrpc" : "2.0" , "id" : 1 , "method" : "ping" , "params" : { } } ',
        '{"jsonrpc":"2.0","id":1,"method":"p\\u0069ng","params":{"é":1,"e\\"":[{"a":1},{"a":1}]}}',
        '{"jsonrpc":"2.0","id":1,"method":"ping","other":1,"params":null}',
        CALL % '{"name":"a","arguments":{"name":"b","a":{"a":1},"_meta":1,"params":2},"_meta":{"a":{"a":1}}}',
        CALL % '{"name":"a","arguments":{"a":1,"a":2}}',  # the upstream's own
        '\ufeff{"jsonrpc":"2.0","id":1,"method":"ping","params":{"a":"\\ud83d"}}',
    ],
)
def test_what_is_there_once_passes_however_it_is_written(body: str) -> None:
    assert _read(body.encode()).method == "ping" or "tools/call" in body


@pytest.mark.parametrize(
    "params",
    ['{"Name":"a"}', '{"name":"a","Arguments":{"path":"/"}}', '{"argument\u017f":{}}', '{"name":"a","_META":{}}',
     '{"name":"a","_meta":{"ProgressToken":1}}'],
)  # fmt: skip
def test_a_name_that_some_readers_take_for_one_that_the_gateway_reads_is_refused(params: str) -> None:
    with pytest.raises(Refused, match="looks like") as caught:
        _read((CALL % params).encode())
    assert caught.value.code == "invalid_request"


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_pairs = st.lists(st.tuples(st.sampled_from(["name", "uri", "y", "Y", "é", "x", "", "a\nb"]), _values), max_size=6)


@given(_pairs, st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")]), st.booleans())
def test_pairs_are_refused_if_and_only_if_a_name_comes_again(
    pairs: list[tuple[str, Any]], separators: tuple[str, str], plain: bool
) -> None:
    comma, colon = separators
    members = comma.join(f"{json.dumps(name, ensure_ascii=plain)}{colon}{json.dumps(value)}" for name, value in pairs)
    body = (CALL % f"{{{members}}}").encode()
    names = [name.casefold() for name, _ in pairs]
    if len(names) != len(set(names)):
        with pytest.raises(Refused, match="is there twice"):
            _read(body)
    else:
        _read(body)


def test_what_is_read_of_meta_comes_from_meta_alone() -> None:
    meta = '{"progressToken":1,"io.modelcontextprotocol/protocolVersion":"2026-07-28"}'
    for params in (f'{{" ":{meta}}}', f'{{" ":{meta},"_meta":null}}'):
        assert jsonrpc.decode_params(jsonrpc.decode((CALL % params).encode())).meta is None


@pytest.mark.parametrize(
    "body",
    [
        CALL % '{"name":"a","arguments":{%s}}',
        CALL % '{"name":"a","arguments":{%s},"_meta":{"a":1}}',
        '{"jsonrpc":"2.0","id":1,"result":{%s}}',
    ],
)
def test_what_is_inside_of_arguments_and_results_may_have_any_number_of_members(body: str) -> None:
    many = ",".join(f'"k{number}":1' for number in range(MAX_MEMBERS + 10))
    assert _read((body % many).encode()).id


@pytest.mark.parametrize(
    "body",
    [
        '{"jsonrpc":"2.0","id":1,"method":"ping",%s}',
        CALL % '{"name":"a","arguments":{},%s}',
        CALL % '{"name":"a","arguments":{},"_meta":{%s}}',
        CALL % '{"name":"a","x":{%s}}',
    ],
)
def test_of_members_that_are_looked_at_there_may_be_so_many(body: str) -> None:
    for count, told in ((MAX_MEMBERS + 10, MAX_MEMBERS), (MAX_KNOWN + 10, MAX_KNOWN)):
        if told == MAX_KNOWN and '"x":' in body:
            continue  # what is inside of a member that nobody reads is not looked at
        many = ",".join(f'"k{number}":1' for number in range(count))
        with pytest.raises(Refused, match=f"more than {told} members"):
            _read((body % many).encode())


def test_a_request_has_as_many_answers_as_there_are_questions() -> None:
    many = ",".join(f'"q{number}":{{"action":"accept"}}' for number in range(MAX_ANSWERS + 1))
    with pytest.raises(Refused, match=f"more than {MAX_ANSWERS} members"):
        _read((CALL % f'{{"name":"a","inputResponses":{{{many}}}}}').encode())


def test_a_call_as_python_writes_it_is_known_by_its_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """``json.dumps`` puts a space behind each comma and colon."""
    arguments = {"a b": "c d", "e": [1, 2]}
    params = {"name": "a b", "arguments": arguments, "_meta": {"x": "y z"}}
    body = json.dumps({"jsonrpc": "2.0", "id": "i d", "method": "m d", "params": params}).encode()
    _read(body)  # the same ``_meta`` is read once
    monkeypatch.setattr(jsonrpc, "check_members", lambda *_: pytest.fail("looked at member by member"))
    _read(body)


VALUES = ('{"a":1,"a":2}', '"}"', "3")
NAMES = ("a", "b", "A", "n\\u0061me", "name", "ä", "straße", "STRASSE", "arguments", "", " ", "\\u0020")
SPACES = ("", " ", "\n\t")


@pytest.mark.parametrize("before", SPACES)
@pytest.mark.parametrize("after", SPACES)
def test_it_finds_what_a_reader_of_all_pairs_finds(before: str, after: str) -> None:
    """Whatever is written without other white space than spaces is recognised by its length alone."""
    for names in itertools.product(NAMES, repeat=3):
        pairs = [f'{before}"{name}"{after}:{before}{value}{after}' for name, value in zip(names, VALUES, strict=True)]
        text = "{" + ",".join(pairs) + "}"
        read = [name.casefold() for name, _ in json.loads(text, object_pairs_hook=list)]
        twice = len(set(read)) < len(read)
        for _ in range(2):  # the second time it is known
            try:
                check_members(text.encode())
            except Refused as error:
                assert twice and error.code == "invalid_request", text
            else:
                assert not twice, text
