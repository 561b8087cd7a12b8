"""Reads and writes of upstream records. Raises ``RegistryUnavailable`` if Redis does not answer.

Counterparts: ``worker.ownership.placement`` claims, ``worker.ownership.inventory`` reports,
``gateway.fleet.registry_view`` reads.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from shared.choices import Duty
from shared.errors import EntryExists, EntryNotFound
from shared.mcp.listings import Kind
from shared.models import HealthCheckResult, ServerStatus, UpstreamSpec, now_s
from shared.registry import scripts
from shared.registry.batches import Batches
from shared.registry.client import connect, translated
from shared.registry.keys import Keys
from shared.registry.records import FOUND_OUT, UpstreamRecord, health, read_record, read_rows, spec_fields
from shared.registry.seals import SEALED, SIGNATURE, Seals
from shared.secrets import FleetKey
from shared.settings import RegistrySettings
from shared.transports import traits

_log = logging.getLogger(__name__)
_BATCH = 200


class RegistryStore:
    """The registry in one Redis. ``secret`` is the fleet's key as configured, if it is."""

    def __init__(self, settings: RegistrySettings, secret: str = "") -> None:
        self.keys = Keys(settings.key_prefix)
        self.redis: Any = connect(settings.redis_url, settings.redis_timeout_s)
        self.url = settings.redis_url
        self.seals = Seals(secret)
        self._configured = secret
        self._secret = ""
        registered = {
            name: self.redis.register_script(getattr(scripts, name))
            for name in (
                "REGISTER",
                "DUTY",
                "UNREGISTER",
                "CLAIM",
                "RELEASE",
                "REPORT",
                "CATALOG",
                "ANNOUNCE",
                "END_SESSION",
                "NOTE",
                "PIN",
                "LEAVE",
                "CLEAR",
                "EXPIRED",
                "BEAT",
                "BURY",
                "MARK",
                "SAVE",
                "KEY_ADD",
                "KEY_REMOVE",
                "VIRTUAL_PUT",
                "VIRTUAL_REMOVE",
                "PINS_BEGIN",
                "PIN_APPROVE",
                "PIN_WITHDRAW",
                "TAKE_TOKENS",
                "HOLD_SLOTS",
                "UNLOCK",
                "RENEW",
                "HEALTHS",
            )
        }
        self._batches = Batches(self.redis, registered)

    async def close(self) -> None:
        await self.redis.aclose()

    async def run_script(self, name: str, *arguments: Any) -> Any:
        """Run one of ``shared.registry.scripts``, with the prefix before its arguments."""
        return await self._batches.run(name, (self.keys.prefix, *arguments))

    async def ping(self) -> None:
        """Raise ``RegistryUnavailable`` unless Redis answers."""
        async with translated():
            await self.redis.ping()

    async def fleet_key(self) -> FleetKey:
        """Return the fleet's key: as configured, or made once and kept in Redis."""
        if self._configured:
            return FleetKey.from_secret(self._configured)
        async with translated():
            await self.redis.set(self.keys.secret, os.urandom(32).hex(), nx=True)
            stored = await self.redis.get(self.keys.secret)
        self._secret = stored.decode() if stored else ""
        return FleetKey.from_secret(self._secret)

    async def restore_secret(self) -> None:
        """Write the key back after Redis was emptied: running processes keep the key that they have, and new ones must
        get the same."""
        if self._secret:
            async with translated():
                await self.redis.set(self.keys.secret, self._secret, nx=True)

    async def forget_run(self) -> None:
        """Forget what an earlier run of a whole fleet found out: its processes, who owned what, states, health, logs.

        What users registered, lists, client sessions and the fleet's key stay. Lists say since when an upstream has a
        name, on which depends who keeps the name. Only for a Redis that no process uses yet.
        """
        keys, now = self.keys, str(now_s())
        gone = [keys.workers, keys.frontends, keys.restarts]
        async with translated():
            for pattern in (keys.worker, keys.frontend, keys.inflight, keys.health, keys.logs):
                gone += [key async for key in self.redis.scan_iter(match=pattern("") + "*", count=1000)]
            for start in range(0, len(gone), _BATCH):
                await self.redis.delete(*gone[start : start + _BATCH])
            for id in await self.redis.zrange(keys.servers, 0, -1):
                key = keys.server(id.decode())
                fields = [name.decode() for name in await self.redis.hkeys(key)]
                found_out = [name for name in fields if name in FOUND_OUT or name.startswith("owner:")]
                if found_out:
                    await self.redis.hdel(key, *found_out)
                if fields:
                    await self.redis.hset(key, mapping={"status": ServerStatus.REGISTERED.value, "status_since": now})

    # ---- for users

    async def register(
        self,
        spec: UpstreamSpec,
        mode: str = "create",
        owner: str = "",
        slots: Sequence[int] = (),
        registered_at: float = 0.0,
        duty: Duty = Duty.ACTIVE,
    ) -> None:
        """Write a spec.

        ``create`` raises ``EntryExists`` if the id is taken, ``update`` raises ``EntryNotFound`` if it is not,
        ``replace`` writes in any case, ``restore`` writes only if the id is missing. An owner that restores an entry
        writes its ``slots`` in the same step, so that no process sees the upstream without its owner, when it was
        registered, and its ``duty``.
        """
        fields = self.sealed_fields(spec)
        once = "1" if traits(spec.transport).runs_once else "0"
        for slot in slots:
            fields += [f"owner:{slot}", owner]
        if registered_at:
            fields += ["registered_at", str(registered_at)]
        if duty is not Duty.ACTIVE:
            fields += ["duty", duty.value]
        outcome = await self.run_script("REGISTER", spec.id, mode, str(now_s()), once, *fields)
        if outcome == b"exists" and mode == "create":
            raise EntryExists(
                f"upstream {spec.id!r} is registered already: replace it (servers add --replace), remove it first, or "
                "choose another id"
            )
        if outcome == b"missing":
            raise EntryNotFound(f"no upstream {spec.id!r}; see 'gateway servers list'")

    def sealed_fields(self, spec: UpstreamSpec) -> list[str | bytes]:
        """Return the fields of a spec. If they are sealed, those that stand beside the seal are for people only."""
        fields = spec_fields(spec)
        if not self.seals.active:
            return [*fields, SEALED, ""]
        shown = fields.copy()
        shown[fields.index("connection") + 1] = msgspec.json.encode(spec.connection.public())
        mark = self.seals.fingerprint("connection", spec.connection_json())
        return [*shown, "connection_mark", mark, SEALED, self.seals.seal_fields(spec.id, fields)]

    async def renew_records(self, place: str, again: Callable[[str, bytes], bytes | None]) -> int:
        """Write the records of a hash anew that are marked with an older key. Return how many records that were.

        ``again`` returns a record as it is written now, ``None`` for one that is not this fleet's. A record that
        somebody else changes meanwhile stays.
        """
        renewed = 0
        async with translated():
            records = await self.redis.hgetall(place)
        for name, record in records.items():
            fresh = again(name.decode("utf-8", "replace"), record)
            if fresh is not None and fresh != record:
                renewed += int(await self.run_script("RENEW", place, name, record, fresh))
        return renewed

    async def renew_seals(self) -> int:
        """Seal again what is sealed under an older key. Return how many records that were."""
        renewed = 0
        found: dict[str, str] = {}
        async with translated():
            for raw in await self.redis.zrange(self.keys.servers, 0, -1) if self.seals.rotating else ():
                id = raw.decode()
                found[id] = (await self.redis.hget(self.keys.server(id), SEALED) or b"").decode("latin-1")
        for id, sealed in found.items():
            again = self.seals.renewed(id, sealed)
            if again is not None:
                renewed += int(await self.run_script("RENEW", self.keys.server(id), SEALED, sealed, again))
        return renewed

    async def unregister(self, id: str) -> None:
        """Remove an upstream. Raises ``EntryNotFound``."""
        if not await self.run_script("UNREGISTER", id):
            raise EntryNotFound(f"no upstream {id!r}; see 'gateway servers list'")

    async def set_duty(self, id: str, duty: Duty) -> bool:
        """Have an upstream take calls, drain or stop; this outlasts restarts. Return whether that is new. Raises
        ``EntryNotFound``."""
        changed = await self.run_script("DUTY", id, duty.value, str(now_s()))
        if changed is None:
            raise EntryNotFound(f"no upstream {id!r}; see 'gateway servers list'")
        return bool(changed)

    async def logs(self, id: str) -> list[str]:
        """Return the last lines that a stdio upstream wrote to its stderr."""
        async with translated():
            lines = await self.redis.lrange(self.keys.logs(id), 0, -1)
        return [line.decode("utf-8", "replace") for line in lines]

    async def append_logs(self, id: str, lines: Sequence[str], kept: int) -> None:
        """Add lines of a stdio upstream's stderr. The newest ``kept`` lines stay."""
        async with translated():
            pipe = self.redis.pipeline(transaction=False)
            pipe.rpush(self.keys.logs(id), *lines)
            pipe.ltrim(self.keys.logs(id), -kept, -1)
            await pipe.execute()

    async def restarts(self) -> dict[str, int]:
        """Return how often each supervised process was replaced."""
        async with translated():
            counts = await self.redis.hgetall(self.keys.restarts)
        return {name.decode(): int(count) for name, count in counts.items()}

    async def note_restart(self, process: str) -> None:
        """Count that a supervised process was replaced."""
        async with translated():
            await self.redis.hincrby(self.keys.restarts, process, 1)

    # ---- for owners; False means that the worker is not the owner (any more)

    async def claim(self, id: str, slot: int, worker: str, runs_once: bool = False) -> str:
        """Claim a slot for ``worker``. Return ``mine`` (the worker had it), ``claimed``, ``taken`` or ``gone`` (no such
        upstream). An upstream that ``runs_once`` counts as connecting from then on."""
        return bytes(await self.run_script("CLAIM", id, slot, worker, "1" if runs_once else "0")).decode()

    async def is_owner(self, id: str, slot: int, worker: str) -> bool:
        """Whether Redis has ``worker`` as the owner of a slot, and has its record: without that it counts as dead, and
        anybody may claim the slot."""
        async with translated():
            pipe = self.redis.pipeline(transaction=True)
            pipe.hget(self.keys.server(id), f"owner:{slot}")
            pipe.exists(self.keys.worker(worker))
            owner, known = await pipe.execute()
        return bool(known) and owner is not None and bytes(owner).decode() == worker

    async def release(self, id: str, slot: int, worker: str, heir: str = "") -> bool:
        """Give a slot up, to ``heir`` if one is named."""
        return bool(await self.run_script("RELEASE", id, slot, worker, heir))

    async def report_status(self, id: str, worker: str, status: ServerStatus, error: str | None, **facts: str) -> bool:
        """Write the status of an upstream, as the owner of slot 0."""
        fields: list[str | bytes] = ["error", error or ""]
        for name, value in self.seals.sign_fields("found", id, facts).items() if facts else ():
            fields += [name, value]
        return bool(await self.run_script("REPORT", id, worker, str(now_s()), status.value, *fields))

    async def report_catalog(
        self,
        id: str,
        worker: str,
        documents: Mapping[Kind, bytes],
        digest: str,
        announced: Iterable[str],
        ttl_s: float | None = None,
        notes: Sequence[str] = (),
        added: Mapping[str, Mapping[str, float]] | None = None,
    ) -> bool:
        """Write the lists of an upstream, as the owner of slot 0. ``announced`` are the notifications that the upstream
        sent, ``notes`` say what of the lists was mended or left out, ``added`` when names were added later."""
        fields: list[str | bytes] = ["listed_at", str(now_s()), "notes", msgspec.json.encode(notes) if notes else ""]
        fields += ["added", msgspec.json.encode(added) if added else ""]
        fields += ["ttl_ms", "" if ttl_s is None else str(int(ttl_s * 1000))]
        for kind, document in documents.items():
            fields += [kind.value, document]
        listed = {"digest": digest, **{str(name): value for name, value in zip(fields[::2], fields[1::2], strict=True)}}
        marked = self.seals.sign_fields("catalog", id, listed).get(SIGNATURE)
        fields += [SIGNATURE, marked] if marked else []
        return bool(await self.run_script("CATALOG", id, worker, ",".join(announced), digest, *fields))

    async def report_health(self, results: Sequence[tuple[HealthCheckResult, int, int]]) -> None:
        """Write (result, failures in a row, successes in a row) for several upstreams in one batch."""
        async with translated():
            pipe = self.redis.pipeline(transaction=False)
            for result, failures, successes in results:
                pipe.hset(
                    self.keys.health(result.server_id),
                    mapping={
                        "healthy": "1" if result.healthy else "0",
                        "latency_ms": "" if result.latency_ms is None else f"{result.latency_ms:.1f}",
                        "error": result.error or "",
                        "checked_at": str(result.checked_at),
                        "failures": str(failures),
                        "successes": str(successes),
                    },
                )
            await pipe.execute()

    # ---- reading

    async def last_change(self) -> int:
        """Return the number of the newest entry in the change log, or 0."""
        async with translated():
            return int(await self.redis.get(self.keys.sequence) or 0)

    async def load_all(self) -> dict[str, UpstreamRecord]:
        """Return every upstream, in the order of registration."""
        async with translated():
            ids = await self.redis.zrange(self.keys.servers, 0, -1)
        return {
            id: record for id, record in (await self.load([id.decode() for id in ids])).items() if record is not None
        }

    async def healths(self, ids: Sequence[str]) -> dict[str, HealthCheckResult | None]:
        """Return the last probe of these upstreams."""
        found: dict[str, HealthCheckResult | None] = {}
        for start in range(0, len(ids), _BATCH):
            batch = ids[start : start + _BATCH]
            rows = read_rows(await self.run_script("HEALTHS", *batch))
            found.update((id, health(id, row)) for id, row in zip(batch, rows, strict=True))
        return found

    async def load(self, ids: Iterable[str]) -> dict[str, UpstreamRecord | None]:
        """Return these upstreams. The value is ``None`` for an id that is not registered or cannot be read."""
        found: dict[str, UpstreamRecord | None] = {}
        wanted = list(ids)
        for start in range(0, len(wanted), _BATCH):
            batch = wanted[start : start + _BATCH]
            async with translated():
                pipe = self.redis.pipeline(transaction=False)
                for id in batch:
                    pipe.zscore(self.keys.servers, id)
                    pipe.hgetall(self.keys.server(id))
                    pipe.hgetall(self.keys.catalog(id))
                    pipe.hgetall(self.keys.health(id))
                rows = await pipe.execute()
            for index, id in enumerate(batch):
                score, server, catalog, probed = rows[index * 4 : index * 4 + 4]
                try:
                    found[id] = read_record(id, int(score or 0), server, catalog, probed, self.seals)
                except (ValueError, KeyError, TypeError) as error:  # written by a newer version, or by hand
                    _log.error("upstream %s cannot be read (%s); going on without it", id, error)
                    found[id] = None
        return found
