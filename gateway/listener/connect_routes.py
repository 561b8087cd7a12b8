"""The routes under ``/connect``: by them a caller's browser connects to an upstream, and programs get a link.

A link has a ticket that says for whom it is. A request with credentials of its own needs none, and one that has both
must mean the same principal. Answers to programs are JSON, those to browsers pages.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import msgspec
from aiohttp import web

from gateway.access.policy import may_concern
from gateway.access.principal import Principal
from gateway.admission.dns_rebinding import RebindingGuard
from gateway.admission.http_requests import principal_of, read_head
from gateway.admission.peers import Peers
from gateway.admission.principals import Principals
from gateway.admission.routing_headers import by_name
from gateway.connect import pages
from gateway.connect.clients import CALLBACK_PATH, DOCUMENT_PATH, document
from gateway.connect.dance import ConnectError, Dance, unknown
from gateway.http.bodies import peer_of
from shared.access.rules import AccessRules
from shared.connections import without_places
from shared.errors import CallError, RegistryUnavailable
from shared.oauth.consent import connect_url
from shared.oauth.http import OAuthError

_log = logging.getLogger(__name__)
_COOKIE = "gateway-connect"
_COOKIE_S = 900
_MAX_FORM = 16 * 1024


def add_connect_routes(
    app: web.Application,
    dance: Dance,
    principals: Principals,
    guard: RebindingGuard,
    peers: Peers,
    name: str,
    rules_of: Callable[[], AccessRules] = AccessRules,
) -> None:
    """Add the routes to an application. ``name`` is the gateway's, as people see it; ``rules_of`` returns the rules of
    access of now."""
    routes = _Routes(dance, principals, guard, peers, name, rules_of)
    app.router.add_get(DOCUMENT_PATH, routes.guarded(routes.document))
    app.router.add_get(CALLBACK_PATH, routes.guarded(routes.callback))
    app.router.add_get("/connect/{upstream}", routes.guarded(routes.get), allow_head=False)
    app.router.add_post("/connect/{upstream}", routes.guarded(routes.post))
    app.router.add_delete("/connect/{upstream}", routes.guarded(routes.delete))


class _Routes:
    def __init__(
        self,
        dance: Dance,
        principals: Principals,
        guard: RebindingGuard,
        peers: Peers,
        name: str,
        rules_of: Callable[[], AccessRules],
    ) -> None:
        self._rules_of = rules_of
        self._dance = dance
        self._principals = principals
        self._guard = guard
        self._peers = peers
        self._name = name

    def guarded(
        self, handler: Callable[[web.Request], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Return a handler that checks ``Host``, and answers errors. Other sites may send a browser here to read a
        page: what its button begins must come from that page, and what a program begins has a ``Content-Type`` that no
        form has."""

        async def handle(request: web.Request) -> web.Response:
            try:
                refused = self._guard.refusal(request.headers.get("Host"), None)
                if refused is not None:
                    raise ConnectError(403, refused)
                return await handler(request)
            except ConnectError as error:
                return self._failed(request, error.status, str(error))
            except OAuthError as error:
                _log.warning("connect %s: %s", request.match_info.get("upstream", ""), error)
                return self._failed(request, 502, f"The server could not be asked: {self._reason(error)}")
            except RegistryUnavailable:
                return self._failed(request, 503, "The gateway cannot keep anything now. Try again.")
            except CallError as error:
                response = self._failed(request, error.wire.http, error.message)
                challenge = getattr(error, "challenge", "")
                if challenge:
                    response.headers["WWW-Authenticate"] = challenge
                return response

        return handle

    def _reason(self, error: OAuthError) -> str:
        """Return why a server could not be asked, as callers may know it. Where they have credentials they are not who
        runs the gateway, and addresses inside of a network are nothing for them."""
        return without_places(str(error)) if self._rules_of().authentication else str(error)

    def _failed(self, request: web.Request, status: int, text: str) -> web.Response:
        if _is_program(request):
            return _json({"error": text}, status)
        return _page(pages.page("Not connected", text), status)

    def _base(self, request: web.Request) -> str:
        return self._guard.base(request.headers.get("Host", ""))

    async def _principal(self, request: web.Request) -> Principal:
        """Return who is behind a request. Raises ``CallError``."""
        peer, without = peer_of(request.transport), ("origin", "sec-fetch-site")
        head = read_head(request, self._guard, self._peers, peer, path="/mcp", without=without)
        return await principal_of(head, self._principals)

    async def _caller(self, request: web.Request, upstream: str) -> Principal:
        """Return who is behind a request. Raises ``ConnectError`` for an upstream of which nothing is shown to them,
        as for one that is not there, and ``CallError``."""
        principal = await self._principal(request)
        if not may_concern(self._rules_of(), principal.policy_class, self._dance.group(upstream)):
            raise unknown()
        return principal

    def _named(self, request: web.Request) -> bool:
        """Whether a request says itself who is behind it."""
        if "Authorization" in request.headers:
            return True
        named = by_name(request.headers.items())
        return self._peers.name(named, request.remote, request.transport)

    # ---- handlers

    async def document(self, request: web.Request) -> web.Response:
        """Answer what the gateway says about itself as a client (client id metadata document)."""
        base = self._base(request)
        said = {"client_id": base + DOCUMENT_PATH, "client_uri": base, **document(base, self._name)}
        return web.json_response(said, headers={"Cache-Control": "max-age=300"})

    async def get(self, request: web.Request) -> web.Response:
        """Show the page that a link leads to, or tell a program whether its principal has connected."""
        upstream = request.match_info["upstream"]
        if _is_program(request):
            principal = await self._caller(request, upstream)
            return _json({"connected": await self._dance.connected(upstream, principal.id)})
        text = request.query.get("ticket", "")
        if not text:
            text = self._dance.ticket(upstream, (await self._caller(request, upstream)).id)
        ticket = self._dance.read_ticket(upstream, text)
        await self._check_same(request, ticket.principal)
        return _page(pages.ask(self._name, upstream, self._dance.shown(upstream), ticket.principal, text))

    async def _check_same(self, request: web.Request, principal: str) -> None:
        if self._named(request) and (await self._principal(request)).id != principal:
            raise ConnectError(403, "This link was made for somebody else.")

    async def post(self, request: web.Request) -> web.Response:
        """Send a browser to the authorization server, or give a program a link."""
        upstream = request.match_info["upstream"]
        if request.content_type == "application/json":
            principal = await self._caller(request, upstream)
            link = connect_url(self._base(request), upstream, self._dance.ticket(upstream, principal.id))
            return _json({"url": link})
        if (
            request.content_length is None or request.content_length > _MAX_FORM
        ):  # before it is read: anybody may send it
            raise ConnectError(413, "The form is too large, or does not say how large it is.")
        base = self._base(request)
        _check_own_page(request, base)
        ticket = self._dance.read_ticket(upstream, str((await request.post()).get("ticket", "")))
        await self._check_same(request, ticket.principal)
        began = await self._dance.begin(ticket, base)
        response = web.Response(status=303, headers={**pages.HEADERS, "Location": began.url})
        response.set_cookie(
            _COOKIE,
            began.browser,
            max_age=_COOKIE_S,
            httponly=True,
            samesite="Lax",
            secure=base.startswith("https:"),
        )
        return response

    async def callback(self, request: web.Request) -> web.Response:
        """Take the answer of the authorization server."""
        upstream = await self._dance.finish(dict(request.query), request.cookies.get(_COOKIE, ""))
        response = _page(pages.page(f"Connected to {upstream}", "You can close this page and go on."))
        response.del_cookie(_COOKIE)
        return response

    async def delete(self, request: web.Request) -> web.Response:
        """Forget what the principal of a program was given."""
        if not _is_program(request):
            raise ConnectError(415, "Send Content-Type: application/json.")
        upstream = request.match_info["upstream"]
        await self._dance.disconnect(upstream, (await self._caller(request, upstream)).id)
        return _json({"connected": False})


def _check_own_page(request: web.Request, base: str) -> None:
    """Raise ``ConnectError`` for a form of another site. Whoever has a link could otherwise send it in the browser of
    somebody else, who would connect an account of theirs without having seen for whom.

    Browsers say where a form is from in one header or the other (W3C Fetch Metadata; Fetch standard, "Origin header").
    """
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    own = {f"//{request.headers.get('Host', '').lower()}", f"//{urlsplit(base).netloc.lower()}"}
    named = origin.lower().partition(":")[2] if origin is not None else ""
    if site not in ("same-origin", "none") if site is not None else (origin is not None and named not in own):
        raise ConnectError(403, "Another site sent this form. Open the link, and continue from there.")


def _is_program(request: web.Request) -> bool:
    wants = request.headers.get("Accept", "")
    return request.content_type == "application/json" or wants.startswith("application/json")


def _json(body: dict[str, Any], status: int = 200) -> web.Response:
    headers = {"Cache-Control": "no-store"}
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json", headers=headers)


def _page(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", headers=pages.HEADERS)
