"""``worker.transports.http_odd_bodies``: messages in bodies that are none."""

from __future__ import annotations

import json

import pytest

from shared.mcp.rope import Whole
from worker.transports.http_odd_bodies import take_messages

ONE, TWO = b'{"jsonrpc":"2.0","id":1,"result":{}}', b'{"jsonrpc":"2.0","method":"notifications/x"}'


def found(body: bytes) -> list[bytes]:
    taken: list[bytes] = []

    def receive(one: Whole) -> bool:
        try:
            decoded = json.loads(bytes(one))
        except ValueError:
            return False
        if not isinstance(decoded, dict) or "jsonrpc" not in decoded:
            return False
        taken.append(bytes(one).strip())
        return True

    take_messages(body, 10_000, receive)
    return taken


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"<br />\n<b>Warning</b>: x<br />\n" + ONE, [ONE]),
        (ONE + b"<!-- cached -->", [ONE]),
        (ONE + b"\0", [ONE]),
        (TWO + b"\n" + ONE + b"\n", [TWO, ONE]),
        (TWO + ONE, [TWO, ONE]),
        (b"data: " + TWO + b"\n\ndata: " + ONE, [TWO, ONE]),
        (b": hello\nevent: message\ndata: " + ONE + b"\n\n", [ONE]),
        (b'data: {"jsonrpc":"2.0",\ndata: "id":1,"result":{}}\n\n', [b'{"jsonrpc":"2.0",\n"id":1,"result":{}}']),
        (b"<html>" + b"x" * 1000, []),
        (b'{"error":"no"}', []),
        (b"", []),
        ((ONE + b"\n") * 3000, []),
        (b"data: " + b'"jsonrpc"' + b"x" * 20_000, []),
    ],
)
def test_messages_are_found_among_other_text(body: bytes, expected: list[bytes]) -> None:
    assert found(body) == expected
