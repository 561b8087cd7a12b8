"""The routes of the ordinary lane: MCP endpoints of groups and for browsers, HTTP+SSE, the admin API, the
dashboard.

``POST /mcp`` without an ``Origin`` never comes here (``server``).
"""

from __future__ import annotations

import itertools
import re

from aiohttp import web

from gateway.admin.rights import AdminRights
from gateway.admin.routes import add_admin_routes
from gateway.admission.dns_rebinding import RebindingGuard
from gateway.admission.http_requests import read_head
from gateway.admission.peers import Peers
from gateway.admission.request_head import RequestHead
from gateway.front_end.front_end import FrontEnd
from gateway.front_end.protocol import FrontEndProtocol
from gateway.http.bodies import peer_of
from gateway.http.responses import JsonAnswer
from gateway.listener.connect_routes import add_connect_routes
from gateway.listener.metadata import add_metadata_routes
from gateway.protocol import answers
from gateway.routing.endpoints import asking
from gateway.ui.pages import add_pages
from shared.errors import Refused

_SLASHES = re.compile(r"/{2,}")


def head_of(
    request: web.BaseRequest,
    guard: RebindingGuard,
    endpoint: str = "",
    has_body: bool = True,
    peers: Peers | None = None,
) -> RequestHead:
    """Return the head of an aiohttp request as admission needs it; ``endpoint`` is the name in ``/servers/{name}``."""
    refusal = None
    if "discovery" in request.rel_url.query:
        try:
            endpoint = asking(endpoint, request.rel_url.query["discovery"])
        except Refused as error:
            refusal = error.code, error.message
    path = _SLASHES.sub("/", request.rel_url.raw_path).rstrip("/")
    path = path.removesuffix("/messages") + "/sse" if path.endswith("/messages") else path
    head = read_head(request, guard, peers, peer_of(request.transport), endpoint=endpoint, has_body=has_body, path=path)
    head.refusal = head.refusal or refusal
    return head


def routes(front: FrontEnd) -> web.Application:
    """Return the aiohttp application that answers everything but a ``POST /mcp`` without an ``Origin``."""
    app = web.Application(client_max_size=front.settings.calls.max_body_bytes + 1)
    access, admin, name = front.access, front.admin, front.settings.service.name
    guard = access.guard
    _add_endpoints(app, front.protocol, guard, access.peers)
    _add_cors(app, guard, front.settings.access.admin_origins)
    add_metadata_routes(app, lambda: access.rules, guard, access.prefix, name)
    add_pages(app, guard)
    add_connect_routes(app, front.dance, access.principals, guard, access.peers, name, lambda: access.rules)
    rights = AdminRights(front.settings, access.rules, access.principals, guard, access.peers, lambda: access.rules)
    add_admin_routes(
        app,
        admin.queries,
        admin.commands,
        admin.restarting,
        front.settings,
        front.protocol.reader,
        rights,
        admin.access,
        admin.virtual,
        admin.pins,
    )
    return app


def _add_endpoints(app: web.Application, protocol: FrontEndProtocol, guard: RebindingGuard, peers: Peers) -> None:
    """Add the endpoints of MCP, under all the paths that clients are given."""

    def head(request: web.Request, has_body: bool = True) -> RequestHead:
        return head_of(request, guard, request.match_info.get("name", ""), has_body, peers)

    async def post(request: web.Request) -> web.StreamResponse:
        response = await protocol.posts.post(request, head(request))
        origin = request.headers.get("Origin")
        if origin is not None and isinstance(response, JsonAnswer) and response.status != 403:
            response.add_headers(cors_headers(origin))
        return response

    async def get(request: web.Request) -> web.StreamResponse:
        return await protocol.session_streams.get(request, head(request, has_body=False))

    async def delete(request: web.Request) -> web.StreamResponse:
        return await protocol.session_streams.delete(request, head(request, has_body=False))

    async def sse(request: web.Request) -> web.StreamResponse:
        return await protocol.sse.get(request, head(request, has_body=False))

    async def messages(request: web.Request) -> web.StreamResponse:
        return await protocol.sse.post(request, head(request))

    async def lead(request: web.Request) -> web.StreamResponse:
        text = f"MCP is served at {_SLASHES.sub('/', request.path.rstrip('/') + '/mcp')}: add /mcp to the URL"
        return answers.failure(Refused("invalid_request", text), b"null").to_response()

    async def options(request: web.Request) -> web.StreamResponse:
        return refusal(request, guard) or web.Response(status=204)

    def add_endpoint(prefix: str, end: str) -> None:
        app.router.add_post(f"{prefix}mcp{end}", post)
        app.router.add_get(f"{prefix}mcp{end}", get, allow_head=False)
        app.router.add_delete(f"{prefix}mcp{end}", delete)
        app.router.add_get(f"{prefix}sse{end}", sse, allow_head=False)
        app.router.add_post(f"{prefix}messages{end}", messages)

    for prefix, end in itertools.product(("/", "/servers/{name}/"), ("", "/")):  # people write a slash at the end, too
        add_endpoint(prefix, end)
        for path in ("mcp", "sse", "messages"):
            app.router.add_route("OPTIONS", prefix + path + end, options)
    for prefix in ("/{_:/*}", "/{_:/*}servers/{name}/{_1:/*}"):  # a base with a slash and a path with one were joined
        add_endpoint(prefix, "{_2:/*}")
    for path in ("/", "/servers/{name}", "/servers/{name}/"):
        app.router.add_post(path, lead)


def _add_cors(app: web.Application, guard: RebindingGuard, admin_origins: tuple[str, ...]) -> None:
    """Add CORS headers to the answers for web pages of origins that are accepted."""

    async def add_cors(request: web.Request, response: web.StreamResponse) -> None:
        origin = request.headers.get("Origin")
        if request.path.startswith(("/admin/", "/metrics")):
            if origin is not None and origin.lower() in {one.lower().rstrip("/") for one in admin_origins}:
                response.headers.update(cors_headers(origin))
        elif origin is not None and guard.refusal(request.headers.get("Host"), origin) is None:
            response.headers.update(cors_headers(origin))

    app.on_response_prepare.append(add_cors)


def refusal(request: web.BaseRequest, guard: RebindingGuard) -> web.StreamResponse | None:
    """Return a 403 if Host or Origin are not accepted, else ``None``."""
    headers = request.headers
    text = guard.refusal(headers.get("Host"), headers.get("Origin"), headers.get("Sec-Fetch-Site"))
    return answers.failure(Refused("forbidden", text), b"null").to_response() if text is not None else None


def cors_headers(origin: str) -> dict[str, str]:
    """Return the CORS headers for an origin that was accepted."""
    return {
        "Access-Control-Allow-Origin": origin,
        "Access-Control-Allow-Methods": "GET, POST, DELETE, OPTIONS",
        "Access-Control-Allow-Headers": "*, Authorization",
        "Access-Control-Expose-Headers": "Mcp-Session-Id, WWW-Authenticate, Retry-After",
        "Vary": "Origin",
    }
