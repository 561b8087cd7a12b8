"""The metadata of the protected resources that the endpoints are (RFC 9728), where authentication is on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from gateway.access.dpop import ALGORITHMS
from gateway.admission.challenges import WELL_KNOWN
from gateway.admission.dns_rebinding import RebindingGuard
from gateway.admission.prefix import HEADER, TrustedPrefix
from shared.access.methods import ClientCertificateMethod, IntrospectionMethod, JwtMethod, TrustedProxyMethod
from shared.access.rules import AccessRules


def add_metadata_routes(
    app: web.Application, rules_of: Callable[[], AccessRules], guard: RebindingGuard, prefix: TrustedPrefix, name: str
) -> None:
    """Add the metadata documents to an application. They are there if there are authorization servers to name.

    Where a proxy puts a path before the gateway's own, clients repeat that path behind the well-known one. Proxies
    pass it as it is, or take it away.
    """
    if not rules_of().authentication:
        return

    async def metadata(request: web.Request) -> web.Response:
        foreign = guard.refusal(request.headers.get("Host"), None)
        if foreign is not None:  # the document names the host, and may be cached
            raise web.HTTPForbidden(text=foreign)
        rules = rules_of()
        named = [one.issuer for one in rules.authentication if isinstance(one, JwtMethod | IntrospectionMethod)]
        issuers = [issuer for issuer in dict.fromkeys(named) if issuer]
        if not issuers:
            raise web.HTTPNotFound
        before = request.match_info["before"]
        if before and not prefix.fits(before, request.remote):
            raise web.HTTPNotFound
        path = request.rel_url.raw_path.removeprefix(WELL_KNOWN).removeprefix(before).rstrip("/")
        seen = before or prefix.forwarded(request.headers.getall(HEADER, ()), request.remote)
        document: dict[str, Any] = {
            "resource": guard.base(request.headers.get("Host", ""), seen) + path,
            "authorization_servers": issuers,
            "scopes_supported": sorted(rules.basic_scopes),
            "bearer_methods_supported": ["header"],
            "dpop_signing_alg_values_supported": list(ALGORITHMS),
            "resource_name": name,
        }
        proxy = rules.method(TrustedProxyMethod)
        if rules.method(ClientCertificateMethod) or (proxy is not None and proxy.certificate_header):
            document["tls_client_certificate_bound_access_tokens"] = True  # RFC 8705 section 3: they are checked
        if not rules.basic_scopes:
            del document["scopes_supported"]
        return web.Response(
            body=msgspec.json.encode(document),
            content_type="application/json",
            headers={"Cache-Control": "max-age=60", "Vary": HEADER},
        )

    for path in ("/servers/{name}/mcp", "/servers/{name}/sse", "/mcp", "/sse", ""):  # the longest first
        app.router.add_get(WELL_KNOWN + "{before:(?:/[^/{}]+)*}" + path, metadata)
