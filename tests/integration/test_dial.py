"""``worker.transports.http_dial``: a host of both address families is reached at the one that answers."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from shared.connections import HttpConnection
from shared.egress import Egress
from worker.transports.http_dial import dial
from worker.transports.http_endpoint import HttpEndpoint
from worker.transports.http_names import NAMES


class _Connected(asyncio.Protocol):
    """A client's side."""

    transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


class _Listening:
    """A server on one address, and the same port of the other address, where nobody listens."""

    def __init__(self, host: str) -> None:
        self._host = host
        self.port = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> _Listening:
        self._server = await asyncio.get_running_loop().create_server(asyncio.Protocol, self._host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()


def _has(family: socket.AddressFamily, host: str) -> bool:
    try:
        with socket.socket(family) as one:
            one.bind((host, 0))
    except OSError:
        return False
    return True


def _found(port: int) -> list[Any]:
    return [
        (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("::1", port, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port)),
    ]


@pytest.mark.parametrize("order", [1, -1], ids=["IPv6 first", "IPv4 first"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_the_family_that_answers_is_used(monkeypatch: pytest.MonkeyPatch, host: str, order: int) -> None:
    if host == "::1" and not _has(socket.AF_INET6, host):
        pytest.skip("this machine has no IPv6")
    async with _Listening(host) as listening:

        async def resolve(name: str, port: int) -> list[Any]:
            assert (name, port) == ("both.example", listening.port)
            return _found(port)[::order]

        monkeypatch.setattr(NAMES, "resolve", resolve)
        url = f"http://both.example:{listening.port}/mcp"
        connected = await dial(
            HttpEndpoint(url, HttpConnection(url)), _Connected, Egress(("127.0.0.0/8", "::1/128"), ())
        )
        assert connected.transport is not None
        assert connected.transport.get_extra_info("peername")[0] == host
        connected.transport.close()
