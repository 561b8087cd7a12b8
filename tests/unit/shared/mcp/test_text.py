"""``shared.mcp.text``: the id of an answer that is no JSON, and halves of characters."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Refused
from shared.mcp.text import id_of_unreadable, without_lone_surrogates


@pytest.mark.parametrize(
    ("body", "id"),
    [
        (b'{"jsonrpc":"2.0","id":3,"result":{"a":NaN}}', 3),
        (b'{"result":{"a":-Infinity},"id":4}', 4),
        ('{"id":5,"result":{"a":"é"}}'.encode("latin-1"), 5),
        (b'{"id":6,"error":{"code":1,"message":"a\x01b"}}', 6),
        (b'{"jsonrpc":"2.0","id":7,"result":{"a":undefined}}', 7),
        (b'{"id":8,"result":' + b" " * 2_000_000 + b"NaN}", 8),
        (b'{"result":{"id":9,"a":NaN}}', None),
        (b'{"id":"10","result":{"a":NaN}}', None),
        (b'{"id":true,"result":{"a":NaN}}', None),
        (b'{"id":11,"method":"ping","params":{"a":NaN}}', None),
        (b'{"id":12,"method":"ping","params":{"a":undefined}}', None),
        (b"hello", None),
        (b"[" * 100_000, None),
        (b"", None),
    ],
)
def test_the_id_of_an_answer_that_cannot_be_read(body: bytes, id: int | None) -> None:
    assert id_of_unreadable(body) == id


_PIECES = st.lists(
    st.sampled_from(
        [rb"\\", rb"\ud83d", rb"\ude00", rb"\uDBFF", rb"\uDC00", rb"\n", b"ud83d", b"a", rb"\"", rb"\u00e9"]
    ),
    max_size=12,
)


@given(_PIECES)
def test_exactly_the_halves_that_python_reads_as_halves_are_replaced(pieces: list[bytes]) -> None:
    body = b'"%b"' % b"".join(pieces)
    read = json.loads(body)
    expected = "".join("\ufffd" if 0xD800 <= ord(one) < 0xE000 else one for one in read)
    assert json.loads(without_lone_surrogates(body)) == expected
    if expected == read:
        assert without_lone_surrogates(body) is body


def test_a_million_halves_are_refused_at_once_and_a_million_pairs_are_not() -> None:
    pairs = b'"%b"' % (rb"\ud83d\ude00" * 100_000)
    assert without_lone_surrogates(pairs) is pairs
    with pytest.raises(Refused, match="halves of characters"):
        without_lone_surrogates(b'"%b"' % (rb"\ud83d" * 10_001))
