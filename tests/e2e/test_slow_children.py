"""stdio servers that are slow to start, or silent on what they do not know, or refuse whatever they are asked: their
era is found all the same, each is started once, and none is left behind."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.clients import MODERN_META, RawClient
from tests.fleet import Fleet, alive, eventually, script_connection

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
REFUSES = """
for line in sys.stdin:
    m = json.loads(line)
    if 'id' not in m: continue
    print(json.dumps({{'jsonrpc': '2.0', 'id': m['id'], 'error': {{'code': -32601, 'message': 'never'}}}}), flush=True)
"""
DEAF = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for line in sys.stdin:
    with open({log!r} + '.asked', 'a') as asked: print(json.loads(line)['method'], file=asked)
time.sleep(60)
"""
# Of both eras at once, which no SDK is; it answers all that came while it started in one write.
OPEN_TO_BOTH = """
asked = []
def answer(m):
    me = {{'name': 'g', 'version': '1'}}
    both = {{'capabilities': {{'tools': {{}}, 'logging': {{}}}}, 'serverInfo': me, 'resultType': 'complete'}}
    r = {{'initialize': {{'protocolVersion': '2025-11-25', **both}},
         'server/discover': {{'supportedVersions': ['2026-07-28'], 'ttlMs': 0, 'cacheScope': 'private', **both}},
         'tools/list': {{'tools': [{{'name': 'echo', 'inputSchema': {{'type': 'object'}}}}], 'resultType': 'complete',
                         'ttlMs': 0, 'cacheScope': 'private'}},
         'tools/call': {{'content': [{{'type': 'text', 'text': json.dumps(asked)}}], 'resultType': 'complete'}}}}
    r = r.get(m['method'])
    out = {{'jsonrpc': '2.0', 'id': m['id']}}
    out.update({{'result': r}} if r is not None else {{'error': {{'code': -32601, 'message': 'no'}}}})
    return json.dumps(out)
waiting, both = [], False
for line in sys.stdin:
    m = json.loads(line)
    asked.append(m['method'])
    if 'id' not in m: continue
    waiting.append(answer(m))
    both = both or len(waiting) == 2
    if both:
        sys.stdout.write(''.join(one + chr(10) for one in waiting)); sys.stdout.flush()
        waiting.clear()
"""


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with Fleet(
        redis_url, probe_timeout_s=0.3, start_timeout_s=15.0, reconnect_min_s=0.1, stop_timeout_s=0.5
    ) as fleet:
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


@pytest.mark.parametrize("era", ["auto", "modern", "legacy"])
async def test_one_that_refuses_everything_is_told_of_and_leaves_no_child(
    fleet: Fleet, tmp_path: Path, era: str
) -> None:
    log = tmp_path / "starts"
    connection = script_connection(BEGINS.format(log=str(log), sleep_s=0.0) + REFUSES.format())
    try:
        await fleet.register("child", connection, connected=False, era=era)
        await eventually(lambda: log.exists() and len(_started(log)) >= 3, 20.0, "it is tried again")
        assert "never" in await fleet.failed("child")
    finally:
        await fleet.store.unregister("child")
    await eventually(lambda: not any(map(alive, _started(log))), 10.0, "no child is left")


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_one_that_is_removed_while_it_starts_leaves_no_child(fleet: Fleet, tmp_path: Path, era: str) -> None:
    log = tmp_path / "starts"
    asked = log.with_suffix(".asked")
    connection = script_connection(BEGINS.format(log=str(log), sleep_s=0.0) + DEAF.format(log=str(log)))
    await fleet.register("child", connection, connected=False, era=era)
    greeted = ["initialize"] if era == "legacy" else ["server/discover", "initialize"]
    await eventually(lambda: asked.exists() and asked.read_text().split() == greeted, 10.0, "it is greeted")
    await fleet.store.unregister("child")
    await eventually(lambda: not any(map(alive, _started(log))), 15.0, "no child is left")


async def test_one_that_answers_both_greetings_at_once_is_spoken_to_in_one_era(fleet: Fleet, tmp_path: Path) -> None:
    code = BEGINS.format(log=str(tmp_path / "starts"), sleep_s=1.0) + OPEN_TO_BOTH.format()
    try:
        await fleet.register("child", script_connection(code))
        record = await fleet.record("child")
        async with RawClient(fleet.urls[0]) as client:
            meta = {**MODERN_META, "io.modelcontextprotocol/logLevel": "debug"}
            asked = json.loads((await client.call("echo", {}, meta=meta)).content)
        assert record is not None and record.eras == ("modern",)
        assert "logging/setLevel" not in asked and asked[:2] == ["server/discover", "initialize"]
    finally:
        await fleet.store.unregister("child")


async def test_a_folder_that_is_not_there_is_named(fleet: Fleet) -> None:
    await fleet.register("nowhere", {**script_connection("pass"), "cwd": "/no/such/folder"}, connected=False)
    try:
        assert "there is no folder '/no/such/folder'" in await fleet.failed("nowhere")
    finally:
        await fleet.store.unregister("nowhere")


async def test_the_status_shows_a_progress_bar_and_output_that_is_no_message_is_a_sign_of_life(
    fleet: Fleet, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    code = f"""
import os, sys, time
shown = 0
while not os.path.exists({str(go)!r}):
    shown += 1
    sys.stderr.write(f'\\rdownloading {{shown}}'); sys.stderr.flush()
    sys.stdout.write(f'{{shown}} of many\\r'); sys.stdout.flush()
    time.sleep(0.05)
print()
"""
    connection = script_connection(code + BEGINS.format(log=str(tmp_path / "starts"), sleep_s=0.0) + HANDSHAKE.format(
        complains=True
    ))  # fmt: skip
    try:
        await fleet.register("bar", connection, connected=False)

        async def says() -> bool:
            record = await fleet.record("bar")
            return record is not None and (record.error or "").startswith("starting: downloading ")

        await eventually(says, 15.0, "its status shows what it does")
        go.touch()
        await fleet.connected("bar")
    finally:
        await fleet.store.unregister("bar")


def _started(log: Path) -> list[int]:
    return [int(pid) for pid in log.read_text().split()]
