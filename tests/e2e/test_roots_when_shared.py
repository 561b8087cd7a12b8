"""A stdio server of both eras that wants its client's roots, and whose sessions clients share: what each era knows."""

from __future__ import annotations

from typing import Any

from tests.clients import RawClient
from tests.fleet import Fleet, eventually, script_connection
from tests.streams import calling

ROOTS = {"roots": [{"uri": "file:///mine"}]}
# It speaks the era of its first request, as children of the SDKs do.
SERVER = """
import json, sys
def say(**message): print(json.dumps({'jsonrpc': '2.0', **message}), flush=True)
def text(result): return {'content': [{'type': 'text', 'text': json.dumps(result)}], 'resultType': 'complete'}
modern, called = None, None
for line in sys.stdin:
    m = json.loads(line)
    if 'method' not in m:
        say(id=called, result=text(m.get('result') or m['error']['message']))
        continue
    if 'id' not in m: continue
    modern = m['method'] == 'server/discover' if modern is None else modern
    about = {'capabilities': {'tools': {}}, 'serverInfo': {'name': 'g', 'version': '1'}}
    cached = {'resultType': 'complete', 'ttlMs': 0, 'cacheScope': 'private'}
    given = m.get('params', {}).get('inputResponses')
    if m['method'] == 'server/discover' and modern:
        say(id=m['id'], result={'supportedVersions': ['2026-07-28'], **about, **cached})
    elif m['method'] == 'initialize' and not modern:
        say(id=m['id'], result={'protocolVersion': '2025-11-25', **about})
    elif m['method'] == 'tools/list':
        say(id=m['id'], result={'tools': [{'name': 'where', 'inputSchema': {'type': 'object'}}], **cached})
    elif m['method'] == 'tools/call' and not modern:
        called = m['id']
        say(id='r', method='roots/list')
    elif m['method'] == 'tools/call':
        asked = {'resultType': 'input_required', 'inputRequests': {'r': {'method': 'roots/list', 'params': {}}}}
        say(id=m['id'], result=text(given['r']) if given else asked)
    else:
        say(id=m['id'], error={'code': -32601, 'message': 'no'})
"""


async def test_in_the_modern_era_each_call_is_asked_apart_and_in_the_other_the_cures_are_named(redis_url: str) -> None:
    async with Fleet(redis_url, probe_timeout_s=1.0) as fleet, RawClient(fleet.urls[0]) as client:
        await client.initialize(capabilities={"roots": {}})
        await fleet.register("both", script_connection(SERVER))
        refused = await client.legacy_call("where")
        assert "set isolation: client, or era: modern" in refused.content
        await fleet.store.unregister("both")
        await fleet.register("modern", script_connection(SERVER), era="modern")
        params: dict[str, Any] = {"name": "where", "arguments": {}}
        message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
        async with calling(client, fleet.urls[0], message) as stream:
            await eventually(lambda: stream.messages, 10.0, "the client is asked")
            asked = stream.messages[0]
            assert asked["method"] == "roots/list"
            await client.post({"jsonrpc": "2.0", "id": asked["id"], "result": ROOTS}, client.legacy_headers())
            await eventually(lambda: stream.messages[-1].get("id") == 7, 10.0, "the call is answered")
        assert "file:///mine" in stream.messages[-1]["result"]["content"][0]["text"]
