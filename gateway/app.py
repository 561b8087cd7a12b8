"""The factory that gunicorn calls in each front-end process (``gateway.app:create``)."""

from __future__ import annotations

import logging
import os

from aiohttp import web

from gateway.front_end import FrontEnd
from gateway.listener.server import McpRunner
from shared import logs, memory
from shared.handover import received
from shared.registry.store import RegistryStore

_log = logging.getLogger(__name__)


async def create() -> web.AppRunner:
    """Start a front end with the settings of its process, and return the runner that serves it."""
    settings = received()
    logs.configure("frontend", settings.service.log_level, settings.telemetry.log_format)
    store = RegistryStore(settings.registry)
    front = FrontEnd(settings, store, await store.fleet_key(settings.access.secret))
    await front.start()
    memory.tune()
    _log.info("front end %s is up (pid %d)", front.id, os.getpid())
    return McpRunner(front)
