"""``shared.mcp.text``: the id of an answer that is no JSON."""

from __future__ import annotations

import pytest

from shared.mcp.text import id_of_unreadable


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
