"""``gateway.telemetry.access_log`` and its twin in the worker: a line for each call, before another observer."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest
from msgspec import Raw

from gateway.telemetry import access_log
from gateway.telemetry.counters import Counters
from gateway.telemetry.observer import ANSWERED, ObservedCall
from shared.logs import AT_ONCE, Lines, configure
from shared.mcp.jsonrpc import Meta
from tests.unit.gateway.fakes import Heard
from worker.calls import access_log as of_worker
from worker.calls.observer import Counters as WorkerCounters
from worker.calls.observer import ObservedUpstream

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(autouse=True)
def unchanged() -> Iterator[None]:
    """Logging is as it was, for the tests that follow."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])


def _call(**more: Any) -> ObservedCall:
    return ObservedCall(method="tools/call", name="t" * 300, group="g", upstream="u", era=1, attempts=1, **more)


async def test_a_call_has_a_line_and_goes_on_to_the_other_observer(capsys: pytest.CaptureFixture[str]) -> None:
    configure("frontend", "error", "json")
    lines, counters = Lines("gateway.access", *access_log.NAMES), Counters()
    log, call = access_log.AccessLog(lines, counters), _call()
    log.begun(call)
    log.attempted(call, "u", "w")
    log.finished(call, ANSWERED, 0.0123)
    assert counters.calls == 1
    lines.flush()
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert re.fullmatch(r"00-[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-00", call.trace), "what travels is a traceparent"
    assert (line["request"], line["ms"], line["name"], line["outcome"]) == (call.trace[3:35], 12.3, "t" * 200, ANSWERED)
    assert abs(time.time() - time.mktime(time.strptime(line["time"][:19], "%Y-%m-%dT%H:%M:%S")) + time.timezone) < 60


async def test_the_id_is_that_which_the_client_sent_or_an_observer_gave() -> None:
    heard = Heard()
    log = access_log.AccessLog(Lines("gateway.access", *access_log.NAMES), heard)
    sent = _call(meta=Meta(trace_parent=Raw(f'"00-{TRACE}-b7ad6b7169203331-01"'.encode())))
    log.begun(sent)
    assert sent.trace[3:35] == TRACE and heard.notes, "observers that want to hear of beginnings do"
    wrong = _call(meta=Meta(trace_parent=Raw(b'"no trace"')))
    log.begun(wrong)
    assert len(wrong.trace) == 55
    given = _call(trace=f"00-{TRACE}-b7ad6b7169203331-00")
    log.begun(given)
    assert given.trace[3:35] == TRACE


async def test_a_worker_has_lines_of_calls_of_front_ends_and_they_are_written_together(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure("worker", "error", "console")
    lines, counters = Lines("worker.access", *of_worker.NAMES), WorkerCounters()
    log = of_worker.AccessLog(lines, counters, lambda: 10.0)
    upstream = cast(ObservedUpstream, type("Upstream", (), {"id": "u", "group": "g"}))
    for started_at in (0.0, *[9.5] * (AT_ONCE - 1)):
        call = _call(trace=f"00-{TRACE}-b7ad6b7169203331-00")
        call.started_at = started_at
        log.finished(call, ANSWERED, upstream)
    assert capsys.readouterr().err == "", "they wait for each other"
    log.finished(call, ANSWERED, upstream)
    written = capsys.readouterr().err.splitlines()
    assert len(written) == AT_ONCE and counters.calls == AT_ONCE + 1, "the worker's own request has none"
    assert f"request={TRACE} ms=500.0 method=tools/call" in written[0]
