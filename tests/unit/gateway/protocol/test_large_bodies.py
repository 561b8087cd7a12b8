from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gateway.protocol.large_bodies import LARGE, LargeBodies
from shared.errors import Refused
from shared.mcp import jsonrpc


def _body(arguments: Any) -> bytes:
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "t", "arguments": arguments}}
    return json.dumps(message).encode()


async def test_a_body_of_too_many_values_is_refused_and_one_of_much_text_is_not() -> None:
    bodies = LargeBodies(100_000)
    with pytest.raises(Refused, match="more than 100000 members and elements") as refused:
        await bodies.decode(_body({f"k{n}": 1 for n in range(150_000)}))
    assert refused.value.wire.http == 413
    with pytest.raises(Refused, match="maxBodyValues"):
        await bodies.decode_batch(b"[%b]" % b",".join([_body([1] * 1000)] * 500))
    text = _body({"text": json.dumps({f"k{n}": 1 for n in range(150_000)})})
    message = await bodies.decode(text)
    assert message == jsonrpc.decode(text)
    assert (await bodies.decode_params(message)).name == jsonrpc.decode_params(message).name


async def test_what_is_wrong_is_told_like_for_small_bodies() -> None:
    bodies = LargeBodies(100_000)
    for body in (b"[" * LARGE, b'{"jsonrpc":"2.0","id":1.5,"method":"' + b"a" * LARGE + b'"}', b"\xff" * LARGE):
        with pytest.raises(Refused) as small:
            jsonrpc.decode(body)
        with pytest.raises(Refused) as large:
            await bodies.decode(body)
        assert (large.value.code, large.value.message) == (small.value.code, small.value.message)


async def test_others_have_turns_while_large_bodies_are_read_one_after_the_other() -> None:
    bodies = LargeBodies(1_000_000)
    body = _body({"a": ["x,y"] * 300_000})
    turns, most = 0, 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def read() -> None:
        nonlocal most
        before = turns
        await bodies.decode_params(await bodies.decode(body))
        most = max(most, turns - before)

    counting = asyncio.create_task(other())
    await asyncio.gather(*(read() for _ in range(3)))
    counting.cancel()
    assert turns > 3 * len(body) / (256 * 1024), "between the slices, and after each step"
