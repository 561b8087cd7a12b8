"""Whether a gateway grows or fails under load that goes on: ``python -m tests.chaos.soak [SECONDS]`` (``make soak``).

``gateway up`` with two front ends, two workers and a Redis of its own carries calls of clients of both eras to
upstreams over three transports. Sessions come and go, some of them with a stream, some without a goodbye; the
configuration is changed and read again; upstreams are killed and come back. Then, for each process, the slope of its
own memory in the last half is printed, and its descriptors. Exits 1 if one grows, or a call failed that was in no
killed upstream's hands, or ran twice.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from msgspec import Struct

from tests.chaos import processes
from tests.chaos.ground import TOOLS
from tests.chaos.growth import Sample, growth
from tests.chaos.load import Call, Client, Load
from tests.chaos.supervised import Supervised
from tests.fleet import ROOT
from tests.machine import scaled

SECONDS = 600.0
RATE = 60.0
SESSIONS_A_S = 20.0
LOG = ROOT / "bench-results/soak.log"
_CLIENTS_OF_EACH_ERA = 6
_PATIENCE_S = 30.0
_SAMPLES = 240
_RELOAD_S = 15.0
_KILL_S = 20.0
_DOWN_S = 1.0
_SESSION_S = 60.0
"""What is left without a goodbye ends after so long, so that as many sessions end as come."""
_ESTABLISHED = "01"  # in /proc/net/tcp
_OURS = ("supervisor", "front end", "worker", "reaper", "redis")
_CODES = ("outcome_unknown", "upstream_unavailable")


class Kill(Struct):
    """An upstream that was killed. Calls of ``tools`` may fail that were under way between the two times."""

    tools: str
    began: float
    ended: float


class Enduring(Supervised):
    """The gateway of a soak: unused sessions end soon, and its configuration can be changed."""

    settings: Mapping[str, Any] = {
        "sessionTtl": int(_SESSION_S * 1000),
        "upstreamSessionIdle": int(_SESSION_S * 1000),
    }

    def change(self, number: int) -> None:
        """Write another configuration: an upstream more or less, and another weight of a replica."""
        path = self.folder / "gateway.json"
        document: dict[str, Any] = json.loads(path.read_text())
        servers = document["mcpServers"]
        servers["h2"]["weight"] = 1 + number % 2
        if number % 2:
            servers["x"] = {**self.servers["h1"].connection, "name": "x"}
        else:
            servers.pop("x", None)
        beside = path.with_suffix(".new")
        beside.write_text(json.dumps(document))
        beside.replace(path)


class Churn:
    """Clients of the handshake era that come, call, and go: with a stream, without, and without a goodbye."""

    def __init__(self, urls: list[str]) -> None:
        self._urls = urls
        self.calls: list[Call] = []
        self.opened = 0
        self.refused: list[str] = []
        self._under_way: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Let one come after the other until cancelled."""
        due = time.monotonic()
        for number in itertools.count():
            task = asyncio.ensure_future(self._visit(number))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            due = max(due + 1 / SESSIONS_A_S, time.monotonic() - 1.0)
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def finished(self) -> None:
        """Wait for those that are there."""
        await asyncio.gather(*self._under_way)

    async def _visit(self, number: int) -> None:
        client = Client(self._urls, "legacy", _PATIENCE_S)
        try:
            await client.open()
            self.opened += 1
            async with contextlib.AsyncExitStack() as stack:
                if number % 4 == 1:
                    headers = {**client.legacy_headers(), "Accept": "text/event-stream"}
                    await stack.enter_async_context(client.session.get(client.url, headers=headers))
                self.calls.append(await client.do(TOOLS[number % len(TOOLS)]))
            if number % 8:
                async with client.session.delete(client.url, headers=client.legacy_headers()):
                    pass
        except (aiohttp.ClientError, OSError, TimeoutError, KeyError, TypeError) as error:
            self.refused.append(f"{type(error).__name__}: {error}")
        finally:
            await client.session.close()


