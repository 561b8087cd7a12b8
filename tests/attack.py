"""What every attack is judged by: bystanders are served, nothing of theirs is seen by others, no process is harmed."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from shared.registry.members import Members
from tests.clients import RawClient
from tests.fleet import Fleet
from tests.machine import measure, scaled
from tests.servers.scripted import Scripted, echo

_BAD = re.compile(r"Traceback|task .* failed|closing a link| ERROR |Exception in callback|never retrieved|CRITICAL")
_EXPECTED = re.compile(r"$^")


class Judge:
    """Watches a fleet: its processes, what they log, their memory."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self._logs: list[deque[str]] = []
        for child in [*fleet.workers, *(child for frontend in fleet.frontends for child in frontend._children)]:
            child.last_words = deque(maxlen=20_000)
            self._logs.append(child.last_words)
        self.pids: set[int] = set()

    async def look(self) -> Judge:
        """Note which processes there are."""
        self.pids = set(await self._pids())
        return self

    async def _pids(self) -> list[int]:
        members = [Members(self.fleet.store, kind, 5.0) for kind in ("frontend", "worker")]
        return [int(facts["pid"]) for one in members for facts in (await one.alive()).values()]

    @property
    def lines(self) -> list[str]:
        """What the processes logged since the last look."""
        return [line for log in self._logs for line in log]

    def forget(self) -> None:
        """Begin anew."""
        for log in self._logs:
            log.clear()

    async def verdict(self) -> None:
        """Fails when a process died or logged what it must not log."""
        bad = [line for line in self.lines if _BAD.search(line)]
        assert not bad, "\n".join([*bad[:5], "…", *self.lines[:60]])
        now = set(await self._pids())
        assert now == self.pids, f"processes changed: {self.pids} → {now}"

    def memory_mib(self) -> float:
        """The resident memory of the largest process."""
        return max(self._rss(pid) for pid in self.pids)

    @staticmethod
    def _rss(pid: int) -> float:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))

    async def gauge(self, name: str) -> float:
        """A gauge of /metrics, all front ends together."""
        async with RawClient("") as raw, raw.session.get(f"{self.fleet.url}/metrics?scope=fleet") as response:
            text = await response.text()
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name + "{"))


@contextlib.asynccontextmanager
async def calm(fleet: Fleet) -> AsyncIterator[Scripted]:
    """An upstream that behaves: tool ``calm`` gives back its text."""
    async with Scripted("calm", "modern") as upstream:
        upstream.on["tools/call"] = echo
        await fleet.register("calm", upstream.connection)
        yield upstream


class Bystanders:
    """Two clients that make small calls with data of their own all the time."""

    def __init__(self, fleet: Fleet) -> None:
        self.worst_s = 0.0
        self.calls = 0
        self.wrong: list[Any] = []
        self._fleet = fleet

    async def run(self, which: int) -> None:
        """Until cancelled."""
        async with RawClient(self._fleet.urls[which % len(self._fleet.urls)]) as client:
            for number in range(1_000_000):
                text = f"bystander {which}, call {number}"
                started = time.monotonic()
                answer = await client.call("calm", {"text": text})
                self.worst_s = max(self.worst_s, time.monotonic() - started)
                self.calls += 1
                if "result" not in answer.body or answer.content != text or len(answer.messages) != 1:
                    self.wrong.append(answer.text[:500])
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def bystanders(fleet: Fleet, within_s: float = 2.0) -> AsyncIterator[Bystanders]:
    """Other clients while the block runs: each call is answered rightly, within ``within_s`` on an idle machine."""
    both = Bystanders(fleet)
    tasks = [asyncio.create_task(both.run(which)) for which in range(2)]
    try:
        yield both
        count = both.calls
        async with asyncio.timeout(scaled(10.0)):
            while both.calls < count + 4:  # they are still served afterwards
                await asyncio.sleep(0.01)
        assert not [task for task in tasks if task.done()], "a bystander could not go on"
        assert not both.wrong, both.wrong[:3]
        limit_s = within_s * measure()
        assert both.worst_s < limit_s, f"a small call took {both.worst_s:.2f} s, {limit_s:.2f} s are allowed"
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def session(url: str, version: str = "2025-11-25", **capabilities: Any) -> RawClient:
    """A client with a legacy session that can be asked for elicitation (or what ``capabilities`` say)."""
    client = RawClient(url)
    params = {
        "protocolVersion": version,
        "capabilities": capabilities or {"elicitation": {}},
        "clientInfo": {"name": "attacker", "version": "1"},
    }
    answer = await client.post({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
    client.sid, client.version = answer.headers["Mcp-Session-Id"], version
    await client.legacy_notice("notifications/initialized")
    return client
