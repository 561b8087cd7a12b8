"""Scripts that go to Redis together.

A few run by themselves at once. What is to run while these are under way waits for them, and then goes in one message:
a thousand upstreams that fail in the same moment, or start, are reported with a dozen messages, and each report costs a
fifth of what it would cost by itself.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct
from redis.exceptions import NoScriptError, RedisError

from shared.errors import RegistryUnavailable
from shared.registry.client import translated, unavailable
from shared.tasks import spawn

_AT_ONCE = 4
"""So many messages with scripts are under way at once."""
_MOST, _MOST_BYTES = 64, 256 * 1024
"""A message has at most so many scripts, and so many bytes of arguments or one script: who waits for a small one must
not wait long for the large ones of others."""


class _Waiting(Struct, eq=False):
    """A script that is to run, and the future of its answer."""

    name: str
    arguments: Sequence[Any]
    answer: asyncio.Future[Any]

    @property
    def size(self) -> int:
        return sum(len(one) for one in self.arguments if isinstance(one, str | bytes))


class Batches:
    """Runs the scripts of one client of Redis. Scripts that are begun at the same time may run in any order."""

    def __init__(self, redis: Any, scripts: Mapping[str, Any]) -> None:
        """``scripts`` are those that the client has registered, by name."""
        self._redis = redis
        self._scripts = scripts
        self._under_way = 0
        self._waiting: deque[_Waiting] = deque()

    async def run(self, name: str, arguments: Sequence[Any]) -> Any:
        """Return what a script answers. Raises ``RegistryUnavailable``."""
        if self._under_way >= _AT_ONCE:
            waiting = _Waiting(name, arguments, asyncio.get_running_loop().create_future())
            self._waiting.append(waiting)
            return await waiting.answer
        self._under_way += 1
        try:
            async with translated():
                return await self._scripts[name](args=arguments)
        finally:
            self._over()

    def _over(self) -> None:
        self._under_way -= 1
        if self._waiting and self._under_way < _AT_ONCE:
            self._under_way += 1
            spawn(self._together(self._take()), "scripts")

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        size = 0
        while self._waiting and len(batch) < _MOST:
            one = self._waiting[0]
            size += one.size
            if batch and size > _MOST_BYTES:
                break
            self._waiting.popleft()
            if not one.answer.done():  # else whoever wanted it has been cancelled
                batch.append(one)
        return batch

    async def _together(self, batch: list[_Waiting]) -> None:
        """Run what waited. Each gets its own answer, or its own error; if the message fails, all get that error."""
        try:
            await self._send(batch)
        except Exception as error:
            for one in batch:
                if not one.answer.done():
                    one.answer.set_exception(RegistryUnavailable(str(error)))
            if not isinstance(error, RegistryUnavailable):
                raise  # a fault, which the log shall have
        finally:
            for one in batch:
                one.answer.cancel()  # if this task was cancelled
            self._over()

    async def _send(self, batch: list[_Waiting]) -> None:
        if not batch:
            return
        async with translated():
            pipe = self._redis.pipeline(transaction=False)
            for one in batch:
                pipe.evalsha(self._scripts[one.name].sha, 0, *one.arguments)
            answers = await pipe.execute(raise_on_error=False)
            for one, answer in zip(batch, answers, strict=True):
                if isinstance(answer, NoScriptError):  # Redis was started anew
                    answer = await self._scripts[one.name](args=one.arguments)
                if one.answer.done():
                    continue
                if isinstance(answer, RedisError):
                    one.answer.set_exception(unavailable(answer))
                else:
                    one.answer.set_result(answer)
