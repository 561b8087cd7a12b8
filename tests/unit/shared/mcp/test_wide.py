"""Batches and objects with far too many elements: what is made of them is bounded before it is made."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from shared.errors import Refused
from shared.mcp import jsonrpc
from shared.mcp.batch_items import MAX_BATCH
from shared.mcp.once import MAX_MEMBERS

MANY = 10 * MAX_MEMBERS
TABLE = b"{%b}" % b",".join(b'"k%d":1' % number for number in range(MANY))


@contextmanager
def within(limit_bytes: int) -> Iterator[None]:
    """Nothing here takes more memory than this."""
    tracemalloc.start()
    try:
        yield
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < limit_bytes, f"{most} bytes"


@pytest.mark.parametrize(
    ("read", "body"),
    [
        (jsonrpc.decode_batch, b"[%b1]" % (b"1," * MANY)),
        (jsonrpc.decode_batch, b"[%b{}]" % (b"{}," * MANY)),
        (jsonrpc.members, TABLE),
        (jsonrpc.members, b'{"content":[],%b' % TABLE[1:]),
    ],
    ids=["numbers", "objects", "members", "members beside content"],
)
def test_what_is_far_too_long_is_not_taken_apart(read: Callable[[bytes], Any], body: bytes) -> None:
    with within(2 * len(body) + 1_000_000), pytest.raises(Refused, match="more than"):
        read(body)


def test_a_batch_may_have_as_many_messages_as_it_may() -> None:
    one = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
    assert len(jsonrpc.decode_batch(b"[%b]" % b",".join([one] * MAX_BATCH))) == MAX_BATCH
    with pytest.raises(Refused, match=f"more than {MAX_BATCH} messages"):
        jsonrpc.decode_batch(b"[%b]" % b",".join([one] * (MAX_BATCH + 1)))


@pytest.mark.parametrize("name", ["structuredContent", "content", "contents", "_meta", "arguments"])
def test_members_that_usually_have_much_in_them_may_have_it(name: str) -> None:
    whole = b'{"resultType":"complete","%b":%b}' % (name.encode(), TABLE)
    found = jsonrpc.members(whole)
    assert list(found) == ["resultType", name] and bytes(found[name]) == TABLE
