"""Servers with an ordinary flaw: it costs what is flawed, and neither the upstream nor a neighbour."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from shared.models import ServerStatus
from tests.clients import RawClient
from tests.fleet import Fleet, eventually, script_connection
from tests.machine import scaled

SERVER = """
import json, os, sys, time
with open({log!r}, 'a') as log: print(os.getpid(), file=log)
offered = {{'tools': {{}}, 'prompts': {{}}, 'resources': {{}}}}
info = {{'protocolVersion': '2025-06-18', 'capabilities': offered, 'serverInfo': {{'name': 's', 'version': '1'}}}}
good = {{'name': 'good', 'inputSchema': {{'type': 'object'}}}}
answers = {{
    'initialize': info,
    'ping': {{}},
    'tools/list': {{'tools': [good]}},
    'tools/call': {{'content': [{{'type': 'text', 'text': 'called'}}]}},
    'prompts/list': {{'prompts': [{{'name': 'p'}}]}},
    'prompts/get': {{'messages': []}},
    'resources/list': {{'resources': [{{'uri': 'file:///r', 'name': 'r'}}]}},
    'resources/templates/list': {{'resourceTemplates': []}},
}}
silent, wrong = set(), {{}}
def written(out): return json.dumps(out).encode()
{flaw}
for line in sys.stdin:
    m = json.loads(line)
    with open({log!r} + '.asked', 'a') as asked: print(m['method'], file=asked)
    if 'id' not in m or m['method'] in silent: continue
    out = {{'jsonrpc': '2.0', 'id': m['id']}}
    healed = os.path.exists({log!r} + '.healed')
    if m['method'] in wrong and not healed: out['error'] = {{'code': wrong[m['method']], 'message': 'no'}}
    elif m['method'] in answers: out['result'] = answers[m['method']]
    else: out['error'] = {{'code': -32601, 'message': 'no'}}
    sys.stdout.buffer.write(written(out) + b'\\n'); sys.stdout.flush()
"""
SCHEMAS = "[None, [], True, {}, {'properties': {'a': {'type': 'string'}}}, {'type': 'object', 'properties': None}]"


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    health = {"health_check_interval_s": 0.3, "health_check_timeout_s": 0.5, "unhealthy_after": 2}
    async with Fleet(redis_url, reconnect_min_s=0.1, stop_timeout_s=0.5, **health) as fleet:
        yield fleet


async def _listed(fleet: Fleet) -> tuple[list[str], list[str], list[str]]:
    """What a client of the SDK reads of the tools, prompts and resources."""
    async with (
        streamable_http_client(fleet.urls[0]) as (read, write, *_),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        tools, prompts, resources = (
            await session.list_tools(),
            await session.list_prompts(),
            await session.list_resources(),
        )
    return (
        [one.name for one in tools.tools],
        [one.name for one in prompts.prompts],
        [str(one.uri) for one in resources.resources],
    )


async def test_entries_with_a_flaw_are_mended_or_left_out_alone(fleet: Fleet, tmp_path: Path) -> None:
    flaw = f"""
answers['tools/list']['tools'] += [dict(good, name=f'odd{{n}}', inputSchema=s) for n, s in enumerate({SCHEMAS})]
answers['tools/list']['tools'] += [{{'name': 'bare', 'description': None, 'annotations': None, 'title': None}}]
answers['tools/list']['tools'] += [dict(good, name='lost', inputSchema={{'type': 'string'}}), {{}}, None, 5]
answers['prompts/list']['prompts'] += [{{'name': 'q', 'description': None, 'arguments': None}}, {{'name': None}}]
answers['resources/list']['resources'] += [{{'uri': 'file:///s', 'mimeType': None}}, {{'uri': 'nonsense', 'name': 'n'}}]
"""
    await fleet.register("flawed", script_connection(SERVER.format(flaw=flaw, log=str(tmp_path / "log"))))
    try:
        tools, prompts, resources = await _listed(fleet)
        assert tools == ["good", *(f"odd{n}" for n in range(6)), "bare"]
        assert (prompts, resources) == (["p", "q"], ["file:///r", "file:///s"])
        async with RawClient(fleet.urls[0]) as client:
            assert (await client.call("odd0", {})).content == "called"
    finally:
        await fleet.store.unregister("flawed")


@pytest.mark.parametrize(
    "flaw",
    [
        "silent = {'prompts/list'}",
        "wrong = {'prompts/list': -32603}",
        "wrong = {'prompts/list': -32601}",
        "answers['prompts/list'] = {'prompts': 5}",
        "answers['prompts/list'] = {'prompts': None}",
        "answers['prompts/list'] = []",
    ],
)
async def test_an_optional_list_that_fails_costs_itself(fleet: Fleet, tmp_path: Path, flaw: str) -> None:
    log = tmp_path / "log"
    await fleet.register("flawed", script_connection(SERVER.format(flaw=flaw, log=str(log))))
    try:
        assert await _listed(fleet) == (["good"], [], ["file:///r"])
        assert len(log.read_text().split()) == 1
    finally:
        await fleet.store.unregister("flawed")


async def test_optional_lists_are_read_side_by_side(fleet: Fleet, tmp_path: Path) -> None:
    """One that hangs delays no other: this server answers the first only once it was asked for the last."""
    flaw = """
