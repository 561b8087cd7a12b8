"""``gateway.listener.pouring``: bytes come in their order, in pieces, and others have turns between."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from gateway.listener.pouring import PIECE, Pouring


class Ends:
    """Both ends: what aiohttp got, and whether more is read."""

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.sizes: list[int] = []
        self.reads = True
        self._reading_paused = False
        self.closing = False
        loop = asyncio.get_running_loop()
        self.pouring = Pouring(loop, self, cast(asyncio.Transport, self), self.sizes.append)

    def wants(self, more: bool) -> None:
        self._reading_paused = not more

    def data_received(self, data: bytes) -> None:
        self.got.append(data)

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True


async def _turns(ends: Ends, until: Any) -> int:
    count = 0
    while not until(ends):
        await asyncio.sleep(0)
        count += 1
        assert count < 1000
    return count


async def test_a_large_read_comes_in_pieces_with_turns_between() -> None:
    ends = Ends()
    data = bytes(range(256)) * 1024
    ends.pouring.take(b"first")
    ends.pouring.take(data)
    ends.pouring.take(b"last")  # somebody has resumed reading
    assert not ends.reads
    turns = await _turns(ends, lambda one: one.reads)
    assert b"".join(ends.got) == b"first" + data + b"last" and max(map(len, ends.got)) == PIECE
    assert turns >= len(data) // PIECE - 1 and ends.sizes == [len(one) for one in ends.got]


async def test_small_reads_come_at_once() -> None:
    ends = Ends()
    ends.pouring.take(b"a" * PIECE)
    assert ends.got == [b"a" * PIECE] and ends.reads


async def test_nothing_is_read_on_while_aiohttp_wants_nothing() -> None:
    ends = Ends()
    ends.wants(False)
    ends.pouring.take(b"a" * 3 * PIECE)
    await _turns(ends, lambda one: len(one.got) == 3)
    assert not ends.reads


async def test_at_the_end_all_comes_and_after_a_refusal_nothing() -> None:
    ends = Ends()
    ends.pouring.take(b"a" * 4 * PIECE)
    ends.pouring.end()
    assert sum(map(len, ends.got)) == 4 * PIECE
    ends = Ends()
    ends.pouring.take(b"a" * 4 * PIECE)
    ends.pouring.drop()
    for _ in range(10):
        await asyncio.sleep(0)
    assert sum(map(len, ends.got)) == PIECE and ends.reads, "what still comes is read, and dropped by others"
