"""A collector of traces and logs: OTLP over HTTP, read by OpenTelemetry's own messages."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2

KINDS = {1: "internal", 2: "server", 3: "client"}


def _value(value: Any) -> Any:
    which = value.WhichOneof("value")
    return getattr(value, which) if which else None


def _facts(attributes: Any) -> dict[str, Any]:
    found = {one.key: _value(one.value) for one in attributes}
    assert len(found) == len(attributes), "an attribute is there twice"
    return found


class Span:
    """One span, with the attributes of its process."""

    def __init__(self, span: trace_pb2.Span, resource: dict[str, Any]) -> None:
        self.trace, self.id, self.parent = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
        self.name, self.kind, self.state = span.name, KINDS[span.kind], span.trace_state
        self.began, self.ended = span.start_time_unix_nano / 1e9, span.end_time_unix_nano / 1e9
        self.facts = _facts(span.attributes)
        self.events = [(one.name, _facts(one.attributes)) for one in span.events]
        self.links = [(one.trace_id.hex(), one.span_id.hex()) for one in span.links]
        self.failed = span.status.code == trace_pb2.Status.STATUS_CODE_ERROR
        self.resource = resource
        assert len(self.trace) == 32 and len(self.id) == 16 and self.began <= self.ended

    def __repr__(self) -> str:
        return f"{self.kind} {self.name!r} {self.facts}"


class Collector:
    """See the module. ``status`` is what it answers; ``spans`` are those that came with 200, ``logs`` the attributes
    of log records and the JSON in them."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.logs: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.requests: list[dict[str, str]] = []
        self.status = 200
        self.port = 0
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Collector:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/traces", self._take)
        app.router.add_post("/v1/logs", self._take_logs)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def url(self) -> str:
        """For ``OTEL_EXPORTER_OTLP_ENDPOINT``."""
        return f"http://127.0.0.1:{self.port}"

    async def _take_logs(self, request: web.Request) -> web.Response:
        message = ExportLogsServiceRequest.FromString(await request.read())
        for of_process in message.resource_logs:
            assert _facts(of_process.resource.attributes)["gateway.process"] == "frontend"
            for scope in of_process.scope_logs:
                self.logs += [(_facts(one.attributes), json.loads(one.body.string_value)) for one in scope.log_records]
        return web.Response(status=self.status)

    async def _take(self, request: web.Request) -> web.Response:
        self.requests.append(dict(request.headers))
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip" and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        assert request.headers["Content-Type"] == "application/x-protobuf"
        if self.status == 200:
            self.spans += read(body)
        return web.Response(status=self.status, content_type="application/x-protobuf")

    def of_trace(self, trace: str) -> list[Span]:
        """The spans of one trace, in order of their beginning."""
        return sorted((one for one in self.spans if one.trace == trace), key=lambda one: one.began)


def read(body: bytes) -> Iterator[Span]:
    """The spans in a request of OTLP."""
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    for of_process in request.resource_spans:
        resource = _facts(of_process.resource.attributes)
        for scope in of_process.scope_spans:
            assert scope.scope.name == "mcp-one-gateway" and scope.scope.version
            for span in scope.spans:
                yield Span(span, resource)


def tree(spans: list[Span]) -> str:
    """A trace as people read it: each span below its parent, with its process, its length and what became of it."""
    known = {one.id for one in spans}
    lines: list[str] = []

    def show(span: Span, depth: int) -> None:
        facts = span.facts
        shown = [span.resource["gateway.process"], span.kind, f"{(span.ended - span.began) * 1000:.1f} ms"]
        shown += [str(facts[name]) for name in ("gateway.upstream", "gateway.outcome", "error.type") if name in facts]
        lines.append("   " * depth + f"{span.name}  [{', '.join(shown)}]")
        lines.extend("   " * depth + f"   * {name} {facts}" for name, facts in span.events)
        for one in sorted((one for one in spans if one.parent == span.id), key=lambda one: one.began):
            show(one, depth + 1)

    for span in spans:
        if span.parent not in known:
            show(span, 0)
    return "\n".join(lines)
