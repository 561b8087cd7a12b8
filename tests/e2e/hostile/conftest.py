"""One gateway for each file of tests, with the ``limits`` that the file names. It is unharmed after each test."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from tests.attack import Judge, calm
from tests.clients import RawClient
from tests.fleet import Fleet, eventually
from tests.servers.scripted import Exchange, Scripted, said


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, limits: dict[str, Any]) -> AsyncIterator[Fleet]:
    async with Fleet(redis_url, 2, 2, **limits) as fleet, calm(fleet):
        yield fleet


@pytest_asyncio.fixture(scope="module")
async def judge(fleet: Fleet) -> Judge:
    return await Judge(fleet).look()


@pytest_asyncio.fixture(autouse=True)
async def unharmed(judge: Judge) -> AsyncIterator[None]:
    judge.forget()
    yield
    await judge.verdict()


@pytest_asyncio.fixture
async def raw(fleet: Fleet) -> AsyncIterator[RawClient]:
    async with RawClient(fleet.urls[0]) as client:
        yield client


@pytest_asyncio.fixture
async def asker(fleet: Fleet) -> AsyncIterator[Scripted]:
    """A legacy upstream whose tool asks one question and says what it was answered."""
    async with Scripted("asker") as upstream:

        async def ask(exchange: Exchange) -> None:
            question = f"q-{secrets.token_hex(4)}"
            await exchange.ask(question)
            await eventually(lambda: question in upstream.replies, 20.0, "an answer")
            await exchange.answer(said(json.dumps(upstream.replies[question].get("result", "refused"))))

        upstream.on["tools/call"] = ask
        await fleet.register("asker", upstream.connection)
        yield upstream
        await fleet.store.unregister("asker")


@pytest_asyncio.fixture
async def upstream(fleet: Fleet) -> AsyncIterator[Scripted]:
    """A legacy upstream: tool ``evil``, resources ``memo://evil/{0…19}``, logging."""
    async with Scripted("evil", "legacy", resources={"subscribe": True}, logging={}) as upstream:
        upstream.resources = [f"memo://evil/{number}" for number in range(20)]
        await fleet.register("evil", upstream.connection)
        yield upstream
        await fleet.store.unregister("evil")


@pytest_asyncio.fixture
async def modern_upstream(fleet: Fleet) -> AsyncIterator[Scripted]:
    """A modern one."""
    async with Scripted("modern", "modern", resources={"subscribe": True}) as upstream:
        upstream.resources = [f"memo://modern/{number}" for number in range(5)]
        await fleet.register("modern", upstream.connection)
        yield upstream
        await fleet.store.unregister("modern")
