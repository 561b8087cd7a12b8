"""A client whose standing stream breaks and comes back, at whichever front end, while its upstream goes on talking: it
gets everything once, in order, whatever happens when. Each seed is another order of events."""

from __future__ import annotations

import contextlib
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.clients import RawClient
from tests.e2e.test_asides import begin, custom, own_stream
from tests.fleet import Fleet, eventually
from tests.servers.scripted import Exchange, Scripted
from tests.streams import Stream, standing

STEPS = 30


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with Fleet(redis_url, 2, 2) as fleet:
        yield fleet


@pytest_asyncio.fixture(scope="module")
async def up(fleet: Fleet) -> AsyncIterator[Scripted]:
    async with Scripted("up", "legacy", "hello") as up:
        await fleet.register("up", up.connection)
        yield up


def numbers(messages: list[Any]) -> list[int]:
    return [one["params"]["number"] for one in messages if one.get("method") == "notifications/x/news"]


def questions(messages: list[Any]) -> list[str]:
    return [one["params"]["message"] for one in messages if one.get("method") == "elicitation/create"]


class Listener:
    """The client's side: one stream at a time, resumed where the last one ended."""

    def __init__(self, client: RawClient, urls: list[str], dice: random.Random) -> None:
        self.messages: list[Any] = []
        self.stream: Stream | None = None
        self._client = client
        self._urls = urls
        self._dice = dice
        self._last_id = ""
        self._open: contextlib.AsyncExitStack = contextlib.AsyncExitStack()

    async def open(self) -> None:
        url = self._dice.choice(self._urls)
        self.stream = await self._open.enter_async_context(standing(self._client, url, self._last_id))
        await eventually(lambda: self.stream and (self.stream.ids or self._last_id), 5.0, "an id to come back with")

    async def drop(self) -> None:
        """Whatever has come by now was heard; what is on its way was not."""
        assert self.stream is not None
        stream, self.stream = self.stream, None
        await self._open.aclose()
        self._open = contextlib.AsyncExitStack()
        self.messages += stream.messages
        self._last_id = stream.ids[-1] if stream.ids else self._last_id


@pytest.mark.parametrize("seed", range(8))
async def test_everything_comes_once_and_in_order(fleet: Fleet, up: Scripted, seed: int) -> None:
    dice = random.Random(seed)
    told: list[int] = []
    asked: list[str] = []
    during: list[Any] = []  # messages on the streams of calls: what comes while one is in flight may go there
    async with RawClient(fleet.urls[0]) as client:
        await begin(client, dice.choice(fleet.urls))
        mine: Exchange = await own_stream(client, up)
        listener = Listener(client, fleet.urls, dice)
        await listener.open()
        for step in range(STEPS):
            action = dice.choice(["tell", "tell", "tell", "ask", "turn", "call"])
            if action == "tell":
                for _ in range(dice.choice([1, 1, 5])):
                    told.append(len(told))
                    await mine.send(custom(told[-1], dice.choice([0, 2000])))
            elif action == "ask":
                asked.append(f"{seed}.{step}")
                await mine.ask(asked[-1], asked[-1])
            elif action == "call":
                answer = await client.legacy_call("hello", url=dice.choice(fleet.urls))
                assert answer.content == "up"
                during += answer.messages
            elif listener.stream is None:
                await listener.open()
            else:
                await listener.drop()
        if listener.stream is None:
            await listener.open()

        def all_is_there() -> bool:
            heard = listener.messages + during + (listener.stream.messages if listener.stream else [])
            return sorted(numbers(heard)) == told and sorted(questions(heard)) == sorted(asked)

        await eventually(all_is_there, 10.0, "everything comes once")
        await listener.drop()
        for messages in (listener.messages, during):
            assert numbers(messages) == sorted(numbers(messages))
            assert questions(messages) == [one for one in asked if one in questions(messages)]