held = []
def written(out):
    kinds = {'prompts', 'resources', 'resourceTemplates'} & set(out.get('result', {}))
    if not kinds: return json.dumps(out).encode()
    held.append(json.dumps(out).encode())
    return b'\\n'.join(held) if kinds == {'resourceTemplates'} else b''
"""
    await fleet.register("flawed", script_connection(SERVER.format(flaw=flaw, log=str(tmp_path / "log"))))
    try:
        assert await _listed(fleet) == (["good"], ["p"], ["file:///r"])
    finally:
        await fleet.store.unregister("flawed")


async def test_what_may_be_a_secret_in_a_path_is_not_in_the_error(fleet: Fleet) -> None:
    url = f"{fleet.url}/a/Zk93jdkslajf93kfjdks93kd/sse"  # where this gateway itself answers 404
    await fleet.register("nowhere", {"type": "sse", "url": url}, connected=False)

    async def error() -> str:
        record = await fleet.record("nowhere")
        return (record.error if record is not None else None) or ""

    try:
        said = await eventually(error, 20.0, "it says why")
        assert "/a/***/sse answered HTTP 404" in said and "Zk93" not in said
    finally:
        await fleet.store.unregister("nowhere")


async def test_a_list_that_failed_is_read_again(fleet: Fleet, tmp_path: Path) -> None:
    log, healed = tmp_path / "log", tmp_path / "log.healed"
    flaw = "wrong = {'prompts/list': -32603}"
    await fleet.register("flawed", script_connection(SERVER.format(flaw=flaw, log=str(log))))
    try:
        assert (await _listed(fleet))[1] == []
        healed.touch()

        async def shown() -> bool:
            return (await _listed(fleet))[1] == ["p"]

        await eventually(shown, 60.0, "the prompts are listed")
    finally:
        await fleet.store.unregister("flawed")


@pytest.mark.parametrize("flaw", ["silent = {'ping'}", "wrong = {'ping': -32601}", "wrong = {'ping': -32000}"])
async def test_a_server_that_does_not_know_ping_stays_connected(fleet: Fleet, tmp_path: Path, flaw: str) -> None:
    log, asked = tmp_path / "log", tmp_path / "log.asked"
    await fleet.register("flawed", script_connection(SERVER.format(flaw=flaw, log=str(log))))
    try:
        await eventually(lambda: len(_probes(asked)) >= 8, 60.0, "it is probed eight times")
        record = await fleet.record("flawed")
        assert record is not None and record.status is ServerStatus.CONNECTED
        assert len(log.read_text().split()) == 1, "it was never restarted"
        if "silent" in flaw:
            assert asked.read_text().split().count("ping") == 1, "it is not asked again what it does not know"
    finally:
        await fleet.store.unregister("flawed")


def _probes(asked: Path) -> list[str]:
    return [one for one in asked.read_text().split() if one in ("ping", "tools/list")] if asked.exists() else []


@pytest.mark.parametrize(
    "flaw",
    [
        "def written(out): return json.dumps({'error': None, 'result': None, **out}).encode()",
        "def written(out): return bytes([0xef, 0xbb, 0xbf]) + json.dumps(out).encode()",
        "good['description'] = chr(0xd83d) + ' half an emoji'",
        "answers['tools/call']['content'][0]['note'] = chr(0xd83d)",
        "info['protocolVersion'] = '2024-10-07'",
        "def written(out): b = json.dumps(out, indent=1); return f'Content-Length: {len(b)}{chr(10) * 2}{b}'.encode()",
        "def written(out): return json.dumps(out, indent=2).encode()",
        "def written(out): return b'sending ' + json.dumps(out).encode()",
        "def written(out): return json.dumps({'method': None, 'params': None, 'error': None, **out}).encode()",
        "def written(out): return json.dumps({'error': {}, **out}).encode()",
    ],
    ids=[
        "null error",
        "byte order mark",
        "half a character in a list",
        "half a character in a result",
        "2024-10-07",
        "heads before messages",
        "a message over several lines",
        "a message behind other text",
        "null members",
        "empty error beside a result",
    ],
)
async def test_what_many_servers_write_is_read(fleet: Fleet, tmp_path: Path, flaw: str) -> None:
    await fleet.register("flawed", script_connection(SERVER.format(flaw=flaw, log=str(tmp_path / "log"))))
    try:
        assert await _listed(fleet) == (["good"], ["p"], ["file:///r"])
        async with RawClient(fleet.urls[0]) as client:
            assert (await client.call("good", {})).content == "called"
    finally:
        await fleet.store.unregister("flawed")


async def test_a_change_that_is_announced_whenever_lists_are_read_goes_round_slower_and_slower(
    fleet: Fleet, tmp_path: Path
) -> None:
    flaw = """
