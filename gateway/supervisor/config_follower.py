"""Keeping the registry in step with a configuration file while the gateway runs.

Upstreams and virtual servers from the file are marked ``source: file``. They are unregistered when they leave the file;
those from elsewhere are left alone. An entry that cannot be run is registered with the reason; all others run. A file
that cannot be read at all is logged, and the old configuration stays. Rules of access are handed to the front ends. The
gateway's own settings are read at the start, and when processes are replaced (``rolling``): that a change of them needs
a restart is said once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from watchfiles import awatch

from gateway.supervisor.lifecycle import FIXED
from gateway.supervisor.start_checks import rules_of
from shared.access.changes import needing_restart
from shared.config import Config, load
from shared.errors import ConfigError, EntryExists, EntryNotFound, RegistryUnavailable
from shared.models import UpstreamSpec
from shared.registry.records import UpstreamRecord
from shared.registry.store import RegistryStore
from shared.registry.virtual_servers import Declared, VirtualServerStore
from shared.settings import Settings, build
from shared.virtual_servers import VirtualServer

NO_VIRTUAL: Mapping[str, VirtualServer] = {}
_log = logging.getLogger(__name__)
_STEP_MS = 250
"""How often is looked whether something was heard of files. They are read when the next look finds nothing more."""
_LOOK_AGAIN_MS = 5000
"""How often files are compared although nothing was heard of them: some file systems say nothing."""


async def reconcile(
    store: RegistryStore, upstreams: Sequence[UpstreamSpec], virtual: Mapping[str, VirtualServer] = NO_VIRTUAL
) -> tuple[int, int]:
    """Make the upstreams and virtual servers that came from a file exactly these. Raises ``RegistryUnavailable``.

    Return how many were written, and how many removed.
    """
    present = await store.load_all()
    written = removed = 0
    for spec in upstreams:
        record = present.get(spec.id)
        if record is None or record.spec != spec:
            await store.register(spec, mode="replace")
            written += 1
    wanted = {spec.id for spec in upstreams}
    for id, record in present.items():
        if record.spec.source == "file" and id not in wanted:
            try:
                await store.unregister(id)
                removed += 1
            except EntryNotFound:
                pass
    groups = {record.spec.name for record in present.values() if record.spec.id in wanted or _stays(record)}
    counts = await _reconcile_virtual(VirtualServerStore(store), virtual, groups)
    return written + counts[0], removed + counts[1]


def _stays(record: UpstreamRecord) -> bool:
    return record.spec.source != "file"


async def _reconcile_virtual(
    store: VirtualServerStore, wanted: Mapping[str, VirtualServer], groups: Collection[str]
) -> tuple[int, int]:
    """Make the virtual servers that came from a file exactly ``wanted``. One that has the name of a group that is there
    already is left out: the clients of ``/servers/{name}`` must not be moved to something else."""
    present = await store.all()
    written = removed = 0
    for name, server in wanted.items():
        if name in groups and name not in present:
            _log.error("virtual server %r was left out: a group of this name is registered; rename one of them", name)
            continue
        try:
            if present.get(name) != Declared("file", server):
                await store.put(Declared("file", server))
                written += 1
        except EntryExists as error:
            _log.error("virtual server %r was left out: %s", name, error)
    for name, one in present.items():
        if one.source == "file" and name not in wanted:
            with contextlib.suppress(EntryNotFound):
                await store.remove(name, "file")
                removed += 1
    return written, removed


def log_remarks(path: Path, config: Config, narrated: bool = False) -> None:
    """Log which entries of a file cannot be run, what in it has no effect, and what was mended: a line each.

    ``narrated``: which entries cannot be run is shown elsewhere.
    """
    for where, text in (*(() if narrated else config.problems), *config.warnings):
        _log.warning("%s: %s: %s", path.name, where, text)
    for where, text in (*config.mended, *config.left_out):
        _log.info("%s: %s: %s", path.name, where, text)


class ConfigFollower:
    """Reloads a file when its content changes, and when ``reload_now`` is set (SIGHUP)."""

    def __init__(
        self,
        path: Path,
        store: RegistryStore,
        reload_now: asyncio.Event | None = None,
        strict: bool = False,
        running: Mapping[str, Any] | None = None,
        narrated: bool = False,
        files: Sequence[Path] = (),
        take_rules: Callable[[str], None] | None = None,
    ) -> None:
        """``running`` are the file's settings with which the gateway was started, ``files`` those that it
        names. ``take_rules`` gives rules of access (JSON) to the front ends."""
        self._rules = _settings_of(running) if running is not None and take_rules is not None else None
        self._take_rules = take_rules or (lambda rules: None)
        self._path = path.absolute()  # not resolve(): a mounted ConfigMap is a link whose target changes
        self._store = store
        self._strict = strict
        self._running = self._seen = running
        self._narrated = narrated
        self._files = tuple(files)
        self._applied = self._content()
        self._other_folders = asyncio.Event()
        self.reload_now = reload_now or asyncio.Event()

    async def run(self) -> None:
        """Watch and reload the file until cancelled."""
        changes = asyncio.ensure_future(self._watch())
        try:
            while True:
                await self.reload_now.wait()
                self.reload_now.clear()
                await self.reload()
        finally:
            changes.cancel()

    async def _watch(self) -> None:
        """Set ``reload_now`` when the content of the file, or of one that it names, is not what was applied.

        Folders are watched because editors, ConfigMaps and Secrets replace files, or links. What changed before a watch
        stands is found by looking once more.
        """
        while True:
            self._other_folders.clear()
            changes = awatch(
                *self._folders(),
                step=_STEP_MS,
                debounce=200,
                recursive=False,
                stop_event=self._other_folders,
                yield_on_timeout=True,
                rust_timeout=_LOOK_AGAIN_MS,
            )
            seen = self._applied
            async for _ in changes:
                now = self._content()
                if now not in (self._applied, seen):
                    seen = now
                    self.reload_now.set()

    def _folders(self) -> set[Path]:
        return {self._path.parent, *(one.parent for one in self._files if one.parent.is_dir())}

    def _content(self) -> dict[Path, bytes | None]:
        return {one: _bytes_of(one) for one in (self._path, *self._files)}

    def _note_files(self, files: Sequence[Path]) -> None:
        """Watch the files that the file names now."""
        before = self._folders()
        self._files = tuple(files)
        if self._folders() != before:
            self._other_folders.set()

    async def reload(self) -> None:
        """Read the file again and apply it; errors are logged."""
        self._applied = self._content()  # as it was before it is read
        try:
            config = await asyncio.to_thread(load, self._path, strict=self._strict, own=True)  # it may run programs
            self._note_files(config.files)
            live = self._follow_rules(config.settings)  # first: what is new may have to be hidden
            written, removed = await reconcile(self._store, config.upstreams, config.virtual_servers)
        except ConfigError as error:
            _log.error("%s was not applied, the old configuration stays: %s", self._path.name, error)
        except RegistryUnavailable as error:
            _log.error("%s was not applied: %s", self._path.name, error)
        else:
            self._compare(config.settings, {"accessRules"} if live else set())
            log_remarks(self._path, config, self._narrated)
            _log.info("%s applied: %d written, %d removed", self._path.name, written, removed)

    def _follow_rules(self, settings: Mapping[str, Any]) -> bool:
        """Have front ends go by the file's rules of access, and return whether that needs no restart."""
        if self._rules is None:
            return False
        now = _settings_of(settings)
        rules = now.access.access_rules
        if rules == self._rules.access.access_rules:
            return True
        why = needing_restart(rules_of(self._rules), rules_of(now))
        if why:
            _log.warning(
                "%s: the rules of access have changed and are not applied, the old ones stay, because a change of %s "
                "needs a restart ('gateway restart')",
                self._path.name,
                " and of ".join(why),
            )
            return False
        self._take_rules(rules)
        self._rules = now
        _log.info("%s: the rules of access have changed, and front ends go by them now", self._path.name)
        return True

    def _compare(self, settings: Mapping[str, Any], live: Collection[str] = ()) -> None:
        """Say which settings of the file the gateway does not have, whenever the file's settings have changed."""
        if self._running is None or settings == self._seen:
            return
        self._seen = settings
        names = sorted({*settings, *self._running})
        changed = [name for name in names if settings.get(name) != self._running.get(name) and name not in live]
        for which, need in (
            ([name for name in changed if name not in FIXED], "a restart ('gateway restart')"),
            ([name for name in changed if name in FIXED], "a stop and a start"),
        ):
            if which:
                _log.warning("%s: %s changed, which needs %s", self._path.name, ", ".join(which), need)

    def restarted(self, settings: Mapping[str, Any]) -> None:
        """Note the file's settings with which all processes were replaced."""
        self._running = self._seen = settings
        if self._rules is not None:
            self._rules = _settings_of(settings)


def _settings_of(written: Mapping[str, Any]) -> Settings:
    """Return the settings of a gateway with this file: variables of the environment come before it."""
    return build(written, os.environ)


def _bytes_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
