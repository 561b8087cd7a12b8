"""``Gateway``: the whole gateway from Python.

Times are in seconds here, and in milliseconds in configuration files. ``register`` and ``unregister`` check their
arguments at once and return a handle; awaiting the handle raises what the registry refused. ``list`` reads this
process's own copy of the registry.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gateway.balancers import BalancerStrategy
from gateway.fleet.pins import Pins, public_entry
from gateway.supervisor.config_follower import ConfigFollower, log_remarks, reconcile
from gateway.supervisor.lifecycle import Supervisor
from gateway.supervisor.rolling import Restarts
from gateway.supervisor.start_checks import rules_of
from shared.config import load
from shared.connections import Connection
from shared.errors import EntryExists, EntryNotFound, GatewayError, RestartRefused
from shared.models import ServerEntry, ServerStatus, UpstreamSpec, make_spec
from shared.registry.changes import ChangeFollower
from shared.registry.pins import PinStore
from shared.registry.records import UpstreamRecord
from shared.registry.rolls import Roll, RollStep
from shared.registry.store import RegistryStore
from shared.settings import Settings, build
from shared.tasks import cancel, spawn

_log = logging.getLogger(__name__)
_PINS_S = 2.0
"""How long a start waits until it is known what was approved of pinned upstreams; until then none of their tools is
listed."""
_STARTING = (ServerStatus.REGISTERED, ServerStatus.CONNECTING)


def _place(record: UpstreamRecord) -> tuple[bool, int]:
    """Return what sorts records by registration. One that was registered just now has no number yet and is last."""
    return record.sequence == 0, record.sequence


class Handle:
    """A registration or removal under way. Awaiting the handle is optional, and raises what the registry refused."""

    def __init__(self) -> None:
        self._done = False
        self._error: GatewayError | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def finish(self, error: GatewayError | None = None) -> None:
        """Note that the registry has answered, and wake those who await this handle."""
        self._done, self._error = True, error
        if error is not None and not self._waiters:
            _log.error("%s", error)  # this handle may never be awaited
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def __await__(self) -> Generator[Any, None, None]:
        if not self._done:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            yield from waiter
        if self._error is not None:
            raise self._error


class Gateway:
    """One gateway: with its own Redis, workers and front ends, or (``redis_url=``) as part of a fleet."""

    def __init__(
        self,
        name: str | None = None,
        port: int | None = None,
        host: str | None = None,
        health_check_interval: float | None = None,
        balancer: BalancerStrategy | str | None = None,
        request_timeout: float | None = None,
        redis_url: str | None = None,
        workers: int | None = None,
        frontends: int | None = None,
        config: str | Path | None = None,
        settings: Settings | None = None,
        strict: bool = False,
        state_dir: str | Path | None = None,
        narrated: bool = False,
        reread: Callable[[], tuple[Mapping[str, Any], Settings]] | None = None,
        on_restart: Callable[[RollStep | None], None] = lambda step: None,
    ) -> None:
        """``strict`` refuses a ``config`` with any flaw, also with one that would cost a single entry.

        ``state_dir`` is where a Redis of the gateway's own keeps registrations and sessions for the next start; without
        it nothing is kept. ``narrated``: whoever made this gateway shows the state of each entry, so that flaws of
        entries need not be logged too. ``reread`` returns the file's settings, and all settings, as they are at a
        ``restart``; without it they follow from ``config`` and the arguments. ``on_restart`` is called with each
        step of a restart, and with ``None`` when one has gone through.
        """
        self._strict = strict
        self._narrated = narrated
        self._config_path = Path(config) if config is not None else None
        self._config = load(self._config_path, strict=strict, own=True) if self._config_path is not None else None
        self._overrides = {
            "name": name,
            "port": port,
            "host": host,
            "health_check_interval_s": health_check_interval,
            "balancer": str(balancer) if balancer is not None else None,
            "request_timeout_s": request_timeout,
            "redis_url": redis_url,
            "workers": workers,
            "frontends": frontends,
            "state_dir": str(state_dir) if state_dir is not None else None,
        }
        self._whole = settings
        of_file = self._config.settings if self._config else None
        self._settings = settings or build(file_values=of_file, overrides=self._overrides)
        self._reread = reread or self._reread_file
        self._file_settings: Mapping[str, Any] = {}
        self._restarts: Restarts | None = None
        self._on_restart = on_restart
        self._supervisor = Supervisor(self._settings)
        self._pending: list[tuple[UpstreamSpec | str, Handle]] = []
        self._records: dict[str, UpstreamRecord] = {}
        self._declared: set[str] = {spec.id for spec in self._config.upstreams} if self._config else set()
        self._changed = asyncio.Event()
        self._store: RegistryStore | None = None
        self._follower: ChangeFollower | None = None
        self._pins: Pins | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.config_follower: ConfigFollower | None = None

    # ---- the registry

    def register(
        self,
        id: str,
        connection: Mapping[str, Any] | Connection,
        name: str | None = None,
        transport: str | None = None,
        **options: Any,
    ) -> Handle:
        """Register an upstream. Raises at once ``ConfigError``, or ``EntryExists`` for an id that is known here.

        ``options``: ``weight``, ``metadata``, ``isolation``, ``era``, ``balancer``, ``include_tools``,
        ``exclude_tools``, ``pin``, ``settings`` (those that the upstream has for itself, by their names in a file).
        """
        spec = make_spec(
            id,
            connection,
            name=name,
            transport=transport,
            **options,
        )
        if id in self._declared or id in self._records:
            raise EntryExists(f"upstream {id!r} is registered already; unregister it first or choose another id")
        self._declared.add(id)
        return self._queue(spec)

    def unregister(self, id: str) -> Handle:
        """Remove an upstream. Raises ``EntryNotFound`` at once for an id that is not known here."""
        if id not in self._declared and id not in self._records:
            raise EntryNotFound(f"no upstream {id!r} is registered")
        self._declared.discard(id)
        self._records.pop(id, None)
        return self._queue(id)

    def _queue(self, change: UpstreamSpec | str) -> Handle:
        handle = Handle()
        self._pending.append((change, handle))
        if self._store is not None:
            self._tasks.append(spawn(self._apply(), "registry-change"))
        return handle

    async def _apply(self, mode: str = "create") -> None:
        """Write the pending changes to the registry, in order; with ``mode`` as ``RegistryStore.register`` has it."""
        assert self._store is not None
        pending, self._pending = self._pending, []
        for change, handle in pending:
            try:
                if isinstance(change, str):
                    await self._store.unregister(change)
                else:
                    await self._store.register(change, mode)
                    self._records.setdefault(change.id, UpstreamRecord(change, 0))
                handle.finish()
            except GatewayError as error:
                if not isinstance(change, str):
                    self._declared.discard(change.id)
                handle.finish(error)

    def list(self) -> Sequence[ServerEntry]:
        """Return every upstream, in registration order; those whose registration is pending come last.

        Tools of pinned upstreams that are held back are not among their tools.
        """
        known = self._pins.known if self._pins is not None else {}
        entries = [public_entry(record, known) for record in sorted(self._records.values(), key=_place)]
        shown = {entry.id for entry in entries}
        for change, _ in self._pending:
            if not isinstance(change, str) and change.id not in shown:
                entries.append(UpstreamRecord(change, 0).entry())
        return entries

    def get(self, id: str) -> ServerEntry | None:
        """Return one upstream, or ``None`` if it is not registered."""
        return next((entry for entry in self.list() if entry.id == id), None)

    # ---- life

    @property
    def url(self) -> str:
        """The URL at which the gateway listens, once started."""
        return self._supervisor.url

    @property
    def endpoint(self) -> str:
        """The URL of the MCP endpoint, as clients need it."""
        return self.url + "/mcp"

    @property
    def redis_url(self) -> str:
        """The URL of the Redis in use, once started."""
        return self._supervisor.settings.registry.redis_url

    @property
    def admin_token(self) -> str:
        """The bearer token of the admin API: the one that is set, or that of this run where callers are
        authenticated; else empty."""
        return self._supervisor.settings.access.admin_token

    @property
    def access(self) -> str:
        """Who is let in, in words."""
        return rules_of(self._settings).summary

    @property
    def state_dir(self) -> str:
        """Where registrations and sessions are kept for the next start, or an empty string if they are not."""
        service, own = self._settings.service, not self._settings.registry.redis_url
        return service.state_dir if own and not service.ephemeral else ""

    async def start(self, wait_connected_s: float = 10.0) -> None:
        """Start the gateway, and return when requests are served.

        Then wait up to ``wait_connected_s`` until every upstream registered here has connected or failed.
        """
        await self._supervisor.start(self._prepare)
        running = self._supervisor.settings
        self._store = RegistryStore(running.registry, running.access.secret)
        self._pins = Pins(PinStore(self._store), self._changed.set)
        self._follower = ChangeFollower(self._store, self)
        self._tasks.append(spawn(self._follower.run(), "follow-changes"))
        if self._config is not None and self._config_path is not None:
            self.config_follower = ConfigFollower(
                self._config_path,
                self._store,
                strict=self._strict,
                running=self._config.settings,
                narrated=self._narrated,
                files=self._config.files,
                take_rules=self._supervisor.take_rules,
            )
            self._tasks.append(spawn(self.config_follower.run(), "configuration"))
        self._restarts = Restarts(self._supervisor, self._reread_settings, self._restarted, self._on_restart)
        # What this program registered at its last start may have been kept: it says it again, and has the last word.
        await self._apply("replace" if self.state_dir else "create")
        await self._wait_connected(wait_connected_s)
        settling = spawn(self._pins.settled(), "pins")
        self._tasks.append(settling)
        await asyncio.wait({settling}, timeout=_PINS_S)

    async def _prepare(self, store: RegistryStore) -> None:
        """Register what the file has before any worker looks, so that none starts what has left the file meanwhile."""
        if self._config is not None and self._config_path is not None:
            log_remarks(self._config_path, self._config, self._narrated)
            await reconcile(store, self._config.upstreams, self._config.virtual_servers)
        elif self.state_dir:
            await reconcile(store, ())  # this registry is ours alone, so what a file declared has no file any more

    async def restart(self) -> Roll:
        """Replace every front end and worker, one after the other, while the gateway goes on serving.

        The new ones have the settings that the configuration file has now. Raises ``RestartRefused`` if that is under
        way already, and ``ConfigError`` or ``StartError`` if a new process did not become ready: the old ones stay.
        """
        if self._restarts is None:
            raise RestartRefused("the gateway has not been started")
        return await self._restarts.run()

    def begin_restart(self) -> None:
        """Begin a restart, if the gateway runs and none is under way. What becomes of it is logged."""
        if self._restarts is not None:
            self._restarts.begin()

    def _reread_file(self) -> tuple[Mapping[str, Any], Settings]:
        values = (
            load(self._config_path, strict=self._strict, own=True).settings if self._config_path is not None else {}
        )
        return values, self._whole or build(file_values=values, overrides=self._overrides)

    def _reread_settings(self) -> Settings:
        self._file_settings, settings = self._reread()
        return settings

    def _restarted(self) -> None:
        self._settings = self._supervisor.given
        if self.config_follower is not None:
            self.config_follower.restarted(self._file_settings)
        self._on_restart(None)

    def kill(self) -> None:
        """End all processes of the gateway at once; ``stop`` then only cleans up."""
        self._supervisor.kill()

    async def _wait_connected(self, wait_s: float) -> None:
        deadline = asyncio.get_running_loop().time() + wait_s
        while asyncio.get_running_loop().time() < deadline:
            self._changed.clear()
            known = [self._records.get(id) for id in self._declared]
            if all(record is not None and record.status not in _STARTING for record in known):
                return
            try:
                async with asyncio.timeout_at(deadline):
                    await self._changed.wait()
            except TimeoutError:
                return

    async def wait_change(self, timeout_s: float) -> None:
        """Wait until the registry changes, but no longer than ``timeout_s``."""
        self._changed.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def stop(self) -> None:
        """Drain and stop everything that ``start`` started."""
        if self._restarts is not None:
            await self._restarts.close()
            self._restarts = None
        await cancel(*self._tasks)
        self._tasks = []
        if self._pins is not None:
            await self._pins.close()
        if self._follower is not None:
            await self._follower.close()
        if self._store is not None:
            await self._store.close()
            self._store = None
        await self._supervisor.stop()
        self._supervisor = Supervisor(self._settings)  # for another start

    async def __aenter__(self) -> Gateway:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # ---- shared.registry.changes.Follower

    def on_snapshot(self, records: dict[str, UpstreamRecord]) -> None:
        """Replace the copy of the registry, at the start and after a gap in the change log."""
        self._records = dict(records)
        if self._pins is not None and self._follower is not None:
            self._pins.load_again(self._follower.place[0])
            self._pins.watch(self._records.values())
        self._changed.set()

    def on_upstreams(self, records: dict[str, UpstreamRecord | None], announced: dict[str, set[str]]) -> None:
        """Apply changed records to the copy; a record is ``None`` if its upstream was unregistered."""
        for id, record in records.items():
            if record is None:
                self._records.pop(id, None)
                self._declared.discard(id)
            else:
                self._records[id] = record
        if self._pins is not None:
            self._pins.watch(self._records.values())
        self._changed.set()

    def on_member(self, kind: str, id: str) -> None:
        """Read what was approved of a group, if that changed. The copy has no members."""
        if kind == "pins" and self._pins is not None:
            self._pins.announce(id)

    def on_session_ended(self, sid: str, sequence: int) -> None:
        """Do nothing: the copy has no client sessions."""

    def on_connection(self, available: bool) -> None:
        """Do nothing: the copy stays while Redis is away."""