class Watched:
    """Samples of every process of the gateway."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.samples: dict[tuple[str, int], list[Sample]] = collections.defaultdict(list)

    def look(self) -> None:
        """Take one sample of each."""
        now = time.monotonic()
        for role, pids in processes.by_role().items():
            for pid in pids if role in _OURS else ():
                with contextlib.suppress(OSError, StopIteration):
                    status = Path(f"/proc/{pid}/status").read_text().splitlines()
                    own_kib = int(next(line for line in status if line.startswith("RssAnon")).split()[1])
                    descriptors = len(os.listdir(f"/proc/{pid}/fd")) - self._connections(pid)
                    self.samples[role, pid].append(Sample(now, own_kib / 1024, descriptors))

    def _connections(self, pid: int) -> int:
        """Return how many connections of clients a process has: how many there are is the clients' choice."""
        found = 0
        own = {os.readlink(f"/proc/{pid}/fd/{one}") for one in os.listdir(f"/proc/{pid}/fd")}
        for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            ours = int(fields[1].rpartition(":")[2], 16) == self._port and fields[3] == _ESTABLISHED
            found += ours and f"socket:[{fields[9]}]" in own
        return found

    def report(self) -> list[str]:
        """Print a row for each process; return what is wrong."""
        wrong = []
        print(f"\n{'process':24} {'MiB/min':>8}   {'MiB in the last quarters':26} descriptors")
        most = max(map(len, self.samples.values()))
        for (role, pid), samples in sorted(self.samples.items()):
            name = f"{role} {pid}"
            if len(samples) < most - 2:
                wrong.append(f"{name} was there for {len(samples)} of {most} looks: it ended, or was started late")
                continue
            found = growth(samples)
            memory = "{:.1f} → {:.1f}".format(*found.memory_mib)
            files = "{} → {}".format(*found.descriptors)
            mark = f"  ✗ {'; '.join(found.problems)}" if found.problems else ""
            print(f"{name:24} {found.slope_mib_a_min:8.2f}   {memory:26} {files}{mark}")
            wrong += [f"{name}: {problem}" for problem in found.problems]
        return wrong


async def _every(seconds: float, does: Any) -> None:
    for number in itertools.count():
        await asyncio.sleep(seconds)
        done = does(number)
        if asyncio.iscoroutine(done):
            await done


async def _kill(stage: Enduring, kills: list[Kill], number: int) -> None:
    """Kill one upstream after the other; bring it back a moment later."""
    which = ("h1", "p", "s", "h2")[number % 4]
    kill = Kill(which[0], time.monotonic(), float("inf"))
    kills.append(kill)
    if which == "p":
        for pid in processes.by_role()["stdio child"]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    else:
        await stage.servers[which].stop()
        await asyncio.sleep(_DOWN_S)
        await stage.servers[which].start()
    kill.ended = time.monotonic()


def explained(call: Call, kills: list[Kill], spare_s: float) -> bool:
    """Whether a failed call was in the hands of an upstream that was killed, and says so."""
    return call.code in _CODES and any(
        call.tool.startswith(one.tools) and call.ended >= one.began and call.began <= one.ended + spare_s
        for one in kills
    )


def judged(calls: list[Call], executions: dict[str, list[str]], kills: list[Kill]) -> list[str]:
    """Print what became of the calls; return what is wrong."""
    failed = [call for call in calls if call.why]
    bad = [call for call in failed if not explained(call, kills, scaled(2.5))]
    doubled = sum(call.tool.endswith("_do") and len(executions.get(call.id, ())) > 1 for call in calls)
    lost = sum(not call.why and not executions.get(call.id) for call in calls)
    print(f"{len(calls)} calls: {len(failed) - len(bad)} failed in {len(kills)} killed upstreams, {len(bad)} others")
    wrong = [
        f"{count} calls failed: {text}"
        for text, count in collections.Counter(f"{one.tool}: {one.code}: {one.why}"[:200] for one in bad).most_common(5)
    ]
    wrong += [f"{doubled} calls ran twice"] if doubled else []
    return wrong + ([f"{lost} calls were answered that never ran"] if lost else [])


async def soak(seconds: float) -> list[str]:
    """Put a gateway under load for so long; return what is wrong."""
    kills: list[Kill] = []
    async with Enduring() as stage:
        watched = Watched(urlsplit(stage.urls[0]).port or 0)
        churn = Churn(stage.urls)
        async with Load(stage.urls, TOOLS, RATE, _CLIENTS_OF_EACH_ERA, _PATIENCE_S, 1.0) as load:
            tasks = [
                asyncio.ensure_future(churn.run()),
                asyncio.ensure_future(_every(seconds / _SAMPLES, lambda number: watched.look())),
                asyncio.ensure_future(_every(_RELOAD_S, stage.change)),
                asyncio.ensure_future(_every(_KILL_S, lambda number: _kill(stage, kills, number))),
            ]
            await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            wrong = [f"the soak itself failed: {one!r}" for one in ended if not isinstance(one, asyncio.CancelledError)]
            await churn.finished()
            await load.stop()
            refused = [*load.refused_sessions, *churn.refused]
            calls = load.drain() + churn.calls
        print(f"{churn.opened} sessions came and went ({churn.opened / seconds:.1f} a second), {len(refused)} refused")
        wrong += [f"{len(refused)} clients could not open a session: {refused[0]}"[:300]] if refused else []
        wrong += judged(calls, stage.executions(), kills)
        wrong += watched.report()
    return wrong


def main() -> None:
    """Soak, and say what came of it."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    LOG.parent.mkdir(exist_ok=True)
    with open(LOG, "w") as log:
        os.dup2(log.fileno(), 2)  # processes say a lot, which belongs to no table
        wrong = asyncio.run(soak(seconds))
    print("\n" + "\n".join(f"✗ {one}" for one in wrong) if wrong else "\nnothing grows, nothing failed")
    print(f"what the processes said: {LOG.relative_to(ROOT)}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
