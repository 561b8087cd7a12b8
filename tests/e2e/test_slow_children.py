"""stdio servers that are slow to start, or silent on what they do not know: their era is found all the same, and each
is started once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.clients import RawClient
from tests.fleet import Fleet, script_connection

ROOT = Path(__file__).resolve().parent.parent.parent
BEGINS = """
import json, os, sys, time
with open({log!r}, 'a') as log: print(os.getpid(), file=log)
time.sleep({sleep_s})
"""
SDK = """
import runpy
sys.argv = ['sdk', 'stdio', 'child']
runpy.run_module('tests.servers.sdk', run_name='__main__')
"""
HANDSHAKE = """
for line in sys.stdin:
    m = json.loads(line)
    if 'id' not in m: continue
    me = {{'name': 'g', 'version': '1'}}
    r = {{'initialize': {{'protocolVersion': '2025-03-26', 'capabilities': {{'tools': {{}}}}, 'serverInfo': me}},
         'tools/list': {{'tools': [{{'name': 'echo', 'inputSchema': {{'type': 'object'}}}}]}}, 'ping': {{}},
         'tools/call': {{'content': [{{'type': 'text', 'text': 'x'}}]}}}}.get(m['method'])
    out = {{'jsonrpc': '2.0', 'id': m['id']}}
    out.update({{'result': r}} if r is not None else {{'error': {{'code': -32601, 'message': 'no'}}}})
    if r is not None or {complains}: print(json.dumps(out), flush=True)
"""


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with Fleet(redis_url, probe_timeout_s=0.3, start_timeout_s=15.0) as fleet:
        yield fleet


@pytest.mark.parametrize(
    ("code", "sleep_s", "eras"),
    [
        pytest.param(SDK, 1.0, ("modern",), id="slow, of both eras"),
        pytest.param(HANDSHAKE.format(complains=True), 1.0, ("legacy",), id="slow, of the handshake era"),
        pytest.param(HANDSHAKE.format(complains=False), 1.0, ("legacy",), id="slow, and silent on discover"),
        pytest.param(HANDSHAKE.format(complains=False), 0.0, ("legacy",), id="silent on discover"),
    ],
)
async def test_its_era_is_found_and_it_is_started_once(
    fleet: Fleet, tmp_path: Path, code: str, sleep_s: float, eras: tuple[str, ...]
) -> None:
    log = tmp_path / "starts"
    connection = script_connection(BEGINS.format(log=str(log), sleep_s=sleep_s) + code)
    try:
        await fleet.register("child", {**connection, "cwd": str(ROOT)})
        record = await fleet.record("child")
        assert record is not None and record.eras == eras
        async with RawClient(fleet.urls[0]) as client:
            assert (await client.call("echo", {"text": "x"})).content == "x"
        assert len(log.read_text().splitlines()) == 1
    finally:
        await fleet.store.unregister("child")
