"""``shared.mcp.rope``: as one, whatever the pieces were, few or many, small or large."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Refused
from shared.mcp import jsonrpc
from shared.mcp.long_strings import LongStringFinder
from shared.mcp.rope import Large, Rope

SIZES = st.lists(st.sampled_from([0, 1, 7, 20_000, 300_000, 900_000]), max_size=6)
MIB = 1024 * 1024


def split(data: bytes, seed: int) -> Iterator[bytes]:
    """``data`` in pieces, some of them tiny."""
    dice = random.Random(seed)
    at = 0
    while at < len(data):
        size = dice.choice([1, 5, 1000, 70_000, 256_000])
        yield data[at : at + size]
        at += size


def together(data: bytes, seed: int) -> Large:
    pieces = Rope()
    for piece in split(data, seed):
        pieces.add(piece)
    taken = pieces.take()
    assert isinstance(taken, Large)
    return taken


@given(SIZES, SIZES)
def test_what_is_taken_is_all_that_was_added(first: list[int], second: list[int]) -> None:
    pieces = Rope()
    for sizes in (first, second):
        parts = [bytes([65 + number]) * size for number, size in enumerate(sizes)]
        for part in parts:
            pieces.add(part)
        assert pieces.size == sum(sizes)
        taken = pieces.take()
        assert bytes(taken) == b"".join(parts)
        assert isinstance(taken, Large) == (sum(sizes) > 1.25 * MIB)
        assert pieces.size == 0


def test_what_was_taken_does_not_change_any_more() -> None:
    pieces = Rope()
    for _ in range(5):
        pieces.add(b"a" * 500_000)
    taken = pieces.take()
    pieces.add(b"b")
    assert bytes(taken) == b"a" * 2_500_000 and pieces.take() == b"b"


def test_what_is_dropped_is_gone() -> None:
    pieces = Rope()
    for size in (1, 100_000):
        pieces.add(b"a" * size)
        pieces.drop()
        assert pieces.take() == b""


def test_a_million_tiny_pieces_are_few() -> None:
    pieces = Rope()
    for _ in range(1_500_000):
        pieces.add(b"x")
    taken = pieces.take()
    assert isinstance(taken, Large) and taken.parts < 50


@pytest.mark.parametrize("seed", range(5))
def test_it_reads_like_bytes(seed: int) -> None:
    dice = random.Random(seed)
    data = dice.randbytes(2 * MIB)
    large = together(data, seed)
    assert len(large) == len(data)
    for _ in range(300):
        begin = dice.randrange(len(data))
        stop = begin + dice.choice([0, 1, 50, 5000, 400_000])
        byte = data[dice.randrange(len(data)) :][:1]
        assert large[begin:stop] == data[begin:stop]
        assert bytes(large.cut(begin, min(stop, len(data)))) == data[begin:stop]
        assert large.find(byte, begin) == data.find(byte, begin)
    assert large.find(b"\xff", len(data)) == -1
    assert large[-300:] == data[-300:] and large[:300] == data[:300]
    inner = large.cut(1000, 1_500_000)
    assert bytes(inner.cut(10, 1_000_000)) == data[1010:1_001_000] and inner[-5:] == data[1_499_995:1_500_000]
    assert large.isascii() is data.isascii()


@pytest.mark.parametrize("seed", range(6))
def test_runs_are_the_same_however_the_text_came(seed: int) -> None:
    dice = random.Random(seed)
    texts = ["x" * dice.choice([10, 9000, 500_000]) + dice.choice(["", '"', "\\", "\\\\"]) for _ in range(9)]
    data = json.dumps([*texts, "y" * MIB, "z" * 600_000]).encode()
    finder = LongStringFinder()
    finder.look(data)
    assert together(data, seed).runs == finder.runs and finder.runs


@pytest.mark.parametrize("text", ["plain", "é𝄞", "\\u00e9 \\n"])
def test_a_large_message_comes_out_as_it_was_sent(text: str) -> None:
    result = {"content": [{"type": "text", "text": text * 700_000}], "n": 2**70, "resultType": "complete"}
    body = json.dumps({"jsonrpc": "2.0", "id": "a", "result": result}, ensure_ascii=False).encode()
    message = jsonrpc.decode_answer(together(body, 1))
    assert bytes(message.id) == b'"a"'
    assert json.loads(bytes(message.result)) == result


def test_a_large_message_that_is_not_utf8_is_refused() -> None:
    body = b'{"jsonrpc":"2.0","id":1,"result":"%b\xff%b"}' % (b"x" * MIB, b"y" * MIB)
    with pytest.raises(Refused, match="not UTF-8"):
        jsonrpc.decode_answer(together(body, 2))


def test_a_large_message_without_long_texts_is_read_whole() -> None:
    result = [[1, "a"]] * 300_000
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()
    assert json.loads(bytes(jsonrpc.decode_answer(together(body, 3)).result)) == result
