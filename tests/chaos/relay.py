"""A TCP relay that can be made slow, deaf or closed: what lies between a process and Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable


class Relay:
    """Listens on ``port`` and passes everything to ``target``, which opens a connection. ``delay_s`` is added to every
    piece towards the target; while it is ``cut`` nothing passes, and nothing is closed, as when packets are lost.
    ``lose`` does that in one direction."""

    def __init__(self, target: Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._up, self._down = asyncio.Event(), asyncio.Event()
        self.cut = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.delay_s = 0.0
        self.port = 0

    @property
    def cut(self) -> bool:
        """Whether nothing passes."""
        return not (self._up.is_set() or self._down.is_set())

    @cut.setter
    def cut(self, value: bool) -> None:
        self.lose(up=value, down=value)

    def lose(self, up: bool = False, down: bool = False) -> None:
        """From now on nothing passes towards the target (``up``), or from it (``down``)."""
        for direction, lost in ((self._up, up), (self._down, down)):
            (direction.clear if lost else direction.set)()

    async def start(self, host: str = "127.0.0.1") -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accepted, host, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Close everything."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._up.wait()
            await self._down.wait()
            try:
                there, back = await self._target()
            except OSError:
                return
            try:
                up = self._pass(reader, back, self._up)
                down = self._pass(there, writer, self._down)
                await _first_of(up, down)
            finally:
                back.close()
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: asyncio.Event) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(65536):
                if direction is self._up and self.delay_s:
                    await asyncio.sleep(self.delay_s)
                await direction.wait()
                writer.write(chunk)
                await writer.drain()


async def _first_of(*work: Awaitable[None]) -> None:
    """Wait for the first of two to end, and end the other."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
