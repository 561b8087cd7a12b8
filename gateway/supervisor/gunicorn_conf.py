"""gunicorn's configuration, from the gateway's settings. Used by ``gateway up``, ``gateway serve`` and ``deploy/``.

The supervisor binds the socket once and passes it as ``fd://`` (``GATEWAY_LISTEN_FD``). ``SO_REUSEPORT`` would lose
queued connections and spread few connections badly. Modules are loaded before the fork, so that front ends share their
memory and start at once. The application is not (``preload_app``): ids, nonces and connections are made after the fork.
"""

import atexit
import contextlib
import gc
import importlib
import os
import shutil
import tempfile
import time
from typing import Any

from shared.child_environment import for_process
from shared.handover import received
from shared.metrics.instance_directory import VARIABLE
from shared.registry import lean_redis
from shared.registry.keys import Keys
from shared.seclusion import seclude

_settings = received()
_fd = os.environ.get("GATEWAY_LISTEN_FD")

_GRACE_S = 5

bind = f"fd://{_fd}" if _fd else f"{_settings.service.host}:{_settings.service.port}"
workers = _settings.service.frontends
worker_class = "gateway.listener.gunicorn_worker.FrontEndWorker"
preload_app = False
keepalive = 75
graceful_timeout = int(_settings.fleet.drain_timeout_s + _settings.fleet.drain_delay_s) + _GRACE_S
timeout = max(30, graceful_timeout + 2 * _GRACE_S)  # a front end that drains shows no sign of life
control_socket_disable = True
accesslog = None
errorlog = "-"
loglevel = "warning"
proc_name = "gateway-frontend"

_SETTLED_S = 10.0
_born: dict[int, float] = {}
_wait_s = 0.0


def on_starting(server: Any) -> None:
    """Load what front ends run, and hide gunicorn from stdio children, and with it the front ends that it forks."""
    lean_redis.load()
    for module in ("gateway.app", "aiohttp.worker", "uvloop"):
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # else the first collection in each front end would write to all of it, and get a copy
    seclude(for_process(os.environ, _settings.upstreams.stdio_environment))
    if VARIABLE not in os.environ:  # gunicorn without a supervisor of ours
        os.environ[VARIABLE] = tempfile.mkdtemp(prefix="gateway-figures-")
        atexit.register(_forget, os.environ[VARIABLE], os.getpid())


def _forget(directory: str, pid: int) -> None:
    """Remove the directory of figures when gunicorn itself ends, not when one of its children does."""
    if os.getpid() == pid:
        shutil.rmtree(directory, ignore_errors=True)


def pre_fork(server: Any, worker: Any) -> None:
    """Note when each front end starts."""
    _born[worker.age] = time.monotonic()


def child_exit(server: Any, worker: Any) -> None:
    """Count a front end that ended, for ``gateway status``; one that lived only shortly delays the next (backoff)."""
    import redis  # which this process has loaded before it forks

    global _wait_s
    lived_s = time.monotonic() - _born.pop(worker.age, time.monotonic())
    if not server.LISTENERS or len(server.WORKERS) >= server.num_workers:
        return  # gunicorn itself is stopping, or has one front end fewer to run
    with contextlib.suppress(redis.RedisError, OSError, ValueError):
        client = redis.Redis.from_url(_settings.registry.redis_url, socket_timeout=0.2, socket_connect_timeout=0.2)
        client.hincrby(Keys(_settings.registry.key_prefix).restarts, "front end", 1)
        client.close()
    _wait_s = 0.0 if lived_s > _SETTLED_S else min(max(_wait_s * 2, _settings.fleet.restart_min_s), 2.0)
    time.sleep(_wait_s)
