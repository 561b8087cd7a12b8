"""Connections to Redis: standalone, TLS, Unix socket, Sentinel. Errors of redis-py are translated here.

URLs: ``redis://``, ``rediss://``, ``unix:///path``, and ``redis+sentinel://host:port,host:port/master-name[/db]``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError, MaxConnectionsError, RedisError
from redis.exceptions import TimeoutError as RedisTimeout

from shared.connections import mask_url
from shared.errors import ConfigError, RegistryUnavailable
from shared.registry.breaker import BREAKER
from shared.registry.turns import TURNS

_NO_ANSWER = (TimeoutError, OSError, RedisTimeout, ConnectionError)
"""Errors that mean no answer; other errors of redis-py are answers."""
_AWAY = "Redis does not answer; nothing was changed"
SCHEMES = ("redis", "rediss", "unix", "redis+sentinel")


def connect(url: str, timeout_s: float) -> Any:
    """Return a ``redis.asyncio.Redis`` for ``url``, which connects when first used. Raises ``ConfigError`` for a URL
    that cannot be used.

    The type is ``Any``, because redis-py types every reply as ``str | bytes | None`` and replies here are always bytes.
    """
    options: dict[str, Any] = {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 1, supported_errors=(ConnectionError,)),  # a time-out is not waited for twice
        "health_check_interval": 0,
    }
    scheme = urlsplit(url).scheme
    if scheme not in SCHEMES:
        raise ConfigError(
            f"redis URL {mask_url(url)!r} must start with redis://, rediss://, unix:// or redis+sentinel://"
        )
    try:
        if scheme == "redis+sentinel":
            return _sentinel(url, options)
        return redis.from_url(url, **options)
    except ValueError as error:
        raise ConfigError(f"redis URL {mask_url(url)!r}: {error}") from error


def _sentinel(url: str, options: dict[str, Any]) -> Any:
    parts = urlsplit(url)
    hosts = parts.netloc.rpartition("@")[2].split(",")
    name, _, db = parts.path.strip("/").partition("/")
    if not name:
        raise ValueError("name the master: redis+sentinel://host:26379/mymaster")
    addresses = [(host.partition(":")[0], int(host.partition(":")[2] or 26379)) for host in hosts]
    sentinel: Any = Sentinel(addresses, sentinel_kwargs={"socket_timeout": options["socket_timeout"]})  # type: ignore[no-untyped-call]
    return sentinel.master_for(name, db=int(db or 0), password=parts.password, username=parts.username, **options)


@asynccontextmanager
async def translated() -> AsyncIterator[None]:
    """Turn errors of redis-py and of the network into ``RegistryUnavailable``. While Redis is known not to answer, that
    is raised at once (``shared.registry.breaker``). Only so many requests go on at once (``shared.registry.turns``), so
    nothing inside may come here again."""
    if BREAKER.away:
        raise RegistryUnavailable(_AWAY)
    async with TURNS:
        if BREAKER.away:  # meanwhile
            raise RegistryUnavailable(_AWAY)
        try:
            yield
        except (TimeoutError, RedisError, OSError) as error:
            raise unavailable(error) from error


def unavailable(error: Exception) -> RegistryUnavailable:
    """Return the error to raise for one of redis-py or of the network. If it means that Redis does not answer, nothing
    asks Redis from now on (``shared.registry.breaker``)."""
    if isinstance(error, _NO_ANSWER) and not isinstance(error, MaxConnectionsError):
        BREAKER.failed()
    return RegistryUnavailable(f"Redis does not answer ({error or type(error).__name__}); nothing was changed")
