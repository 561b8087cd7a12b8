"""An HTTP API that speaks no MCP, with the documents in ``tests/servers/openapi``, and a large one made here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aiohttp import web

DOCUMENTS = Path(__file__).parent / "openapi"
KEY = {"X-Api-Key": "k3y"}


def large_document(operations: int = 1000) -> dict[str, Any]:
    """As large APIs look: many operations over schemas that refer to each other in circles."""
    schemas: dict[str, Any] = {
        f"Thing{n}": {
            "type": "object",
            "properties": {f"field{m}": {"$ref": f"#/components/schemas/Thing{(n * 7 + m) % 300}"} for m in range(5)},
        }
        for n in range(300)
    }
    schemas["Deep"] = {"allOf": [{"$ref": "#/components/schemas/Deep"}, {"items": {"type": "array"}}]}
    paths = {
        f"/things/{n}/{{id}}": {
            "patch": {
                "operationId": f"things/change-{n}",
                "description": f"Change a thing of kind {n}. " * 20,
                "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
                "requestBody": {
                    "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/Thing{n % 300}"}}}
                },
                "responses": {"200": {"description": "changed"}},
            }
        }
        for n in range(operations)
    }
    paths["/deep"] = {
        "post": {
            "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Deep"}}}},
            "responses": {},
        }
    }
    return {"openapi": "3.0.0", "info": {"title": "Large"}, "paths": paths, "components": {"schemas": schemas}}


class Api:
    """Runs on a port of its own. ``seen`` has what was asked for; ``down`` makes every answer 500, ``busy`` 503."""

    def __init__(self, name: str = "api") -> None:
        self.name = name
        self.seen: list[dict[str, Any]] = []
        self.down = self.busy = False
        self.document: Any = None
        self.fetched: list[int] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def __aenter__(self) -> Api:
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        if request.path == "/openapi.json":
            same = request.headers.get("If-None-Match") == f'"{hash(str(self.document))}"'
            self.fetched.append(304 if same else 200)
            headers = {"ETag": f'"{hash(str(self.document))}"'}
            if same:
                return web.Response(status=304, headers=headers)
            return web.json_response(self.document, headers=headers)
        if self.down or self.busy:
            return web.Response(status=500 if self.down else 503, headers={"Retry-After": "7"})
        if request.method == "HEAD":
            return web.Response(status=404)
        if request.headers.get("X-Api-Key") != "k3y":
            return web.Response(status=401)
        self.seen.append(
            {"method": request.method, "target": request.raw_path, "headers": request.headers, "body": body}
        )
        return self._answer(request, request.path.removeprefix("/v1"))

    def _answer(self, request: web.BaseRequest, path: str) -> web.Response:
        if path.startswith("/status/"):
            return web.Response(status=int(path[8:]), text="why " * 10_000)
        if request.method == "DELETE":
            return web.Response(status=204)
        if path.endswith("/photo") and request.method == "GET":
            return web.Response(body=b"\x89PNG", content_type="image/png")
        if path == "/pets/lost":
            return web.json_response({"detail": "no such pet"}, status=404)
        text = f'{{"by":"{self.name}","big":12345678901234567890.10,"taskId":1}}'
        return web.Response(text=text, content_type="application/json")
