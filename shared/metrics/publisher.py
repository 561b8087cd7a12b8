"""Writing down what this process counts, and collecting what all of them counted: of the instance, or of the fleet.

Figures are written soon after they change, and seldom where nothing happens.
Used by front ends and workers alike. Files are read in a thread. Adding up and making the text happen in the loop, a
little at a time (``shared.tasks.in_turns``): a thread that works for long takes the interpreter from the loop for 5 ms
again and again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from msgspec import Struct

from shared.errors import RegistryUnavailable
from shared.metrics.exposition import pieces
from shared.metrics.families import (
    BUCKETS_S,
    Family,
    Sample,
    Snapshot,
    Sum,
    gauge,
    histogram,
    pack,
    unpack,
    with_label,
)
from shared.metrics.instance_directory import VARIABLE, InstanceDirectory
from shared.metrics.process import ProcessFigures
from shared.registry.figures import FiguresStore
from shared.registry.members import Members
from shared.registry.store import RegistryStore
from shared.tasks import cancel, in_turns, spawn, tick
from shared.version import VERSION

_log = logging.getLogger(__name__)
_EVERY_S = 1.0
_TO_REDIS_EVERY_S = 2.0
_AT_LEAST_EVERY_S = 10.0
"""How often figures are written that have not changed, as memory and processor time are among them."""


class _Written(Struct, frozen=True):
    """What was counted when figures were written last, and when that was (loop time)."""

    values: list[float] | None = None
    at: float = 0.0

    def is_due(self, values: list[float], now: float) -> bool:
        return values != self.values or now - self.at >= _AT_LEAST_EVERY_S


class Publisher:
    """The figures of one process, which is a ``frontend`` or a ``worker``.

    ``counted`` returns what it counts. ``known`` returns what every front end knows alike, as the state of upstreams:
    whoever answers adds that, so that nothing has to be added up.
    """

    def __init__(
        self,
        process: str,
        id: str,
        counted: Callable[[], list[Family]],
        known: Callable[[], Iterable[Family]],
        store: RegistryStore,
        ttl_s: float,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._process = process
        self._id = id
        self._counted = counted
        self._known = known
        self._figures = FiguresStore(store)
        self._members = (Members(store, "frontend", ttl_s), Members(store, "worker", ttl_s))
        self._own = ProcessFigures(process)
        self._latencies = [0] * (len(BUCKETS_S) + 1)
        self._latency_sum_s = 0.0
        self._redis_answers = 1.0
        self._at_hand, self._in_redis = _Written(), _Written()
        self._tasks: list[asyncio.Task[None]] = []
        where = environment.get(VARIABLE)
        self._directory: InstanceDirectory | None = None
        try:
            self._directory = InstanceDirectory(Path(where)) if where else None
        except OSError as error:
            _log.warning("the figures of other processes here cannot be shown: %s", error)

    def start(self) -> None:
        """Begin to write."""
        self._tasks = [spawn(self._run(), "figures"), spawn(self._own.watch_loop(), "loop-lag")]

    async def stop(self) -> None:
        """Write the last figures, and end."""
        await cancel(*self._tasks)
        await self._write()
        with contextlib.suppress(RegistryUnavailable):
            await self._figures.forget(self._id)

    def snapshot(self) -> Snapshot:
        """Return the figures of this process."""
        info = gauge("gateway_info", "1 for each version that runs", ("version",), "max")
        info.samples.append(Sample((VERSION,), 1.0))
        redis = gauge("gateway_redis_up", "1 while Redis answers this process", ("process", "pid"), "own")
        redis.samples.append(Sample((self._process, str(os.getpid())), self._redis_answers))
        latency = histogram("gateway_redis_duration_seconds", "Time of a write to Redis", ("process",))
        latency.samples.append(Sample((self._process,), self._latency_sum_s, list(self._latencies)))
        families = [info, redis, latency, *self._own.families(), *self._counted()]
        return Snapshot(self._process, self._id, os.getpid(), families)

    async def instance(self) -> bytes:
        """Return the text of this instance's processes, complete and the same whichever of them answers."""
        directory = self._directory
        if directory is None:
            return await self._text([self.snapshot().families])
        await self._write()
        return await self._text(await asyncio.to_thread(directory.collect))

    async def fleet(self) -> bytes:
        """Return the text of all live processes, each with its id in the label ``member``. Raises
        ``RegistryUnavailable``."""
        found = await self._unpacked()
        return await self._text([with_label("member", one.id, one.families) for one in found])

    async def added(self) -> list[Family]:
        """Return the figures of all live processes, added up; of this one alone while Redis is away."""
        try:
            found = await self._unpacked()
        except RegistryUnavailable:
            found = [self.snapshot()]
        return await _added(one.families for one in found)

    async def _text(self, many: Iterable[Iterable[Family]]) -> bytes:
        """Return the text of several processes as one, and of what all know."""
        families = await _added(many)
        return b"".join(await in_turns(pieces([*families, *await in_turns(self._known())])))

    async def _unpacked(self) -> list[Snapshot]:
        packed = await self._packed()
        return await asyncio.to_thread(lambda: [one for raw in packed if (one := unpack(raw)) is not None])

    async def _packed(self) -> list[bytes]:
        mine = self.snapshot()
        await self._figures.write(await asyncio.to_thread(pack, mine), self._id)
        ids = [id for members in self._members for id in await members.alive()]
        return await self._figures.read(dict.fromkeys([self._id, *ids]))

    async def _write(self) -> None:
        if self._directory is not None:
            try:
                await asyncio.to_thread(self._directory.write, self.snapshot())
            except OSError as error:
                _log.debug("figures cannot be written: %s", error)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            try:
                now, values = loop.time(), [sample.value for family in self._counted() for sample in family.samples]
                if self._directory is not None and self._at_hand.is_due(values, now):
                    await self._write()
                    self._at_hand = _Written(values, now)
                if now >= due and self._in_redis.is_due(values, now):
                    due = now + _TO_REDIS_EVERY_S - _EVERY_S / 2
                    if await self._to_redis():
                        self._in_redis = _Written(values, now)
            except Exception:  # calls must not suffer, nor figures of later
                _log.exception("writing figures failed")
            await tick(_EVERY_S)

    async def _to_redis(self) -> bool:
        """Write the figures for the fleet, and return whether Redis has them."""
        packed = await asyncio.to_thread(pack, self.snapshot())
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await self._figures.write(packed, self._id)
        except RegistryUnavailable:
            self._redis_answers = 0.0
            return False
        self._redis_answers = 1.0
        took_s = loop.time() - began
        self._latencies[bisect_left(BUCKETS_S, took_s)] += 1
        self._latency_sum_s += took_s
        return True


async def _added(many: Iterable[Iterable[Family]]) -> list[Family]:
    """Return the families of several processes as one list."""
    total = Sum()
    for families in many:
        await in_turns(total.adding(families))
    return total.families
