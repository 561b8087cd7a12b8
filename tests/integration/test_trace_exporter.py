"""The exporter beside collectors that answer, refuse, hang and are not there: bounded, and one line in the log."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web
from msgspec import structs

from shared.errors import ConfigError
from shared.tracing import exporter as module
from shared.tracing import spans
from shared.tracing.configuration import TraceConfiguration
from shared.tracing.exporter import Exporter
from tests.collector import Collector
from tests.fleet import eventually
from tests.machine import scaled

SPAN = spans.span(b"t" * 16, b"s" * 8, b"", spans.fixed("x", spans.INTERNAL, {}), 1, 2)
QUICK = TraceConfiguration(queue=20, batch=5, delay_s=0.05, timeout_s=0.5)


def exporter(collector: Collector, **changed: Any) -> Exporter:
    """One that sends to the collector."""
    given = structs.replace(QUICK, endpoint=f"{collector.url}/v1/traces", **changed)
    return Exporter(given, {"service.name": "me"})


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the exporter logged."""
    return [one.getMessage() for one in caplog.records if one.name == module.__name__]


async def test_spans_come_in_batches_and_late_ones_after_the_delay(caplog: pytest.LogCaptureFixture) -> None:
    async with Collector() as collector:
        sends = exporter(collector, delay_s=600.0)
        sends.start()
        for _ in range(11):
            sends.add(SPAN)
        await eventually(lambda: len(collector.spans) == 10, 10.0, "two whole batches, at once")
        assert len(collector.requests) == 2 and sends.waiting == 1
        await sends.close(5.0)
        assert (len(collector.spans), sends.exported, sends.lost) == (11, 11, 0)

        sends = exporter(collector)
        sends.start()
        sends.add(SPAN)
        await eventually(lambda: len(collector.spans) == 12, 10.0, "one that is alone")
        await sends.close(5.0)
    assert lines(caplog) == []


@pytest.mark.parametrize("status", [429, 503])
async def test_a_collector_that_has_no_room_gets_everything_later(
    status: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FIRST_WAIT_S", 0.05)
    monkeypatch.setattr(module, "_LONGEST_WAIT_S", 0.1)
    async with Collector() as collector:
        collector.status = status
        sends = exporter(collector)
        sends.start()
        for _ in range(30):
            sends.add(SPAN)
        assert (sends.waiting, sends.lost) == (20, 10), "no more wait than may"
        await eventually(lambda: len(collector.requests) > 3, 10.0, "it tries again")
        assert len(lines(caplog)) == 1 and f"HTTP {status}" in lines(caplog)[0]
        collector.status = 200
        await eventually(lambda: len(collector.spans) == 20, 10.0, "all that waited")
        assert lines(caplog)[1:] == ["traces are exported again; 0 spans were lost"]
        await sends.close(5.0)


async def test_a_collector_that_refuses_gets_no_batch_twice(caplog: pytest.LogCaptureFixture) -> None:
    async with Collector() as collector:
        collector.status = 400
        sends = exporter(collector)
        sends.start()
        for _ in range(10):
            sends.add(SPAN)
        await eventually(lambda: sends.lost == 10, 10.0, "both batches are lost")
        assert len(collector.requests) == 2 and len(lines(caplog)) == 1
        await sends.close(5.0)


async def test_a_collector_that_hangs_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    hold = asyncio.Event()

    async def hang(request: web.BaseRequest) -> web.StreamResponse:
        await hold.wait()
        return web.Response()

    runner = web.ServerRunner(web.Server(hang), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/traces"
    sends = Exporter(structs.replace(QUICK, endpoint=endpoint, timeout_s=60.0), {})
    sends.start()
    sends.add(SPAN)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await sends.close(0.3)
    assert loop.time() - began < scaled(5.0) and sends.lost == 1
    assert lines(caplog) == ["1 spans could not be exported before the end"]
    hold.set()
    await runner.cleanup()


async def test_adding_never_waits_and_holds_no_more_than_may_wait() -> None:
    sends = Exporter(structs.replace(QUICK, endpoint="http://127.0.0.1:9/v1/traces"), {})
    for _ in range(100_000):
        sends.add(SPAN)
    assert (sends.waiting, sends.lost) == (20, 99_980)
    await sends.close(1.0)


def test_certificates_that_cannot_be_read_are_an_error_at_the_start() -> None:
    given = structs.replace(QUICK, endpoint="https://collector/v1/traces", certificate="/nowhere.pem")
    with pytest.raises(ConfigError, match="certificate"):
        Exporter(given, {})
