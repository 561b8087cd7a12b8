"""Limits of principals: calls in a time, and calls under way, over all front ends.

Redis holds one bucket for each limit and principal. A front end takes tokens and slots from it in batches, ahead of
need, so that most calls cost no round trip. What was taken and is not used expires or comes back after a while. So a
limit is never exceeded while Redis answers, and up to a fiftieth of it for each front end may lie unused for that
while. While Redis is away, each front end goes by its share: the limit divided by the number of front ends that there
were.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Iterable
from typing import Protocol

from gateway.access.principal import Principal
from gateway.access.roles import in_class
from shared.access.rules import EVERYBODY, AccessRules, Limit, Rate
from shared.errors import Limited, RegistryUnavailable
from shared.metrics.tally import Tally
from shared.registry.store import RegistryStore
from shared.tasks import spawn

_BATCH_OF = 50
"""A batch is this fraction of what a limit allows at once."""
_KEPT_S = 5.0
"""Tokens and slots that were taken ahead and not used go back, or expire, after this time."""
_MAX_BUCKETS = 100_000


class LimitedCall(Protocol):
    """What limits need to know of a call."""

    method: str
    group: str
    name: str


class _Tokens:
    """One rate of one principal: tokens that this front end has taken."""

    __slots__ = (
        "_key",
        "_limits",
        "_rate",
        "_refilling",
        "_retry_at",
        "_share_at",
        "_took_at",
        "batch",
        "limit",
        "tokens",
    )

    def __init__(self, limits: Limits, limit: Limit, rate: Rate, key: str) -> None:
        self._limits = limits
        self.limit = limit
        self._rate = rate
        self._key = key
        self.batch = rate.calls // _BATCH_OF
        self.tokens = 0.0
        self._took_at = 0.0
        self._retry_at = 0.0
        self._share_at = 0.0
        self._refilling: asyncio.Task[None] | None = None

    def take(self, now: float) -> bool:
        """Take a token. Return False if one has to be fetched first. Raises ``Limited``."""
        if self.tokens >= 1.0 and now - self._took_at < _KEPT_S:
            self.tokens -= 1.0
            if self.tokens < self.batch / 2:
                self._fetch()
            return True
        if now < self._retry_at:
            raise self._limits.refused(self.limit, self._retry_at - now)
        return False

    def change(self, limit: Limit) -> None:
        """Go by another rate: what was taken ahead of the old one is given up."""
        if limit.rate is not None:
            self.limit, self._rate = limit, limit.rate
            self.batch = limit.rate.calls // _BATCH_OF
            self.tokens = self._retry_at = 0.0

    def give_back(self) -> None:
        """Put back a token of a call that was not made."""
        self.tokens += 1.0

    async def acquire(self) -> None:
        """Take a token, after fetching one. Raises ``Limited``."""
        while not self.take(time.monotonic()):
            await asyncio.shield(self._fetch())

    def _fetch(self) -> asyncio.Task[None]:
        if self._refilling is None or self._refilling.done():
            self._refilling = spawn(self._refill(), "limit-tokens")
        return self._refilling

    async def _refill(self) -> None:
        now = time.monotonic()
        if now - self._took_at >= _KEPT_S:
            self.tokens = 0.0  # what lay unused has expired
        rate, wanted = self._rate, max(1, self.batch)
        try:
            granted, wait_ms, frontends = await self._limits.store.run_script(
                "TAKE_TOKENS", self._key, rate.calls, rate.calls / rate.seconds / 1000.0, wanted
            )
        except RegistryUnavailable:
            self._share(now)
            return
        self._limits.frontends = max(1, frontends)
        now = time.monotonic()
        self._took_at = self._share_at = now
        self.tokens += granted
        self._retry_at = now + wait_ms / 1000.0 if not granted else 0.0

    def _share(self, now: float) -> None:
        """Go by this front end's share of the rate, because Redis is away."""
        per_s = self._rate.calls / self._rate.seconds / self._limits.frontends
        most = max(1.0, self._rate.calls / self._limits.frontends)
        self.tokens = min(most, self.tokens + max(0.0, now - self._share_at) * per_s)
        self._share_at = self._took_at = now
        self._retry_at = 0.0 if self.tokens >= 1.0 else now + (1.0 - self.tokens) / per_s


