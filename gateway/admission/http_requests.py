"""Heads of aiohttp's requests, and who is behind them. The express lane reads heads itself (``listener.heads``)."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web
from msgspec import structs

from gateway.access.principal import Principal
from gateway.admission.dns_rebinding import RebindingGuard
from gateway.admission.peers import Peers
from gateway.admission.principals import Principals
from gateway.admission.request_head import RequestHead
from gateway.admission.routing_headers import by_name


def read_head(
    request: web.BaseRequest,
    guard: RebindingGuard,
    peers: Peers | None,
    peer: str,
    *,
    endpoint: str = "",
    has_body: bool = False,
    path: str = "",
    without: tuple[str, ...] = (),
) -> RequestHead:
    """Return the head of a request, with what its connection says of its sender and with what a proof (RFC 9449) is
    compared.

    ``peer`` is to whom its connection is counted (``gateway.http.bodies.peer_of``). ``endpoint`` and ``path`` are those
    of the MCP endpoint (``RequestHead.read``); headers ``without`` are not read.
    """
    named: Mapping[str, list[str]] = by_name(request.headers.items())
    if without:
        named = {name: values for name, values in named.items() if name not in without}
    prefix = peers.prefix(named, request.remote) if peers is not None else ""
    head = RequestHead.read(named, guard, endpoint, has_body, prefix + path)
    head.peer = peer
    if peers is not None:
        peers.introduce(head, named, request.remote, request.transport)
    if head.proof is not None:
        url = guard.base(request.headers.get("Host", "")) + prefix + request.rel_url.raw_path
        head.proof = structs.replace(head.proof, method=request.method, url=url)
    return head


async def principal_of(head: RequestHead, principals: Principals) -> Principal:
    """Return who is behind a request, whatever has to be awaited for that. Raises ``CallError``."""
    while True:
        found = principals.of(head)
        if isinstance(found, Principal):
            return found
        await principals.resolve(head)
