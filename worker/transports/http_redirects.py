"""Where a redirect leads a request. Pure.

A request with a body follows only 307 and 308, which keep its method (RFC 9110 section 15.4), and none goes to another
origin: it carries the headers of the entry. Counterpart: ``worker.transports.http_client``, which sends it again.
"""

from __future__ import annotations

from typing import NamedTuple

from worker.transports.http_endpoint import HttpEndpoint

_MAX_REDIRECTS = 3


class Redirected(NamedTuple):
    """The request as it is to be sent again, and the endpoint, which is another one if the upstream has moved there for
    good."""

    request: bytes | tuple[bytes, ...]
    endpoint: HttpEndpoint


def redirected(
    endpoint: HttpEndpoint, request: bytes | tuple[bytes, ...], status: int, location: bytes, hops: int
) -> Redirected:
    """Return what a redirect makes of a request, the ``hops``-th of it. Raises ``ValueError`` with words for the
    user."""
    start, *rest = request if isinstance(request, tuple) else (request,)
    line, _, fields = start.partition(b"\r\n")
    method, target, version = line.split(b" ")
    where = endpoint.shown
    try:
        new = endpoint.resolve(location.decode("utf-8", "replace"), target.decode().removeprefix(endpoint.absolute))
    except ValueError as error:
        raise ValueError(
            f"{where} redirects (HTTP {status}) to {error}; register the final URL if you trust it"
        ) from error
    if method != b"GET" and status not in (307, 308):
        raise ValueError(
            f"{where} redirects a {method.decode()} to {new.partition('?')[0]} by HTTP {status}, which would make it a "
            "GET; register that URL"
        )
    if hops > _MAX_REDIRECTS:
        raise ValueError(f"{where} redirects more than {_MAX_REDIRECTS} times")
    moved = status == 308 or new.rstrip("/") == endpoint.target.rstrip("/")
    if moved and target == endpoint.request_target(endpoint.target):
        endpoint = endpoint.at(new)
    start = b"%b %b %b\r\n%b" % (method, endpoint.request_target(new), version, fields)
    return Redirected((start, *rest) if rest else start, endpoint)
