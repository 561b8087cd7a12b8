"""The changes that the admin API makes to the registry and to client sessions. Counterpart: ``queries``, which reads.

The handlers (``routes``) decide whether a request may make a change; this module makes it.
"""

from __future__ import annotations

from typing import Any

from gateway.admin.schemas import Change, Registration
from gateway.sessions.table import SessionTable
from shared.choices import Duty
from shared.connections import Connection, unmasked
from shared.errors import EntryDeclared, EntryNotFound
from shared.logs import LOG_LEVEL
from shared.models import UpstreamSpec, make_spec
from shared.registry.changes import RESTART
from shared.registry.records import UpstreamRecord
from shared.registry.store import RegistryStore

_OPTIONS = ("weight", "metadata", "isolation", "era", "balancer", "include_tools", "exclude_tools", "settings", "pin")


class Commands:
    """Makes the changes of the admin API."""

    def __init__(self, store: RegistryStore, sessions: SessionTable) -> None:
        self._store = store
        self._sessions = sessions

    def registration(self, body: Registration) -> UpstreamSpec:
        """Return the upstream that ``body`` describes, without registering it. Raises ``ConfigError``."""
        return make_spec(
            body.id,
            unmasked(body.connection),
            name=body.name,
            transport=body.transport,
            weight=body.weight,
            metadata=body.metadata,
            isolation=body.isolation,
            era=body.era,
            balancer=body.balancer,
            include_tools=body.include_tools,
            exclude_tools=body.exclude_tools,
            settings=body.settings,
            pin=body.pin,
        )

    def changed(self, spec: UpstreamSpec, change: Change) -> UpstreamSpec:
        """Return ``spec`` with the fields that ``change`` sets. Raises ``ConfigError``."""
        changes = {
            name: getattr(change, name) for name in change.__struct_fields__ if getattr(change, name) is not None
        }
        sent = changes.pop("connection", None)
        raw: dict[str, Any] | Connection = unmasked(sent, spec.connection) if sent is not None else spec.connection
        options = {name: getattr(spec, name) for name in _OPTIONS}
        if sent is None:
            options["problem"] = spec.problem  # only another connection cures an entry that cannot be run
        return make_spec(
            spec.id,
            raw,
            name=spec.name,
            source=spec.source,
            **{**options, **changes},
        )

    async def register(self, spec: UpstreamSpec, replace: bool = False) -> UpstreamRecord:
        """Register an upstream. Raises ``EntryExists`` if its id is taken, unless it may ``replace``."""
        await self._store.register(spec, "replace" if replace else "create")
        return UpstreamRecord(spec, 0)

    async def update(self, spec: UpstreamSpec) -> None:
        """Replace the specification of a registered upstream. Raises ``EntryNotFound``."""
        await self._store.register(spec, mode="update")

    async def unregister(self, id: str, known: UpstreamSpec | None, force: bool = False) -> None:
        """Remove an upstream. Raises ``EntryNotFound``, and ``EntryDeclared`` if it comes from a file, unless ``force``
        is given. ``known`` is its specification, as far as it is known here."""
        if known is not None and known.source == "file" and not force:
            raise EntryDeclared(
                f"upstream {id!r} is declared by the gateway's configuration file, which would bring it back: remove "
                'it there, or write "disabled": true (if that file is gone for good: servers remove --force)'
            )
        await self._store.unregister(id)

    async def restart(self, id: str) -> None:
        """Have the workers that hold an upstream begin anew with it: a new child, new connections and sessions. Raises
        ``RegistryUnavailable``."""
        await self._store.run_script("ANNOUNCE", RESTART, id)

    async def set_duty(self, id: str, duty: Duty) -> None:
        """Have an upstream take calls, drain or stop, until somebody says otherwise. Raises ``EntryNotFound`` and
        ``RegistryUnavailable``."""
        await self._store.set_duty(id, duty)

    async def set_log_level(self, level: str) -> None:
        """Have every live process log at ``level`` until it ends. Raises ``RegistryUnavailable``."""
        await self._store.run_script("ANNOUNCE", LOG_LEVEL, level)

    async def end_session(self, short: str) -> None:
        """End the client session whose shortened id is ``short``. Raises ``EntryNotFound``."""
        if not await self._sessions.revoke(short):
            raise EntryNotFound("no such session; see /admin/v1/sessions")
