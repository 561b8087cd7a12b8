"""JSON-RPC messages: refused, or read as one meaning by every reader and in both lanes."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from shared.errors import CallError
from shared.mcp import jsonrpc
from tests.fuzz.engine import fuzz

WORDS = [
    b'"jsonrpc":"2.0",',
    b'"id":1,',
    b'"id":"a",',
    b'"method":"tools/call",',
    b'"params":{',
    b'"name":"a",',
    b'"name":"b",',
    b'"Name":"b",',
    b'"n\\u0061me":"b",',
    b'"arguments":{"a":1},',
    b'"argument\\u017f":{},',
    b'"_meta":{',
    b'"progressToken":1,',
    b'"inputResponses":{"a":1},',
    b'"result":{},',
    b'"error":{},',
    b'"cursor":null,',
    b'"uri":"x:y",',
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b'"',
    b"\\",
    b"\\u0000",
    b"\\ud83d",
    b"null",
    b"1e999",
    b"-0",
    b"NaN",
    b"\xef\xbb\xbf",
    b"\xff",
    b" ",
    b"\n",
    b"a" * 9000,
    b'"x":"' + b"y" * 9000 + b'",',
]  # fmt: skip


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    found[""] = len({name.casefold() for name, _ in pairs}) < len(pairs)  # whether a name is there twice
    return found


def _read(body: bytes) -> tuple[jsonrpc.Message, jsonrpc.Params]:
    message = jsonrpc.decode(body)
    return message, jsonrpc.decode_params(message)


def _outcome(read: Any, body: bytes) -> Any:
    try:
        message, params = read(body)
    except CallError as error:
        return error.wire.rpc
    parts = params.name, params.uri, params.cursor, params.arguments, params.request_state, params.raw_meta
    return (bytes(message.id), message.method, bytes(message.params), *map(bytes, parts))


def test_what_is_read_means_the_same_to_every_reader() -> None:
    accepted = 0

    def check(body: bytes) -> None:
        nonlocal accepted
        found = _outcome(_read, body)
        if body[:1] == b"{":  # as the express lane asks
            other = _outcome(lambda data: jsonrpc.decode_request(b"head" + data, 4), body)
            assert found == other, "the lanes read differently"
        if isinstance(found, int):
            return
        accepted += 1
        message, params = _read(body)
        plain = json.loads(body.decode("utf-8-sig"), object_pairs_hook=_once)
        assert not plain[""], "a member of the envelope is there twice"
        sent = plain.get("params")
        if not isinstance(sent, dict):
            assert sent is None
            return
        assert not sent[""], "a member of params is there twice"
        assert {"Name", "Arguments", "argument\u017f", "Uri"}.isdisjoint(sent)
        for member in ("_meta", "inputResponses"):
            assert not (isinstance(sent.get(member), dict) and sent[member][""]), f"a member of {member} is there twice"
        if b"\\ud" not in body.lower():
            assert msgspec.json.decode(message.id or b"null") == plain.get("id")
            assert message.method == (plain.get("method") or "")
            if params.name and isinstance(sent["name"], str):
                assert jsonrpc.text(params.name, "name") == sent["name"]
            assert bool(params.arguments) == ("arguments" in sent)

    fuzz("envelope", WORDS, check)
    assert accepted > 300, "most inputs are worth nothing"


def test_batches_and_what_upstreams_answer_are_read_or_refused() -> None:
    def check(body: bytes) -> None:
        readers: list[Any] = [jsonrpc.decode_batch, jsonrpc.decode_answer]
        if body.isascii():  # what these get has been looked at
            readers += [jsonrpc.members, jsonrpc.meta_of, jsonrpc.arguments_of]
        for read in readers:
            try:
                read(body)
            except CallError:
                continue

    fuzz("envelope", WORDS, check)
