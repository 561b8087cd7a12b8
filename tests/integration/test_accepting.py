"""``gateway.listener.accepting`` on real sockets: who is not accepted now waits in the queue."""

from __future__ import annotations

import asyncio
import errno
import os
import socket

from gateway.listener.accepting import Accepting
from tests.fleet import eventually


class Short(socket.socket):
    """A listening socket for whose connections no descriptor is free while it ``lacks`` them."""

    lacks = False

    def accept(self) -> tuple[socket.socket, object]:
        """As ``accept(2)``."""
        if self.lacks:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


class Greeting(asyncio.Protocol):
    """Says one line to whoever comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(b"welcome\n")
        transport.close()


async def _greeted(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await reader.read()
    finally:
        writer.close()


async def test_without_a_descriptor_newcomers_wait_and_are_served_afterwards() -> None:
    listening, pauses = Short(), 0

    def exhausted() -> None:
        nonlocal pauses
        pauses += 1

    listening.bind(("127.0.0.1", 0))
    listening.listen(100)
    accepting = Accepting([listening], Greeting, exhausted)
    try:
        port = listening.getsockname()[1]
        assert await _greeted(port) == b"welcome\n"
        listening.lacks = True
        crowd = [asyncio.ensure_future(_greeted(port)) for _ in range(50)]
        await eventually(lambda: pauses > 1)
        assert not any(one.done() for one in crowd)
        listening.lacks = False
        assert await asyncio.gather(*crowd) == [b"welcome\n"] * 50
    finally:
        accepting.stop()
    assert listening.fileno() == -1
