"""What is read back from the registry: one upstream's record, and how it becomes a public ``ServerEntry``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import orjson
from msgspec import Struct

from shared.choices import Duty, EraChoice, Isolation, Pin
from shared.cures import cure
from shared.mcp.listings import Kind
from shared.models import HealthCheckResult, ServerEntry, ServerStatus, ToolEntry, UpstreamSpec
from shared.registry.seals import SIGNATURE, Seals
from shared.transports import traits

Fields = dict[bytes, bytes]
UNSEALED = Seals()
_NONE_ADDED: dict[str, float] = {}
FOUND_OUT = frozenset(
    ("status", "status_since", "error", "eras", "sessionful", "protocol_version", "transport_in_use", "url_in_use",
     "capabilities", "instructions", SIGNATURE)
)  # fmt: skip
"""The fields of ``gw:server:{id}`` that owners report, beside ``owner:…``; users register the others."""
_SIGNED = frozenset(name.encode() for name in FOUND_OUT - {"status", "status_since", "error"})


class ListedCatalog(Struct, frozen=True):
    """The lists of one upstream as they were last read: JSON arrays as bytes, by kind."""

    digest: str = ""
    documents: dict[Kind, bytes] = {}
    listed_at: float = 0.0
    notes: tuple[str, ...] = ()
    """What of the lists was mended or left out."""
    added: dict[str, dict[str, float]] = {}
    """When names were added that were not listed from the beginning, in Unix seconds, by kind."""
    ttl_s: float | None = None
    """How long the upstream says that its lists are fresh, in seconds; ``None`` if it says nothing or announces
    changes."""

    def document(self, kind: Kind) -> bytes:
        """Return the JSON array of one kind."""
        return self.documents.get(kind, b"[]")


class UpstreamRecord(Struct, frozen=True):
    """One upstream as the registry knows it."""

    spec: UpstreamSpec
    sequence: int
    revision: int = 0
    status: ServerStatus = ServerStatus.REGISTERED
    status_since: float = 0.0
    duty: Duty = Duty.ACTIVE
    registered_at: float = 0.0
    error: str | None = None
    eras: tuple[str, ...] = ()
    sessionful: bool = False
    protocol_version: str | None = None
    transport_in_use: str = ""
    url_in_use: str = ""
    capabilities: dict[str, Any] = {}
    instructions: str = ""
    owners: tuple[tuple[int, str], ...] = ()
    catalog: ListedCatalog = ListedCatalog()
    health: HealthCheckResult | None = None

    def owner(self, slot: int) -> str | None:
        """Return the worker that holds ``slot``, or ``None``."""
        return next((worker for at, worker in self.owners if at == slot), None)

    def offered_since(self, kind: Kind, name: str) -> float:
        """Return since when the upstream has had an entry of this name, in Unix seconds: since it was registered, or
        since the entry was added later."""
        return self.catalog.added.get(kind.value, _NONE_ADDED).get(name, self.registered_at)

    def entry(self, with_tools: bool = True) -> ServerEntry:
        """Return the public entry, which has no secrets."""
        spec = self.spec
        tools: list[ToolEntry] = []
        if with_tools:
            for tool in orjson.loads(self.catalog.document(Kind.TOOLS)):
                if not spec.shows(tool["name"]):
                    continue
                tools.append(ToolEntry(tool["name"], spec.id, tool.get("description"), tool.get("inputSchema") or {}))
        return ServerEntry(
            id=spec.id,
            name=spec.name,
            transport=spec.transport,
            status=self.status,
            status_since=self.status_since,
            duty=self.duty,
            error=self.error,
            advice=cure(self.error, spec.transport, spec.id) if self.status is ServerStatus.ERROR else "",
            weight=spec.weight,
            metadata=spec.metadata,
            connection=spec.connection.public(),
            isolation=spec.isolation,
            balancer=spec.balancer,
            include_tools=spec.include_tools,
            exclude_tools=spec.exclude_tools,
            settings=spec.settings,
            notes=(*spec.connection.notes(), *self.catalog.notes),
            eras=self.eras,
            protocol_version=self.protocol_version,
            owners=tuple(worker for _, worker in self.owners),
            tools=tuple(tools),
            last_health_check=self.health,
            source=spec.source,
            pin=spec.pin,
        )


def spec_fields(spec: UpstreamSpec) -> list[str | bytes]:
    """Return a spec as alternating hash fields and values."""
    return [
        "name", spec.name,
        "transport", spec.transport,
        "connection", spec.connection_json(),
        "weight", str(spec.weight),
        "metadata", msgspec.json.encode(spec.metadata),
        "isolation", spec.isolation.value,
        "era", spec.era.value,
        "balancer", spec.balancer or "",
        "source", spec.source,
        "include_tools", "" if spec.include_tools is None else msgspec.json.encode(spec.include_tools),
        "exclude_tools", msgspec.json.encode(spec.exclude_tools) if spec.exclude_tools else "",
        "settings", msgspec.json.encode(spec.settings) if spec.settings else "",
        "problem", spec.problem,
        "pin", "" if spec.pin is Pin.OFF else spec.pin.value,
    ]  # fmt: skip


def read_record(
    id: str, sequence: int, server: Fields, catalog: Fields, health: Fields, seals: Seals = UNSEALED
) -> UpstreamRecord | None:
    """Return the record in these hashes, or ``None`` if the upstream is not registered (any more).

    A record that this fleet did not seal is one that cannot be run, lists that it did not sign are empty.
    """
    if b"connection" not in server:
        return None
    sealed, foreign = seals.unseal_fields(id, server)
    server = dict(sealed)
    if seals.active:
        told = seals.signed_fields("found", id, server) or {}
        server = {**{name: value for name, value in server.items() if name not in _SIGNED}, **told}
    catalog = seals.signed_fields("catalog", id, catalog) or {}
    text = {key.decode(): value.decode() for key, value in server.items()}
    spec = _spec(id, server, text, foreign)
    if spec.problem:
        return _flawed(spec, sequence, text)
    owners = tuple(
        (int(field.removeprefix("owner:")), worker)
        for field, worker in sorted(text.items())
        if field.startswith("owner:")
    )
    duty = _duty(text.get("duty", ""))
    stopped = duty is Duty.DISABLED and not owners  # no worker has it, so none reports that
    return UpstreamRecord(
        spec=spec,
        sequence=sequence,
        revision=int(text.get("revision", "0")),
        status=ServerStatus.STOPPED if stopped else ServerStatus(text.get("status", "registered")),
        status_since=float(text.get("status_since", "0")),
        duty=duty,
        registered_at=float(text.get("registered_at", "0")),
        error=None if stopped else text.get("error") or None,
        eras=tuple(filter(None, text.get("eras", "").split(","))),
        sessionful=text.get("sessionful") == "1",
        protocol_version=text.get("protocol_version") or None,
        transport_in_use=text.get("transport_in_use", spec.transport),
        url_in_use=text.get("url_in_use", ""),
        capabilities=orjson.loads(text.get("capabilities") or "{}"),
        instructions=text.get("instructions", ""),
        owners=owners,
        catalog=_catalog(catalog),
        health=None if stopped else read_health(id, health),
    )


def _spec(id: str, server: Fields, text: dict[str, str], foreign: str) -> UpstreamSpec:
    """Return what users registered. ``text`` are the same fields as texts; ``foreign`` is why the record cannot be run,
    or empty."""
    transport = text["transport"]
    kind: Any = traits(transport).connection
    return UpstreamSpec(
        id=id,
        name=text["name"],
        transport=transport,
        connection=msgspec.json.decode(server[b"connection"], type=kind),
        weight=int(text.get("weight", "1")),
        metadata=msgspec.json.decode(server.get(b"metadata", b"{}")),
        isolation=Isolation(text.get("isolation", "auto")),
        era=EraChoice(text.get("era", "auto")),
        balancer=text.get("balancer") or None,
        source=text.get("source", "api"),
        include_tools=_texts(server.get(b"include_tools", b"")),
        exclude_tools=_texts(server.get(b"exclude_tools", b"")) or (),
        settings=msgspec.json.decode(server.get(b"settings") or b"{}", type=dict[str, Any]),
        problem=foreign or text.get("problem", ""),
        pin=Pin(text.get("pin") or "off"),
    )


def _catalog(catalog: Fields) -> ListedCatalog:
    """Return the lists that were read last."""
    return ListedCatalog(
        catalog.get(b"digest", b"").decode(),
        {kind: catalog[kind.encode()] for kind in Kind if kind.encode() in catalog},
        float(catalog.get(b"listed_at", b"0")),
        _texts(catalog.get(b"notes", b"")) or (),
        msgspec.json.decode(catalog.get(b"added") or b"{}", type=dict[str, dict[str, float]]),
        float(ttl) / 1000 if (ttl := catalog.get(b"ttl_ms", b"")) else None,
    )


def _duty(word: str) -> Duty:
    """Return the duty that is kept as ``word``. One of a newer version counts as active: it is better served than
    lost."""
    return next((one for one in Duty if one.value == word), Duty.ACTIVE)


def _texts(raw: bytes) -> tuple[str, ...] | None:
    return msgspec.json.decode(raw, type=tuple[str, ...]) if raw else None


def _flawed(spec: UpstreamSpec, sequence: int, text: dict[str, str]) -> UpstreamRecord:
    """Return the record of an entry that cannot be run. No worker reports on it, so its status follows from the
    spec."""
    since = float(text.get("status_since", "0"))
    return UpstreamRecord(
        spec=spec,
        sequence=sequence,
        revision=int(text.get("revision", "0")),
        status=ServerStatus.ERROR,
        status_since=since,
        duty=_duty(text.get("duty", "")),
        error=spec.problem,
        transport_in_use=spec.transport,
        owners=tuple(
            (int(field.removeprefix("owner:")), worker)
            for field, worker in sorted(text.items())
            if field.startswith("owner:")
        ),
        health=HealthCheckResult(spec.id, False, None, spec.problem, since),
    )


def read_health(id: str, fields: Fields) -> HealthCheckResult | None:
    """Return the health result in a ``gw:health:{id}`` hash, or ``None`` if there is none."""
    read = [fields.get(name) for name in (b"healthy", b"latency_ms", b"error", b"checked_at")]
    return health(id, [one.decode() if one is not None else False for one in read])


def health(id: str, row: Sequence[str | bool]) -> HealthCheckResult | None:
    """Return the health result in a row of ``read_rows``, or ``None`` if there is none."""
    healthy, latency, error, checked_at = row
    if healthy is False:
        return None
    return HealthCheckResult(
        server_id=id,
        healthy=healthy == "1",
        latency_ms=float(latency) if latency else None,
        error=str(error) if error else None,
        checked_at=float(checked_at or 0),
    )


def read_rows(packed: bytes) -> list[list[str | bool]]:
    """Return what the script ``HEALTHS`` answers: for each upstream whether it is healthy, its latency, error and time.
    ``False`` stands for what is not there."""
    return msgspec.msgpack.decode(packed, type=list[list[str | bool]])
