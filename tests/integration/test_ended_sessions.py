"""What ends with a client's session leaves nothing in a worker: not a single object, also where the garbage collector
never runs.

A worker's collector looks at old objects rarely (``shared.memory``), and sessions are old when they end. What refers to
itself in a circle would stay for hours.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop

from shared.errors import CallError
from shared.mcp.versions import LATEST_LEGACY, Era
from shared.models import make_spec
from shared.settings import build
from tests.chaos.ground import Server
from tests.fleet import ROOT, eventually
from tests.unit.worker.worker_harness import NoLeader, NoWayToClients
from worker.calls.client_facts import ClientFacts
from worker.calls.own_call import OwnCall
from worker.ownership.upstream import Upstream
from worker.transports.transport import UpstreamFacts


@pytest.fixture
def uncollected() -> Iterator[None]:
    """No collector runs."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def objects() -> Counter[str]:
    """Return how many objects there are of each type."""
    urllib.parse.clear_cache()  # type: ignore[attr-defined]  # it keeps some URLs
    return Counter(str(type(one)) for one in gc.get_objects())


def make(connection: dict[str, Any], url: str = "") -> Upstream:
    """Return an upstream in which each client has a session of its own."""
    spec = make_spec("up", connection, isolation="client")
    upstream = Upstream(spec, build(), "worker", NoLeader(), NoWayToClients(), lambda line: None)
    upstream.adopt(UpstreamFacts(("legacy",), connection["type"], url, True, LATEST_LEGACY))
    return upstream


async def use(upstream: Upstream, sid: str) -> str:
    """Open a session of a client by calling twice, and end it. Return what the last answer says."""
    client = ClientFacts("somebody", LATEST_LEGACY, b"{}", b'{"name":"c","version":"1"}')
    said = ""
    for _ in range(2):
        call = OwnCall("tools/call", b'{"name":"x_do","arguments":{"id":"%b"}}' % sid.encode(), Era.LEGACY)
        call.session, call.client = sid, client
        upstream.submit(call)
        try:
            said = (await call.future).decode()
        except CallError as error:
            said = error.code
        del call  # the error refers to this frame
    upstream.end_client(sid)
    return said


async def left_by(upstream: Upstream, sessions: int, expected: str) -> dict[str, int]:
    """Return of what nearly as many objects are there after these sessions as there were sessions, each time anew: what
    is imported or made once is there after the first time only."""
    for number in range(3):
        await use(upstream, f"first{number}")
    await eventually(lambda: True)
    found: dict[str, int] = {}
    for again in range(3):
        before = objects()
        for number in range(sessions):
            assert expected in await use(upstream, f"s{again}-{number}")

        def left(before: Counter[str] = before) -> dict[str, int]:
            return {kind: count for kind, count in (objects() - before).items() if count > 0.7 * sessions}

        with contextlib.suppress(AssertionError):
            await eventually(lambda left=left: not left(), 3.0)
        new = left()
        found = {kind: count for kind, count in new.items() if kind in found or not again}
        if not found:
            break
    return found


@pytest.mark.parametrize("transport", ["http", "sse"])
def test_an_ended_session_leaves_no_object(transport: str, tmp_path: Path, uncollected: None) -> None:
    async def run() -> dict[str, int]:
        server = await Server(transport, "x", tmp_path / "ledger").start()
        upstream = make(server.connection, str(server.connection["url"]))
        try:
            return await left_by(upstream, 20, '"s')
        finally:
            await upstream.close()
            await server.stop()

    assert uvloop.run(run()) == {}


def test_an_ended_child_leaves_no_object(tmp_path: Path, uncollected: None) -> None:
    arguments = ["-m", "tests.chaos.upstream", "stdio", str(tmp_path / "ledger"), "x"]

    async def run() -> dict[str, int]:
        upstream = make({"type": "stdio", "command": sys.executable, "args": arguments, "cwd": str(ROOT)})
        try:
            return await left_by(upstream, 10, '"s')
        finally:
            await upstream.close()

    assert uvloop.run(run()) == {}


@pytest.mark.parametrize("transport", ["http", "sse"])
def test_a_session_that_cannot_be_opened_leaves_no_object(transport: str, uncollected: None) -> None:
    async def run() -> dict[str, int]:
        url = "http://127.0.0.1:9/x"
        upstream = make({"type": transport, "url": url}, url)
        try:
            return await left_by(upstream, 20, "upstream_unavailable")
        finally:
            await upstream.close()

    assert uvloop.run(run()) == {}
