"""Reaching an upstream by its URL, or by the usual path if only an origin is given."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit, urlunsplit

from shared.connections import HttpConnection
from shared.errors import CallError
from shared.upstream_auth import UserAuth
from worker.sessions.context import SessionContext
from worker.transports.http_authorized import AuthorizedPool
from worker.transports.http_client import HttpPool
from worker.transports.http_endpoint import HttpEndpoint
from worker.transports.transport import Reached


def http_pool(context: SessionContext, url: str) -> HttpPool:
    """Return a pool for ``url``, with the headers and the credentials that are configured for the upstream."""
    connection, settings = context.spec.connection, context.settings.upstreams
    assert isinstance(connection, HttpConnection)
    endpoint = HttpEndpoint(url, connection)
    if connection.auth is None:
        return HttpPool(endpoint, settings)
    assert context.credentials is not None  # or requests would go without what the entry asks for
    return AuthorizedPool(endpoint, settings, context.credentials)


def anonymous_pool(context: SessionContext, url: str) -> HttpPool | None:
    """Return a pool for ``url`` with the entry's headers and no account, where all accounts are those of callers
    (``user``), else ``None``."""
    connection = context.spec.connection
    assert isinstance(connection, HttpConnection)
    if not isinstance(connection.auth, UserAuth):
        return None
    return HttpPool(HttpEndpoint(url, connection), context.settings.upstreams)


def urls_to_try(url: str, usual_path: str, usual_first: bool) -> list[str]:
    """Return the URLs that ``url`` stands for. A bare origin also stands for the usual path of its transport."""
    parts = urlsplit(url)
    if parts.scheme == "unix":
        if parts.fragment not in ("", "/"):
            return [url]
        at_usual = urlunsplit(parts._replace(fragment=usual_path))
        return [at_usual, url]
    if parts.path not in ("", "/"):
        return [url]
    at_usual = urlunsplit(parts._replace(path=usual_path))
    return [at_usual, url] if usual_first else [url, at_usual]


async def reach_by_url(
    context: SessionContext,
    usual_path: str,
    usual_first: bool,
    reach: Callable[[SessionContext, HttpPool], Awaitable[Reached]],
) -> Reached:
    """Reach an upstream by the first of its URLs that works. Raises ``CallError`` with the reason if none does."""
    connection = context.spec.connection
    assert isinstance(connection, HttpConnection)
    failure: CallError | None = None
    for url in urls_to_try(connection.url, usual_path, usual_first):
        pool = http_pool(context, url)
        try:
            return await reach(context, pool)
        except asyncio.CancelledError:
            pool.close()
            raise
        except CallError as error:
            pool.close()
            failure = failure or error
            if error.data.get("certain"):
                break  # nothing listens at this address, so other paths will fail as well
    assert failure is not None
    raise failure