changed = {'jsonrpc': '2.0', 'method': 'notifications/tools/list_changed'}
def written(out):
    listed = 'tools' in out.get('result', {})
    return json.dumps(out).encode() + (b'\\n' + json.dumps(changed).encode() if listed else b'')
"""
    asked = tmp_path / "log.asked"
    await fleet.register("flawed", script_connection(SERVER.format(flaw=flaw, log=str(tmp_path / "log"))))
    try:

        def lists() -> int:
            return asked.read_text().split().count("tools/list")

        loop = asyncio.get_running_loop()
        times = []
        for wanted in (3, 5, 7):
            await eventually(lambda wanted=wanted: lists() >= wanted, 60.0, f"it is asked for its list {wanted} times")
            times.append(loop.time())
        assert times[2] - times[1] > 1.5 * (times[1] - times[0]), "each time twice as long, about"
    finally:
        await fleet.store.unregister("flawed")


UNREADABLE = {
    "NaN": "json.dumps(out).replace('\"called\"', 'NaN').encode()",
    "Infinity": "json.dumps(out).replace('\"called\"', '-Infinity').encode()",
    "latin-1": "json.dumps(out).replace('called', 'é').encode('latin-1')",
    "a control character": "json.dumps(out).replace('called', chr(1)).encode()",
    "no JSON": "json.dumps(out).replace('\"called\"', 'undefined').encode()",
}


@pytest.mark.parametrize("kind", sorted(UNREADABLE))
async def test_a_call_whose_answer_is_no_json_fails_at_once_with_the_cause(
    fleet: Fleet, tmp_path: Path, kind: str
) -> None:
    flaw = f"def written(out): return {UNREADABLE[kind]}"
    await fleet.register("flawed", script_connection(SERVER.format(flaw=flaw, log=str(tmp_path / "log"))))
    try:
        async with RawClient(fleet.urls[0]) as client:
            reply = await asyncio.wait_for(client.call("good"), scaled(10.0))  # far below the time-out of calls
            assert reply.error["data"]["code"] == "upstream_protocol"
            assert "the upstream's answer cannot be read" in reply.error["message"]
        assert (await _listed(fleet))[0] == ["good"]
    finally:
        await fleet.store.unregister("flawed")


@pytest.mark.parametrize(
    ("flaw", "settings", "shown", "note"),
    [
        (
            "answers['tools/list']['tools'] = [dict(good, name=f't{n}') for n in range(50)]",
            {"maxListed": 20},  # as it was called before
            20,
            "only 20 entries are listed",
        ),
        (
            "answers['tools/list']['tools'] = [dict(good, name='huge', description='d' * 9000), good]",
            {"maxCatalogBytes": 5000},
            1,
            "only 1 entries are listed",
        ),
        (
            "answers['tools/list']['tools'] = [dict(good, name='huge', description='d' * 9000), good]",
            {"maxEntryBytes": 5000},
            1,
            "1 tools are larger than 5000 bytes",
        ),
        (
            """
class Endless(dict):
    n = 0
def page():
    Endless.n += 1
    time.sleep(0.02)
    return {'tools': [], 'nextCursor': str(Endless.n)}
real = written
def written(out):
    if 'tools' in out.get('result', {}): out['result'] = page()
    return real(out)
""",
            {"listTimeout": 500},
            0,
            "its pages have no end in 0.5 s",
        ),
        ("answers['tools/list']['nextCursor'] = 'x'", {}, 1, "a cursor comes again"),
        (
            """
turns = []
real = written
def written(out):
    if 'tools' in out.get('result', {}):
        turns.append(1)
        if len(turns) % 2: out['result'] = dict(out['result'], nextCursor='x')
        else: out = {'jsonrpc': '2.0', 'id': out['id'], 'error': {'code': -32602, 'message': 'Invalid cursor'}}
    return real(out)
""",
            {},
            1,
            "a page could not be read (the upstream answered error -32602: Invalid cursor); 1 entries are listed",
        ),
    ],
    ids=["many", "large", "one", "endless", "again", "broken"],
)
async def test_a_list_without_end_is_cut_and_said(
    fleet: Fleet, tmp_path: Path, flaw: str, settings: dict[str, int], shown: int, note: str
) -> None:
    script = SERVER.format(flaw=flaw, log=str(tmp_path / "log"))
    await fleet.register("flawed", script_connection(script), settings=settings)
    try:
        assert len((await _listed(fleet))[0]) == shown
        record = await fleet.record("flawed")
        assert record is not None and any(note in one for one in record.catalog.notes), record.catalog.notes
    finally:
        await fleet.store.unregister("flawed")
