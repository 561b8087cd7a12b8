"""The static files of the dashboard, read once, with the headers that keep what upstreams say from becoming more than
text. They hold nothing secret: the admin API decides who sees what."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from importlib import resources
from importlib.resources.abc import Traversable

from aiohttp import web

from gateway.admission.dns_rebinding import RebindingGuard

_KINDS = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
}
_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "media-src data:",
        "connect-src 'self'",
        "frame-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
_APP = "app.html"
_APP_POLICY = "; ".join(
    (
        "sandbox allow-scripts",
        "default-src 'none'",
        "script-src 'unsafe-inline' 'unsafe-eval' data: blob:",
        "style-src 'unsafe-inline' data: blob:",
        "img-src data: blob:",
        "media-src data: blob:",
        "font-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'self'",
    )
)
"""The policy of the frame in which the interface of a tool runs (MCP Apps): a program of the upstream, which has no
origin, so no storage and no token, and reaches nothing but the page that it is in, by messages."""
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}


_APP_HEADERS = {**_HEADERS, "Content-Security-Policy": _APP_POLICY, "X-Frame-Options": "SAMEORIGIN"}


class _File:
    """One file, as it is and compressed."""

    def __init__(self, content: bytes, kind: str, headers: Mapping[str, str] = _HEADERS) -> None:
        self.content = content
        self.headers = headers
        self.packed = gzip.compress(content, 9, mtime=0)
        self.kind = kind
        self.tag = f'"{hashlib.sha256(content).hexdigest()[:20]}"'

    def response(self, request: web.Request) -> web.Response:
        headers = {**self.headers, "ETag": self.tag}
        if request.headers.get("If-None-Match") == self.tag:
            return web.Response(status=304, headers=headers)
        body = self.content
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            body = self.packed
            headers["Content-Encoding"] = "gzip"
        return web.Response(body=body, headers=headers, content_type=self.kind, charset="utf-8")


def _files(folder: Traversable, prefix: str = "") -> dict[str, _File]:
    found: dict[str, _File] = {}
    for entry in folder.iterdir():
        if entry.is_dir():
            found.update(_files(entry, f"{prefix}{entry.name}/"))
        elif (kind := _KINDS.get("." + entry.name.rpartition(".")[2])) is not None:
            headers = _APP_HEADERS if prefix + entry.name == _APP else _HEADERS
            found[prefix + entry.name] = _File(entry.read_bytes(), kind, headers)
    return found


def _with_modules(files: dict[str, _File]) -> None:
    """Name all modules in the page, so that a browser asks for them at once and not one import after the other."""
    modules = (name for name in sorted(files) if name.endswith(".js") and not name.startswith("vendor/"))
    links = "\n".join(f'<link rel="modulepreload" href="{name}">' for name in modules)
    page = files["index.html"].content.replace(b"<!-- modules -->", links.encode())
    files["index.html"] = _File(page, _KINDS[".html"])


def add_pages(app: web.Application, guard: RebindingGuard) -> None:
    """Add the dashboard to an application; ``/`` and ``/ui`` lead to it."""
    files = _files(resources.files("gateway.ui") / "static")
    _with_modules(files)

    def check(request: web.Request) -> None:
        host = request.headers.get("Host")
        if not guard.knows_host(host):
            raise web.HTTPForbidden(text=guard.refusal(host, None), headers=_HEADERS)

    async def page(request: web.Request) -> web.Response:
        check(request)
        file = files.get(request.match_info["path"] or "index.html")
        if file is None:
            raise web.HTTPNotFound(text="there is no such page; the dashboard is at /ui/\n", headers=_HEADERS)
        return file.response(request)

    async def lead(request: web.Request) -> web.Response:
        check(request)
        # A relative place, so that it is right behind a proxy that puts a path before ours as well.
        return web.Response(status=302, headers={"Location": "ui/", "Cache-Control": "no-cache"})

    app.router.add_get("/", lead)
    app.router.add_get("/ui", lead)
    app.router.add_get("/ui/{path:.*}", page)