class _Slots:
    """One number of calls under way of one principal: slots that this front end holds."""

    __slots__ = ("_holding", "_key", "_limits", "_most", "_refused_at", "held", "idle_since", "limit", "used")

    def __init__(self, limits: Limits, limit: Limit, key: str) -> None:
        self._limits = limits
        self.limit = limit
        self._most = limit.concurrent
        self._key = key
        self.used = self.held = 0
        self.idle_since = 0.0
        self._refused_at = 0.0
        self._holding: asyncio.Task[None] | None = None

    def take(self, now: float) -> bool:
        """Take a slot. Return False if one has to be fetched first. Raises ``Limited``."""
        if self.used < self.held:
            self.used += 1
            return True
        if self.used >= self._most or now < self._refused_at + 0.1:
            raise self._limits.refused(self.limit, 1.0)
        return False

    def change(self, limit: Limit) -> None:
        """Go by another number; calls under way go on."""
        self.limit, self._most = limit, limit.concurrent
        self.held = self.used
        self._refused_at = 0.0

    def give_back(self) -> None:
        """End the use of a slot."""
        self.used -= 1
        self.idle_since = time.monotonic()

    async def acquire(self) -> None:
        """Take a slot, after fetching some. Raises ``Limited``."""
        while not self.take(time.monotonic()):
            if self._holding is None or self._holding.done():
                self._holding = spawn(self.hold(self.used + 1 + self._most // _BATCH_OF), "limit-slots")
            await asyncio.shield(self._holding)

    async def hold(self, wanted: int) -> None:
        """Hold so many slots, or as many as there are."""
        if wanted < self.held:
            self.held = max(wanted, self.used)  # nobody takes meanwhile what is given back
        try:
            granted, frontends = await self._limits.store.run_script(
                "HOLD_SLOTS", self._key, self._most, self._limits.frontend, wanted
            )
        except RegistryUnavailable:
            granted, frontends = max(self.held, self._most // self._limits.frontends, 1), self._limits.frontends
        self._limits.frontends = max(1, frontends)
        self.held = max(granted, self.used)
        if self.used >= self.held:
            self._refused_at = time.monotonic()


_Bucket = _Tokens | _Slots


class Quota:
    """All limits of one principal at this front end."""

    __slots__ = ("_general", "_of_patterns")

    def __init__(self, buckets: Iterable[_Bucket]) -> None:
        found = list(buckets)
        self._general = tuple(one for one in found if one.limit.pattern is None)
        self._of_patterns = tuple(one for one in found if one.limit.pattern is not None)

    def _about(self, call: LimitedCall) -> tuple[_Bucket, ...]:
        if not self._of_patterns:
            return self._general
        return self._general + tuple(
            one
            for one in self._of_patterns
            if one.limit.pattern is not None and one.limit.pattern.matches_call(call.method, call.group, call.name)
        )

    def take(self, call: LimitedCall) -> bool:
        """Count a call. Return False, with nothing counted, if something has to be fetched first. Raises
        ``Limited``."""
        now, taken = time.monotonic(), []
        try:
            for bucket in self._about(call):
                if not bucket.take(now):
                    break
                taken.append(bucket)
            else:
                return True
        except Limited:
            self._undo(taken)
            raise
        self._undo(taken)
        return False

    async def acquire(self, call: LimitedCall) -> None:
        """Count a call, after fetching what is missing. Raises ``Limited``."""
        taken: list[_Bucket] = []
        try:
            for bucket in self._about(call):
                await bucket.acquire()
                taken.append(bucket)
        except BaseException:
            self._undo(taken)
            raise

    def _undo(self, taken: Iterable[_Bucket]) -> None:
        for bucket in taken:
            bucket.give_back()

    def release(self, call: LimitedCall) -> None:
        """Note that a call that was counted is over."""
        for bucket in self._general:
            if type(bucket) is _Slots:
                bucket.give_back()


class Limits:
    """The limits of all principals at this front end, ``frontend``."""

    def __init__(self, rules: AccessRules, store: RegistryStore, frontend: str, tally: Tally | None = None) -> None:
        """``tally`` counts what is refused, by the name of the limit."""
        self._tally = tally
        self.store = store
        self.frontend = frontend
        self.frontends = 1
        """How many front ends there were when Redis answered last."""
        self._rules = rules
        self._buckets: dict[str, _Bucket] = {}

    def refused(self, limit: Limit, retry_s: float) -> Limited:
        """Count a call that a limit refuses, and return the error."""
        if self._tally is not None:
            self._tally.count(limit.name)
        return Limited(limit.name, retry_s)

    def take(self, rules: AccessRules) -> None:
        """Go by other rules: limits that are there still keep what was used of them."""
        self._rules = rules
        limits = {limit.name: limit for limit in rules.limits}
        for bucket in self._buckets.values():
            limit = limits.get(bucket.limit.name)
            if limit is not None and limit != bucket.limit:
                bucket.change(limit)

    def quota(self, principal: Principal) -> Quota | None:
        """Return the limits of a principal, or ``None`` if it has none."""
        roles = {role.name for role in in_class(principal.policy_class, self._rules.roles)[0]}
        limits = [one for one in self._rules.limits if one.role == EVERYBODY or one.role in roles]
        return Quota(self._bucket(limit, principal) for limit in limits) if limits else None

    def _bucket(self, limit: Limit, principal: Principal) -> _Bucket:
        # Names and subjects may be anything, and keys of Redis are shown in terminals: a digest stands for them.
        whose = "" if limit.shared else hashlib.sha256(principal.id.encode()).hexdigest()[:24]
        key = f"{limit.name}:{whose}"
        found = self._buckets.get(key)
        if found is None:
            if len(self._buckets) >= _MAX_BUCKETS:
                self._make_room()
            found = _Tokens(self, limit, limit.rate, key) if limit.rate is not None else _Slots(self, limit, key)
            self._buckets[key] = found
        return found

    def _make_room(self) -> None:
        idle = [key for key, one in self._buckets.items() if type(one) is not _Slots or not one.used]
        for key in idle[: _MAX_BUCKETS // 8]:
            del self._buckets[key]

    async def run(self) -> None:
        """Give back slots that are not used, until cancelled."""
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            for bucket in list(self._buckets.values()):
                if type(bucket) is _Slots and bucket.held > bucket.used and now - bucket.idle_since > 1.0:
                    await bucket.hold(bucket.used)
