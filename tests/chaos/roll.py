"""Every process is replaced under load: ``python -m tests.chaos.roll [CALLS_A_SECOND]`` (default: 200).

``gateway up`` with two front ends and two workers carries calls of both eras over three transports: short, 5 s and 20 s
long, with a MiB of arguments and with two MiB of results. Clients of the older era keep a stream open each; calls are
parked until their client answers an upstream's question, and answered some seconds later. Then comes ``gateway
restart``. No call may fail or run twice, no answer to a question may be lost, and each stream that ends must end in
order, and have said when to come back. Exits 1 otherwise.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import json
import random
import sys
import time
from collections.abc import Mapping
from typing import Any

import aiohttp

from tests.chaos.ground import TOOLS
from tests.chaos.load import Call, Client
from tests.chaos.supervised import Supervised
from tests.clients import RawClient
from tests.fleet import PYTHON, ROOT, SdkServer

RATE = 200.0
_KINDS: tuple[tuple[int, int, dict[str, Any]], ...] = (
    (180, 0, {}),
    (10, 5_000, {}),
    (5, 20_000, {}),
    (3, 500, {"pad": "x" * 1024 * 1024}),
    (2, 500, {"bytes": 2 * 1024 * 1024}),
)
"""How many of two hundred calls last how many ms, and with what."""
_CLIENTS = 8
_WAIT_S = 90.0
_SETTLED_S = 3.0
_PARKED_EVERY_S, _ANSWERED_S = 1.0, (1.0, 10.0)
_ASKABLE = {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}}
_BLUE = {"action": "accept", "content": {"colour": "blue"}}
_WHEN = b"retry:"


class Rolled(Supervised):
    """The gateway whose processes are replaced. ``drainTimeout`` is longer than the longest call."""

    settings: Mapping[str, Any] = {"drainTimeout": 40_000}

    async def restart(self) -> list[str]:
        """Play ``gateway restart``; return what went wrong."""
        url = self.urls[0].removesuffix("/mcp")
        command = (PYTHON, "-m", "gateway", "restart", "--url", url, "--json")
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
        roll = json.loads(output)
        steps = [f"{step['process']} {step['state']}" for step in roll["steps"]]
        print(f"gateway restart: {', '.join(steps)}", flush=True)
        replaced = sum(step["state"] == "replaced" for step in roll["steps"])
        return [] if process.returncode == 0 and replaced == 4 else [f"gateway restart: {roll}"]


def _named(ms: int, more: Mapping[str, Any]) -> str:
    return f"{ms / 1000:g} s{''.join(f' with {name}' for name in more)}"


class Traffic:
    """What goes on until it is stopped. ``calls`` are those that have ended, with their kind; ``problems`` everything
    else that was not as it should be."""

    def __init__(self, url: str, rate: float) -> None:
        self.calls: list[tuple[str, Call]] = []
        self.problems: list[str] = []
        self.parked = self.opened = self.told = 0
        self._url = url
        self._rate = rate
        self._over = asyncio.Event()
        self._under_way: set[asyncio.Future[None]] = set()
        self._clients = [Client([url], era, _WAIT_S) for era in ("legacy", "modern") for _ in range(_CLIENTS)]

    async def run(self) -> None:
        """Go on until stopped, then wait for what is under way."""
        await asyncio.gather(*(client.open() for client in self._clients))
        streams = [asyncio.ensure_future(self._stream(one)) for one in self._clients if one.era == "legacy"]
        await asyncio.gather(self._call(), self._park())
        await asyncio.gather(*self._under_way)
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
        await asyncio.gather(*(client.session.close() for client in self._clients))

    def stop(self) -> None:
        """Begin nothing more."""
        self._over.set()

    def _begin(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _call(self) -> None:
        kinds = [
            (f"{ms / 1000:g} s {next(iter(more), '')}", ms, more) for count, ms, more in _KINDS for _ in range(count)
        ]
        due = time.monotonic()
        for number in itertools.count():
            if self._over.is_set():
                return
            kind, ms, more = random.choice(kinds)
            self._begin(self._one(self._clients[number % len(self._clients)], random.choice(TOOLS), kind, ms, more))
            due = max(due + 1 / self._rate, time.monotonic() - 1.0)  # a busy machine need not catch up
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _one(self, client: Client, tool: str, kind: str, ms: int, more: dict[str, Any]) -> None:
        self.calls.append((kind, await client.do(tool, ms, **more)))

    async def _park(self) -> None:
        while not self._over.is_set():
            self._begin(self._ask_and_answer())
            await asyncio.sleep(_PARKED_EVERY_S)

    async def _ask_and_answer(self) -> None:
        params = {"name": "ask", "arguments": {}}
        try:
            async with RawClient(self._url) as client:
                asked = (await client.modern("tools/call", params, meta=_ASKABLE)).body["result"]
                ((key, _),) = asked["inputRequests"].items()
                await asyncio.sleep(random.uniform(*_ANSWERED_S))
                again = {**params, "inputResponses": {key: _BLUE}, "requestState": asked["requestState"]}
                answer = await client.modern("tools/call", again, meta=_ASKABLE)
                if "accept: blue" not in answer.text:
                    self.problems.append(f"parked: HTTP {answer.status} {answer.text[:200]}")
        except (aiohttp.ClientError, OSError, KeyError, TypeError) as error:
            self.problems.append(f"parked: {type(error).__name__} {error}")
        self.parked += 1

    async def _stream(self, client: Client) -> None:
        """Keep the standing stream of a session open as a client does: what ends is opened again."""
        headers = {**client.legacy_headers(), "Accept": "text/event-stream"}
        forever = aiohttp.ClientTimeout(total=None)
        while True:
            says_when = in_order = False
            async with client.session.get(self._url, headers=headers, timeout=forever) as response:
                if response.status == 503 and "Retry-After" in response.headers:
                    continue
                if response.status != 200:
                    self.problems.append(f"stream: HTTP {response.status} {(await response.text())[:200]}")
                    return
                self.opened += 1
                with contextlib.suppress(aiohttp.ClientPayloadError):
                    async for line in response.content:
                        says_when = says_when or line.startswith(_WHEN)
                    in_order = True
            if says_when and in_order:
                self.told += 1
            else:
                self.problems.append(f"stream: ended {'in order' if in_order else 'in the middle'}, {says_when=}")


def report(traffic: Traffic, ran: Mapping[str, list[str]]) -> int:
    """Print what became of everything; return how much was not as it should be."""
    failed = [(kind, call) for kind, call in traffic.calls if call.why]
    doubled = [call for _, call in traffic.calls if call.tool.endswith("_do") and len(ran.get(call.id, ())) > 1]
    for kind, count in sorted(collections.Counter(kind for kind, _ in traffic.calls).items()):
        print(f"{count:6} calls of {kind}: {sum(one == kind for one, _ in failed)} failed")
    said = collections.Counter(f"{kind} {call.era} {call.tool}: {call.code}: {call.why}"[:180] for kind, call in failed)
    for text, count in [*said.most_common(10), *collections.Counter(traffic.problems).most_common(10)]:
        print(f"✗ {count} × {text}")
    slowest = max((call.took_s for kind, call in traffic.calls if kind.startswith("0 s")), default=0.0)
    print(f"{traffic.parked} parked calls; {traffic.opened} streams opened, {traffic.told} told to come back")
    print(
        f"{len(traffic.calls)} calls, {len(failed)} failed, {len(doubled)} ran twice; slowest short one {slowest:.1f} s"
    )
    return len(failed) + len(doubled) + len(traffic.problems)


async def play(rate: float) -> int:
    """Restart under load; return how much was not as it should be."""
    asks = SdkServer("http", "asks")
    async with asks:
        gateway = Rolled(60.0)
        gateway.more["a"] = {**asks.connection, "era": "legacy"}
        async with gateway:
            traffic = Traffic(gateway.urls[0], rate)
            running = asyncio.ensure_future(traffic.run())
            await asyncio.sleep(_SETTLED_S)
            began = time.monotonic()
            traffic.problems += await gateway.restart()
            print(f"restarted in {time.monotonic() - began:.0f} s")
            await asyncio.sleep(_SETTLED_S)
            traffic.stop()
            await running
            return report(traffic, gateway.executions())


def main() -> None:
    """Play at the rate that the command line says."""
    sys.exit(bool(asyncio.run(play(float(sys.argv[1]) if len(sys.argv) > 1 else RATE))))


if __name__ == "__main__":
    main()
