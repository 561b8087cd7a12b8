"""HTTP+SSE: a stream that everything goes down, which one front end holds."""

from __future__ import annotations

import functools
import json
import signal
from typing import Any

import pytest

from tests.clients import RawClient
from tests.fleet import Fleet, eventually
from tests.servers.scripted import Exchange, Scripted, said
from tests.streams import sse_data


@pytest.mark.parametrize("size", [0, 6_000_000], ids=["many answers", "large answers"])
async def test_a_stream_whose_holder_takes_nothing_does_not_fill_redis(redis_url: str, size: int) -> None:
    """Its session ends, for the client to begin again."""

    async def large(exchange: Exchange) -> dict[str, Any]:
        return said("x" * exchange.arguments["size"])

    def call(size: int) -> dict[str, Any]:
        params = {"name": "large", "arguments": {"size": size}}
        return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}

    async with (
        Fleet(redis_url, frontends=2, stream_buffer=8 if not size else 256) as fleet,
        Scripted("large", "modern") as upstream,
        RawClient(fleet.url) as client,
        client.session.get(f"{fleet.url}/sse") as stream,
    ):
        upstream.on["tools/call"] = large
        await fleet.register("large", upstream.connection)
        url = f"{fleet.frontends[1].url}{await sse_data(stream)}"
        assert (await client.post(call(0), url=url)).status == 202
        while "id" not in json.loads(await sse_data(stream)):
            pass

        async def called_or_over(number: int) -> bool:
            """An answer before this one may have been the one too many, and this one is not called any more."""
            if upstream.seen["tools/call"] == number:
                return True
            notice = {"jsonrpc": "2.0", "method": "notifications/initialized"}
            return (await client.post(notice, url=url)).status == 404

        fleet.signal_frontend(0, signal.SIGSTOP)
        posted = 0
        try:
            while (status := (await client.post(call(size), url=url)).status) == 202:
                posted += 1
                assert posted < 100, "Redis would be filled without end"
                await eventually(functools.partial(called_or_over, posted + 1), 5.0, "called")
        finally:
            fleet.signal_frontend(0, signal.SIGCONT)
        assert status == 404 and posted >= 5
