"""The factory that gunicorn calls in each front-end process (``gateway.app:create``)."""

from __future__ import annotations

import logging
import os

from aiohttp import web

from gateway.front_end.front_end import FrontEnd
from gateway.listener.server import McpRunner
from shared import logs, memory
from shared.errors import RegistryUnavailable
from shared.handover import received
from shared.registry.api_keys import KeyStore
from shared.registry.pins import PinStore
from shared.registry.store import RegistryStore
from shared.registry.virtual_servers import VirtualServerStore

_log = logging.getLogger(__name__)


async def create() -> web.AppRunner:
    """Start a front end with the settings of its process, and return the runner that serves it."""
    settings = received()
    logs.configure("frontend", settings.service.log_level, settings.telemetry.log_format)
    store = RegistryStore(settings.registry, settings.access.secret)
    await _renew(store)
    front = FrontEnd(settings, store, await store.fleet_key())
    await front.start()
    memory.tune()
    _log.info("front end %s is up (pid %d)", front.id, os.getpid())
    return McpRunner(front)


async def _renew(store: RegistryStore) -> None:
    """Mark records with the newest key, while the fleet has older ones as well: then these can be taken away."""
    if not store.seals.rotating:
        return
    try:
        renewed = await store.renew_seals() + await KeyStore(store).renew() + await VirtualServerStore(store).renew()
        renewed += await PinStore(store).renew()
    except RegistryUnavailable as error:
        _log.warning("records that are marked with an older key stay so (%s): do not take that key away yet", error)
        return
    _log.info("%d records in Redis were marked with an older key, and are with the newest one now", renewed)
