"""gunicorn's configuration for people who run gunicorn themselves, instead of ``gateway serve``::

    GATEWAY_REDIS_URL=redis://127.0.0.1:6379/0 gunicorn -c deploy/gunicorn.conf.py gateway.app:create

Everything comes from the gateway's own settings (``GATEWAY_HOST``, ``GATEWAY_PORT``, ``GATEWAY_FRONTENDS``,
``GATEWAY_DRAIN_TIMEOUT``, …), through the configuration that ``gateway serve`` uses as well. To listen
elsewhere, set ``GATEWAY_HOST`` and ``GATEWAY_PORT``; the check below does not see ``--bind``.

``gateway serve`` does more than gunicorn alone: it reads a configuration file, follows its changes, and waits
until the front ends have joined the fleet. Here, register upstreams with ``gateway servers add`` or the admin
API.
To change a value, assign it below the import.
"""

import sys
from typing import Any

from gateway.supervisor import gunicorn_conf
from gateway.supervisor.gunicorn_conf import *  # noqa: F403
from gateway.supervisor.start_checks import check_start
from shared.errors import ConfigError
from shared.handover import received


def on_starting(server: Any) -> None:
    """Before the first front end: refuse what ``gateway serve`` refuses."""
    settings = received()
    if not settings.registry.redis_url:
        sys.exit("error: gunicorn alone starts no Redis: set GATEWAY_REDIS_URL to the workers' one")
    try:
        check_start(settings)
    except ConfigError as error:
        sys.exit(f"error: {error}")
    gunicorn_conf.on_starting(server)
