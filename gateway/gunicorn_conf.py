"""gunicorn's configuration, from the gateway's own settings. Used by ``gateway up``, ``gateway serve`` and ``deploy/``.

The supervisor binds the socket once and hands it over as ``fd://`` (``GATEWAY_LISTEN_FD``): no ``SO_REUSEPORT``, which
loses queued connections and spreads few ones badly. No preload: ids, nonces and connections are made after the fork.
"""

import os

from shared.settings import build

_settings = build(environment=os.environ)
_fd = os.environ.get("GATEWAY_LISTEN_FD")

bind = f"fd://{_fd}" if _fd else f"{_settings.service.host}:{_settings.service.port}"
workers = _settings.service.frontends
worker_class = "aiohttp.GunicornUVLoopWebWorker"
preload_app = False
keepalive = 75
timeout = 30
graceful_timeout = int(_settings.fleet.drain_timeout_s) + 5
control_socket_disable = True
accesslog = None
errorlog = "-"
loglevel = "warning"
proc_name = "gateway-frontend"
