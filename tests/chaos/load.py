"""Clients of both eras that call at a steady rate, each call with an id of its own, and what became of each call.

A client knows the URLs of all front ends and takes turns. A connection that is refused leads it to the next one, as any
balancer does: nothing was delivered. Everything else that is no answer is a failure.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import time
from typing import Any

import aiohttp
from msgspec import Struct

from tests.clients import MODERN_META, Answer, RawClient

_ROUNDS = 100
"""So often a client goes round all front ends before it gives up."""
_PAUSE_S = 0.1
LASTING_MS = (0, 0, 0, 50, 300)
_ids = itertools.count(1)


class Call(Struct):
    """One call, with its times in seconds of ``time.monotonic``. ``why`` says what was no result, else it is empty."""

    id: str
    era: str
    tool: str
    front_end: int
    began: float
    ended: float = 0.0
    why: str = ""
    code: str = ""
    session_lost: bool = False

    @property
    def took_s(self) -> float:
        """How long its client waited."""
        return self.ended - self.began


class Client(RawClient):
    """One client of either era, in turn at every front end."""

    def __init__(self, urls: list[str], era: str, timeout_s: float) -> None:
        super().__init__(urls[0])
        self._urls = urls
        self._turn = random.randrange(len(urls))
        self.era = era
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)

    def know(self, url: str) -> None:
        """Add a front end, if it is new."""
        if url not in self._urls:
            self._urls.append(url)

    async def open(self) -> Client:
        """Open the session, in the older era."""
        if self.era == "legacy":
            await self.initialize()
        return self

    async def post(
        self,
        body: Any,
        headers: dict[str, str] | None = None,
        url: str | None = None,
        sent_to: list[str] | None = None,
    ) -> Answer:
        """POST to ``url``, or to the next front end that takes the connection; add to ``sent_to`` where that was."""
        data = json.dumps(body).encode()
        base = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        self._turn += 1
        for attempt in range(_ROUNDS * len(self._urls)):
            to = self.url = url or self._urls[self._turn % len(self._urls)]
            if sent_to is not None:
                sent_to.append(to)
            request = self.session.post(to, data=data, headers={**base, **(headers or {})}, timeout=self._timeout)
            try:
                async with request as response:
                    return Answer(response.status, response.headers, await response.text())
            except aiohttp.ClientConnectorError:
                self._turn += 1
                if attempt % len(self._urls) == len(self._urls) - 1:
                    await asyncio.sleep(_PAUSE_S)
        raise ConnectionError("no front end takes a connection")

    async def do(self, tool: str, ms: int = 0, url: str | None = None, **more: Any) -> Call:
        """Call a tool, with ``more`` arguments."""
        number = next(_ids)
        call = Call(f"c{number}", self.era, tool, 0, time.monotonic())
        params: dict[str, Any] = {"name": tool, "arguments": {"id": call.id, "ms": ms, **more}}
        headers, sent_to = self.legacy_headers(), [url or self._urls[0]]
        if self.era == "modern":
            params["_meta"] = MODERN_META
            headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool}
        try:
            message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
            _judge(call, await self.post(message, headers, url, sent_to))
        except TimeoutError:
            call.code, call.why = "no answer", f"nothing in {self._timeout.total:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            call.code, call.why = "connection", f"{type(error).__name__}: {error}"
        call.front_end = self._urls.index(sent_to[-1])
        call.ended = time.monotonic()
        return call


def _judge(call: Call, answer: Answer) -> None:
    """Note in the call what its answer says."""
    body = answer.body
    if not isinstance(body, dict) or not ("result" in body or "error" in body):
        call.code, call.why = f"HTTP {answer.status}", f"HTTP {answer.status}: {answer.text[:100]!r}"
    elif "error" in body:
        error = body["error"]
        data = error.get("data")
        call.code = str(data.get("code", error["code"]) if isinstance(data, dict) else error["code"])
        call.why = str(error.get("message", ""))
        call.session_lost = answer.status == 404 and call.code == "session_unknown"
    else:
        text = json.dumps(body["result"].get("content"))
        if call.id not in text or body["result"].get("isError"):
            call.code, call.why = "wrong answer", text[:100]


class Load:
    """``rate`` calls a second over ``tools``, which last some of ``LASTING_MS``, while the context lasts.

    Beside that a new client of the older era comes each ``newcomer_s``, calls once and says goodbye.
    """

    def __init__(
        self, urls: list[str], tools: list[str], rate: float, each: int, timeout_s: float, newcomer_s: float
    ) -> None:
        self._urls = urls
        self._tools = tools
        self._random = random.Random(1)
        self._rate = rate
        self._timeout_s = timeout_s
        self._newcomer_s = newcomer_s
        self.clients = [Client(urls, era, timeout_s) for era in ("legacy", "modern") for _ in range(each)]
        self.calls: list[Call] = []
        self.refused_sessions: list[str] = []
        self._under_way: set[asyncio.Task[None]] = set()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Load:
        await asyncio.gather(*(client.open() for client in self.clients))
        self._tasks = [asyncio.ensure_future(self._run()), asyncio.ensure_future(self._newcomers())]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        await asyncio.gather(*(client.session.close() for client in self.clients))

    async def stop(self) -> None:
        """Begin no more calls, and wait for those under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*self._under_way)

    def drain(self) -> list[Call]:
        """Return the calls that have ended since the last time."""
        calls, self.calls = self.calls, []
        return calls

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _run(self) -> None:
        due = time.monotonic()
        while True:  # by chance: what takes turns would meet replicas that take turns
            client, tool = self._random.choice(self.clients), self._random.choice(self._tools)
            self._spawn(self._one(client, tool, self._random.choice(LASTING_MS)))
            due += 1 / self._rate
            late = time.monotonic() - due
            if late > 1.0:  # the machine is busy: go on from here
                due += late
            await asyncio.sleep(max(0.0, -late))

    async def _one(self, client: Client, tool: str, ms: int) -> None:
        self.calls.append(await client.do(tool, ms))

    async def _newcomers(self) -> None:
        for number in itertools.count():
            await asyncio.sleep(self._newcomer_s)
            self._spawn(self._newcomer(self._tools[number % len(self._tools)]))

    async def _newcomer(self, tool: str) -> None:
        client = Client(self._urls, "legacy", self._timeout_s)
        try:
            try:
                await client.open()
            except aiohttp.ClientConnectionError:
                await client.open()  # its front end died with the request in its hands
            self.calls.append(await client.do(tool))
            async with client.session.delete(client.url, headers=client.legacy_headers()):
                pass
        except (aiohttp.ClientError, OSError, TimeoutError, KeyError, TypeError) as error:
            self.refused_sessions.append(f"{type(error).__name__}: {error}")
        finally:
            await client.session.close()
