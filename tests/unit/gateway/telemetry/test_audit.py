"""``gateway.telemetry.audit``: events as lines, whatever is in them."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from gateway.telemetry.audit import AuditLog, verify
from gateway.telemetry.observer import ObservedCall
from shared.access.rules import AuditDocument
from shared.errors import RegistryUnavailable
from shared.registry.audit import AuditStore
from shared.tracing.spans import request


class Store:
    """The stream in Redis."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.down = False

    async def append(self, lines: list[bytes]) -> None:
        if self.down:
            raise RegistryUnavailable("down")
        self.lines += lines


class Exporter:
    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.lost = 0

    def add(self, span: bytes) -> None:
        self.records.append(span)

    async def close(self, within_s: float) -> None:
        pass


class Call(ObservedCall, kw_only=True):
    params: bytes = b""
    session: Any = None


class Bench:
    def __init__(self, exporter: Any = None, **wanted: Any) -> None:
        self.store: Any = Store()
        self.log = AuditLog(AuditDocument(**wanted), cast(AuditStore, self.store), "f", exporter=exporter)

    async def lines(self) -> list[dict[str, Any]]:
        await self.log.flush()
        return [json.loads(line) for line in self.store.lines]


async def argued(how: str, params: bytes) -> dict[str, Any]:
    bench = Bench(arguments=how)
    bench.log.finished(Call(method="tools/call", name="t", params=params), "answered", 0.1)
    return (await bench.lines())[0]


async def test_halves_of_characters_do_not_end_the_log() -> None:
    bench = Bench(chain=True)
    bench.log.note("denied", principal="proxy:\udcff", name="a\ud800b", outcome="tool_unknown")
    bench.log.note("denied", name="after")
    lines = await bench.lines()
    assert [one["name"] for one in lines] == ["a\ufffdb", "after"]
    assert verify(bench.store.lines) == (2, [])


@pytest.mark.parametrize("how", ["full", "redacted"])
async def test_arguments_that_two_parsers_read_differently_are_shown_whole(how: str) -> None:
    line = await argued(how, b'{"arguments":{"path":"/secret","a":{"b":1,"b":2},"path":"/public"}}')
    assert line["arguments"] == {"path": ["/secret", "/public"], "a": {"b": [1, 2]}} and line["repeated"] is True
    line = await argued(how, b'{"arguments":{"n":123456789012345678901234567890}}')
    assert line["arguments"] == {"n": 123456789012345678901234567890} and "repeated" not in line


@pytest.mark.parametrize(
    ("arguments", "noted"),
    [
        (b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}", "params"),
        (b'{"a":' + b"[" * 300 + b"]" * 300 + b"}", "params"),
        (b'{"a":"\\ud800"}', "params"),
        (b'{"a":"' + b"x" * 70_000 + b'"}', "arguments"),
    ],
)
async def test_no_arguments_can_hide_themselves(arguments: bytes, noted: str) -> None:
    line = await argued("full", b'{"arguments":' + arguments + b"}")
    assert line[noted]["bytes"] >= len(arguments) and len(line[noted]["sha256"]) == 64


async def test_a_call_says_how_much_went_each_way() -> None:
    bench = Bench()
    bench.log.finished(Call(name="t", params=b"x" * 10, result_bytes=20), "answered", 0.1)
    bench.log.finished(Call(name="t", params=b"x" * 10), "timeout", 0.1)
    first, second = await bench.lines()
    assert (first["requestBytes"], first["resultBytes"], second["requestBytes"]) == (10, 20, 10)
    assert "resultBytes" not in second


async def test_events_are_exported_once_also_while_redis_is_away() -> None:
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

    exporter = Exporter()
    bench = Bench(exporter, otlp=True)
    trace = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"
    bench.log.finished(Call(name="t", group="g", principal="key:ci", trace=trace), "answered", 0.1)
    bench.store.down = True
    bench.log.note("denied", principal="key:ci", name="hidden", outcome="tool_unknown")
    await bench.lines()
    assert bench.log.missing_in_redis == 2 and not bench.log.failing
    message = ExportLogsServiceRequest.FromString(request({"service.name": "me"}, "s", "1", exporter.records))
    (resource,) = message.resource_logs
    first, second = resource.scope_logs[0].log_records
    facts = {one.key: one.value.string_value for one in first.attributes}
    assert facts == {
        "gateway.principal": "key:ci",
        "gateway.group": "g",
        "gateway.outcome": "answered",
        "event.name": "gateway.audit.call",
    }
    assert (first.trace_id.hex(), first.span_id.hex()) == (trace[3:35], trace[36:52])
    assert (first.severity_number, second.severity_number) == (9, 13) and not second.trace_id
    assert json.loads(first.body.string_value)["name"] == "t" and first.time_unix_nano > 1e18
