"""A real SDK client on strings: a child process that is told over stdin, as JSON lines, what to do with its client.

``{"id": 1, "do": "call", "name": …}`` is answered ``{"id": 1, "result": …}`` or ``{"id": 1, "error": {code,
message, data}}``; what the client hears meanwhile comes as ``{"event": {"kind": …}}``. Commands run side by side. Its
counterpart is ``tests.matrix.player``; ``python1``, ``python2``, ``../node/matrix1.mjs`` and ``matrix2.mjs`` are the
puppets. This module knows no SDK: it runs in an environment of either.

Every request goes to the other front end: the client sees one URL, its HTTP transport takes turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import sys
from typing import Any

ANSWERS = {"colour": "blue", "model": "hello", "root": "file:///mine"}
"""What every puppet answers to the questions of upstreams."""


def taking_turns(httpx: Any, ports: list[int]) -> Any:
    """An ``httpx`` transport that sends each request to the next of these ports."""
    turns = itertools.cycle(ports)

    class TakingTurns(httpx.AsyncHTTPTransport):  # type: ignore[misc]
        async def handle_async_request(self, request: Any) -> Any:
            url = request.url.copy_with(port=next(turns))
            sent = httpx.Request(
                request.method, url, headers=request.headers, stream=request.stream, extensions=request.extensions
            )
            return await super().handle_async_request(sent)

    return TakingTurns()


class Puppet:
    """One client at a time. Subclasses have a coroutine ``do_NAME`` for each command."""

    def __init__(self) -> None:
        self.running: dict[int, asyncio.Task[None]] = {}
        self._closing = asyncio.Event()
        self._life: asyncio.Task[None] | None = None

    # ---- the wire to the test

    def say(self, **message: Any) -> None:
        """One line to the test."""
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()

    def event(self, kind: str, **facts: Any) -> None:
        """The client heard something."""
        self.say(event={"kind": kind, **facts})

    async def main(self) -> None:
        """Until stdin ends."""
        logging.disable(logging.ERROR)
        reader = asyncio.StreamReader(limit=1 << 24)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            command = json.loads(line)
            id, name = command.pop("id"), command.pop("do")
            self.running[id] = asyncio.create_task(self._run(id, name, command))
        await self.do_close()

    async def _run(self, id: int, name: str, arguments: dict[str, Any]) -> None:
        try:
            if name == "call":
                arguments["id"] = id
            self.say(id=id, result=await getattr(self, f"do_{name}")(**arguments))
        except asyncio.CancelledError:
            self.say(id=id, error={"code": 0, "message": "cancelled here"})
        except BaseException as error:
            self.say(id=id, error=self.told(error))
        finally:
            self.running.pop(id, None)

    def told(self, error: BaseException) -> dict[str, Any]:
        """An exception as code, message and data; of a group the first."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        inner = getattr(error, "error", None)
        if inner is not None:
            return {"code": inner.code, "message": inner.message, "data": inner.data}
        return {"code": 0, "message": f"{type(error).__name__}: {error}", "data": None}

    # ---- the client's life: anyio wants it entered and left by one task

    def client(self, **how: Any) -> Any:
        """An async context manager that connects. ``how`` is what ``connect`` was given."""
        raise NotImplementedError

    async def do_connect(self, **how: Any) -> Any:
        """Connect anew; the version that was agreed on."""
        await self.do_close()
        self._closing.clear()
        connected: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def live() -> None:
            try:
                async with self.client(**how) as version:
                    connected.set_result({"version": version})
                    await self._closing.wait()
            except BaseException as error:
                if not connected.done():
                    connected.set_exception(error)
                self.event("ended", **self.told(error))

        self._life = asyncio.create_task(live())
        return await connected

    async def do_close(self) -> None:
        """Disconnect."""
        if self._life is not None:
            self._closing.set()
            with contextlib.suppress(Exception):
                await self._life
            self._life = None
