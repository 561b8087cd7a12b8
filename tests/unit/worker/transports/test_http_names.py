"""``worker.transports.http_names``: a name service that hangs keeps nobody from a host that was found before."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from worker.transports.http_names import Names

HERE = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))]
THERE = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.2", 80))]


class Service:
    """A name service. ``answers`` says what it answers next; ``None``: it hangs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.answers: Any = HERE
        self.asked = 0
        monkeypatch.setattr("worker.transports.http_names._PATIENCE_S", 0.01)
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", self.look_up)

    async def look_up(self, host: str, port: int, type: int) -> Any:
        self.asked += 1
        while self.answers is None:
            await asyncio.sleep(0.001)
        if isinstance(self.answers, Exception):
            raise self.answers
        return self.answers


async def test_while_it_hangs_the_last_answer_counts_and_a_host_is_asked_for_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service, names = Service(monkeypatch), Names()
    assert await names.resolve("up.test", 80) == HERE
    service.answers = None
    async with asyncio.timeout(1):
        assert await asyncio.gather(*(names.resolve("up.test", 80) for _ in range(100))) == [HERE] * 100
    assert service.asked == 2
    service.answers = THERE

    async def moved() -> None:
        while await names.resolve("up.test", 80) != THERE:
            await asyncio.sleep(0)

    await asyncio.wait_for(moved(), 1)


async def test_who_was_never_found_waits_and_others_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    service, names = Service(monkeypatch), Names()
    await names.resolve("known.test", 80)
    service.answers = None
    waiting = asyncio.ensure_future(names.resolve("new.test", 80))
    async with asyncio.timeout(1):
        assert await names.resolve("known.test", 80) == HERE
    assert not waiting.done()
    service.answers = THERE
    assert await waiting == THERE


@pytest.mark.parametrize(("errno", "goes_on"), [(socket.EAI_AGAIN, True), (socket.EAI_NONAME, False)])
async def test_that_there_is_no_such_host_counts_and_that_nobody_knows_does_not(
    monkeypatch: pytest.MonkeyPatch, errno: int, goes_on: bool
) -> None:
    service, names = Service(monkeypatch), Names()
    await names.resolve("up.test", 80)
    service.answers = socket.gaierror(errno, "?")
    for _ in range(2):
        if goes_on:
            assert await names.resolve("up.test", 80) == HERE
        else:
            with pytest.raises(socket.gaierror):
                await names.resolve("up.test", 80)


async def test_who_gives_up_does_not_end_the_search_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    service, names = Service(monkeypatch), Names()
    service.answers = None
    first, second = (asyncio.ensure_future(names.resolve("up.test", 80)) for _ in range(2))
    await asyncio.sleep(0.01)
    first.cancel()
    await asyncio.sleep(0.01)
    service.answers = HERE
    assert await second == HERE and service.asked == 1


async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    _, names = Service(monkeypatch), Names()
    for number in range(1100):
        await names.resolve(f"h{number}.test", 80)
    assert names.kept == 1024
