"""Request bodies with a ``Content-Encoding``: decoded within ``maxBodyBytes``, and refused in words."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable

import brotli  # type: ignore[import-untyped]
import pytest

from tests.clients import Answer, RawClient
from tests.fleet import Fleet, stdio_connection

CODERS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "deflate": zlib.compress, "br": brotli.compress}


def call(text: str) -> bytes:
    params = {"name": "echo", "arguments": {"text": text}}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()


async def test_coded_bodies_are_decoded_within_the_limit(redis_url: str, capfd: pytest.CaptureFixture[str]) -> None:
    async with Fleet(redis_url, 1, 1, max_body_bytes=300_000) as fleet:
        await fleet.register("own", stdio_connection("own"))
        async with RawClient(fleet.urls[0]) as client, RawClient(fleet.url + "/servers/own/mcp") as at_one:

            async def post(coding: str, body: bytes, to: RawClient = client) -> Answer:
                return await to.post(body, {**to.legacy_headers(), "Content-Encoding": coding})

            await client.initialize()
            await at_one.initialize()
            for coding, encode in CODERS.items():
                assert (await post(coding, encode(call("hi")))).content == "hi"
                assert (await post(coding, encode(call("x" * 200_000)))).content == "x" * 200_000
                assert (await post(coding, encode(call("hi")), at_one)).content == "hi"
                bomb = await post(coding, encode(call("x" * 20_000_000)))
                assert bomb.status == 413 and bomb.error["data"]["code"] == "too_large"
                if (
                    coding != "deflate"
                ):  # whose bare form has no mark by which junk is told; aiohttp refuses the cut one
                    junk = await post(coding, b"\xff junk " * 20)
                    assert junk.status == 400 and coding in junk.error["message"], junk.text
                    cut = await post(coding, encode(call("hi" * 500))[:-20])
                    assert cut.status == 400 and cut.error["code"] == -32700, cut.text
            for coding in ("compress", "gzip, gzip", "x-gzip"):
                unknown = await post(coding, b"{}")
                assert unknown.status == 415 and "gzip, deflate, br" in unknown.error["message"], unknown.text
            assert (await client.legacy_call("echo", {"text": "still here"})).content == "still here"
    assert "Traceback" not in capfd.readouterr().err
