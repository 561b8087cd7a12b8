"""``worker.transports.http_client`` against a real server: connections are kept, and what that costs is nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvloop
from aiohttp import web

from shared.connections import HttpConnection
from shared.errors import CallError
from shared.settings import UpstreamSettings
from tests.certificates import self_signed
from tests.machine import scaled
from worker.transports import http_client
from worker.transports.http_client import HttpPool
from worker.transports.http_dial import dial
from worker.transports.http_endpoint import HttpEndpoint
from worker.transports.http_exchange import Notice


def pool_to(url: str) -> HttpPool:
    return HttpPool(HttpEndpoint(url, HttpConnection(url)), UpstreamSettings())


class Server:
    """Counts the connections that requests came on."""

    def __init__(self) -> None:
        self.connections: set[int] = set()
        self.answers = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        await request.read()
        assert request.transport is not None
        self.connections.add(request.transport.get_extra_info("peername")[1])
        self.answers += 1
        response = web.Response(text="{}", content_type="application/json")
        if request.path == "/close":
            response.force_close()
        return response


@pytest_asyncio.fixture
async def server() -> AsyncIterator[tuple[Server, int]]:
    counting = Server()
    runner = web.ServerRunner(web.Server(counting.handle))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield counting, runner.addresses[0][1]
    await runner.cleanup()


async def post(pool: HttpPool, count: int) -> None:
    for _ in range(count):
        notice = Notice(pool.endpoint.head("POST", {}) + b"Content-Length: 2\r\n\r\n{}")
        pool.submit(notice)
        await asyncio.wait_for(notice.done, scaled(5.0))
        assert notice.status == 200


async def test_one_connection_serves_calls_one_after_another(server: tuple[Server, int]) -> None:
    counting, port = server
    pool = pool_to(f"http://127.0.0.1:{port}/")
    await post(pool, 20)
    assert (counting.answers, len(counting.connections)) == (20, 1)
    pool.close()


async def test_a_connection_that_the_server_closes_is_not_used_again(server: tuple[Server, int]) -> None:
    counting, port = server
    pool = pool_to(f"http://127.0.0.1:{port}/close")
    await post(pool, 3)
    assert (counting.answers, len(counting.connections)) == (3, 3)
    pool.close()


async def test_concurrent_calls_get_a_connection_each_and_keep_them(server: tuple[Server, int]) -> None:
    counting, port = server
    pool = pool_to(f"http://127.0.0.1:{port}/")
    for _ in range(3):
        await asyncio.gather(*(post(pool, 5) for _ in range(4)))
    assert counting.answers == 60 and len(counting.connections) <= 4
    pool.close()


async def test_a_connection_that_is_slow_to_open_is_not_waited_for_alone(
    server: tuple[Server, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, found = 0, asyncio.Event()

    async def first_hangs(*arguments: Any) -> Any:
        nonlocal tried
        tried += 1
        if tried == 1:
            await found.wait()  # as where a packet was lost
        return await dial(*arguments)

    monkeypatch.setattr(http_client, "dial", first_hangs)
    pool = pool_to(f"http://127.0.0.1:{server[1]}/mcp")
    before = Notice(pool.endpoint.head("POST", {}) + b"Content-Length: 2\r\n\r\n{}")
    pool.submit(before)
    await asyncio.sleep(1.1)  # longer than a connection may take before another one is opened as well
    pool.cancel(before)  # who called waits no longer
    await post(pool, 1)
    assert tried == 2
    found.set()
    pool.close()


class Collected:
    """``transports.http_client.Exchange``: its body is kept."""

    def __init__(self, request: bytes) -> None:
        self.request: bytes | tuple[bytes, ...] = request
        self.body = bytearray()
        self.done: asyncio.Future[CallError | None] = asyncio.get_running_loop().create_future()

    def on_headers(self, status: int, headers: dict[bytes, bytes]) -> None:
        assert status == 200

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_complete(self) -> None:
        self.done.set_result(None)

    def on_failed(self, error: CallError) -> None:
        self.done.set_result(error)


def certificate(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """The context of a server that this machine trusts."""
    pem, key = self_signed(folder)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(pem, key)
    return serving


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("length", [True, False])
def test_a_large_answer_before_the_end_of_its_connection_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool, length: bool
) -> None:
    """On the loop that workers use, whose TLS throws away what was not read when the other end closes."""
    uvloop.run(_take_large_answers(certificate(tmp_path, monkeypatch) if tls else None, length))


def _serve(listening: socket.socket, context: ssl.SSLContext | None, answer: bytes) -> None:
    """Each connection gets this answer and is closed at once; in a thread, which waits for nobody."""
    while True:
        try:
            connection, _ = listening.accept()
        except OSError:
            return  # the test is over
        with contextlib.closing(context.wrap_socket(connection, server_side=True) if context else connection) as one:
            one.recv(65_536)
            one.sendall(answer)


async def _take_large_answers(serving: ssl.SSLContext | None, length: bool) -> None:
    body = b"x" * 1_500_000
    head = b"Content-Length: %d\r\n" % len(body) if length else b""
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n%b\r\n%b" % (head, body)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_serve, args=(listening, serving, answer))
        thread.start()
        scheme, port = "https" if serving else "http", listening.getsockname()[1]
        pool = pool_to(f"{scheme}://localhost:{port}/")
        try:
            for _ in range(20):
                exchange = Collected(pool.endpoint.head("GET", {}) + b"\r\n")
                pool.submit(exchange)
                assert await asyncio.wait_for(exchange.done, scaled(10.0)) is None
                assert exchange.body == body
        finally:
            pool.close()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(10.0)


ENDLESS = {
    "header line": (b"HTTP/1.1 200 OK\r\nX-Long: ", b"a" * 1024),
    "interim responses": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 20),
    "chunk extension": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=", b"a" * 1024),
    "trailer": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Long: ", b"a" * 1024),
}


@pytest.mark.parametrize("what", ENDLESS)
async def test_what_is_no_body_has_a_bound(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start, more = ENDLESS[what]
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.transport.set_write_buffer_limits(high=0)
        with contextlib.suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(start)
            while True:
                writer.write(more)
                sent += len(more)
                await writer.drain()
                await asyncio.sleep(0)
        writer.close()

    listener = await asyncio.start_server(flood, "127.0.0.1", 0)
    pool = pool_to(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/")
    failed: asyncio.Future[CallError] = asyncio.get_running_loop().create_future()
    notice = Notice(pool.endpoint.head("POST", {}) + b"Content-Length: 2\r\n\r\n{}")
    monkeypatch.setattr(notice, "on_failed", failed.set_result)
    pool.submit(notice)
    error = await asyncio.wait_for(failed, scaled(10.0))
    assert error.code == "upstream_protocol" and "no body" in error.message
    pool.close()
    listener.close()
    await listener.wait_closed()


async def test_small_chunks_may_have_more_framing_than_body() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(50):
            writer.write(b"1;e=1\r\na\r\n" * 1000)
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    pool = pool_to(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/")
    await post(pool, 1)
    pool.close()
    listener.close()
