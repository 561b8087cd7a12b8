"""``gateway.doors.requests``: what a request means, with the way to the workers faked."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.doors.requests import Caller, Ready, Requests, Started
from gateway.fleet.dispatch import Outgoing
from gateway.fleet.stats import Stats
from gateway.fleet.worker_client import Answered, Failure, Interim
from gateway.routing.catalog import Catalog
from shared.errors import NotDelivered, Refused
from shared.mcp import jsonrpc
from shared.mcp.versions import Era
from shared.settings import build
from tests.unit.builders import record, tool

ANNOTATED = tool(
    "where", inputSchema={"type": "object", "properties": {"r": {"type": "string", "x-mcp-header": "Region"}}}
)
LEGACY, MODERN = Caller(Era.LEGACY, "2025-11-25"), Caller(Era.MODERN, "2026-07-28", principal="ada")


class FakeDispatcher:
    """Takes calls and answers what it was told to."""

    def __init__(self, event: Any = None, error: Exception | None = None) -> None:
        self.sent: list[Outgoing] = []
        self.released: list[Any] = []
        self.event = event if event is not None else Answered(False, b'{"content":[]}')
        self.error = error

    async def send(self, call: Outgoing) -> Any:
        """As ``Dispatcher.send``."""
        self.sent.append(call)
        if self.error is not None:
            raise self.error
        return in_flight(), self.event

    def release(self, call: Any) -> None:
        """As ``Dispatcher.release``."""
        self.released.append(call)


def in_flight() -> Any:
    """A call that began two seconds ago."""
    clock = SimpleNamespace(loop=SimpleNamespace(time=lambda: 12.0))
    return SimpleNamespace(client=clock, started_at=10.0, replica=SimpleNamespace(id="up-1"))


class Bench:
    """``Requests`` over a catalogue of two groups that both have ``echo``."""

    def __init__(self, **dispatch: Any) -> None:
        catalog = Catalog(build({"pageSize": 2}).routing)
        records = [
            record("a", sequence=1, tools=["echo", ANNOTATED]),
            record("b", sequence=2, tools=["echo"]),
        ]
        catalog.rebuild({one.spec.id: one for one in records}, 0.0)
        self.dispatcher, self.stats = FakeDispatcher(**dispatch), Stats()
        watcher: Any = SimpleNamespace(catalog=catalog)
        dispatcher: Any = self.dispatcher
        self.requests = Requests(watcher, dispatcher, self.stats, build({"name": "unit"}), "9.9")

    async def serve(self, method: str, params: str = "", caller: Caller = LEGACY, headers: Any = None) -> Any:
        """Ask as a door does."""
        message = jsonrpc.decode(jsonrpc.request(b'"q"', method, params.encode()))
        return await self.requests.serve(message, jsonrpc.decode_params(message), caller, headers)

    async def result(self, method: str, params: str = "", caller: Caller = LEGACY) -> Any:
        """The result of a request that is answered at once."""
        ready = await self.serve(method, params, caller)
        assert isinstance(ready, Ready)
        assert ready.rpc_code == 0
        body = json.loads(ready.body)
        assert (body["jsonrpc"], body["id"]) == ("2.0", "q")
        return body["result"]

    async def refused(self, method: str, params: str = "", caller: Caller = LEGACY, headers: Any = None) -> str:
        """The code of a refusal; nothing may have been sent."""
        with pytest.raises(Refused) as caught:
            await self.serve(method, params, caller, headers)
        assert self.dispatcher.sent == []
        return caught.value.code


async def test_each_era_has_its_own_methods() -> None:
    bench = Bench()
    assert await bench.result("ping") == {}
    assert await bench.refused("ping", caller=MODERN) == "method_unknown"
    discovered = await bench.result("server/discover", caller=MODERN)
    assert discovered["supportedVersions"] == ["2026-07-28"]
    assert discovered["capabilities"] == {"tools": {"listChanged": True}}
    assert {"name": "unit", "version": "9.9"} in discovered["_meta"].values()
    assert await bench.refused("server/discover") == "method_unknown"


@pytest.mark.parametrize("method", ["nothing/here", "prompts/list", "tools/List", "initialize"])
async def test_what_is_not_offered_is_method_unknown(method: str) -> None:
    for caller in (LEGACY, MODERN):
        assert await Bench().refused(method, caller=caller) == "method_unknown"


def test_initialize_names_the_version_and_the_server() -> None:
    answer = json.loads(Bench().requests.initialize("2025-06-18", None))
    assert answer["protocolVersion"] == "2025-06-18"
    assert answer["serverInfo"] == {"name": "unit", "version": "9.9"}
    assert answer["capabilities"] == {"tools": {"listChanged": True}}


async def test_lists_are_paged_and_scoped() -> None:
    bench = Bench()
    for params in ("", "{}", '{"cursor":null}'):
        first = await bench.result("tools/list", params)
        assert [one["name"] for one in first["tools"]] == ["echo", "where"]
    second = await bench.result("tools/list", json.dumps({"cursor": first["nextCursor"]}))
    assert [one["name"] for one in second["tools"]] == ["b__echo"]
    scoped = await bench.result("tools/list", caller=Caller(Era.MODERN, "2026-07-28", scope="b"))
    assert [one["name"] for one in scoped["tools"]] == ["echo"]
    assert scoped["resultType"] == "complete"


@pytest.mark.parametrize("cursor", ["5", '"nonsense"', "{}", "false"])
async def test_a_bad_cursor_is_invalid_params(cursor: str) -> None:
    assert await Bench().refused("tools/list", f'{{"cursor":{cursor}}}') == "invalid_params"


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ("", "invalid_params"),
        ("{}", "invalid_params"),
        ('{"name":5}', "invalid_params"),
        ('{"name":null}', "invalid_params"),
        ('{"name":"nothing"}', "tool_unknown"),
        ('{"name":"c__echo"}', "tool_unknown"),
    ],
)
async def test_a_call_without_a_known_tool_is_refused_unsent(params: str, code: str) -> None:
    assert await Bench().refused("tools/call", params) == code


@pytest.mark.parametrize(
    ("name", "scope", "group", "sent"),
    [
        ("echo", None, "a", b'{"name":"echo","arguments":{"x":1.0}}'),
        ("b__echo", None, "b", b'{"name":"echo","arguments":{"x":1.0}}'),
        ("a__echo", None, "a", b'{"name":"echo","arguments":{"x":1.0}}'),
        ("echo", "b", "b", b'{"name":"echo","arguments":{"x":1.0}}'),
    ],
)
async def test_a_call_goes_to_its_group_under_its_own_name(
    name: str, scope: str | None, group: str, sent: bytes
) -> None:
    bench = Bench()
    caller = Caller(Era.MODERN, "2026-07-28", scope=scope, principal="ada")
    await bench.serve("tools/call", f'{{"name":"{name}","arguments":{{"x":1.0}}}}', caller)
    (call,) = bench.dispatcher.sent
    assert (call.route.group, call.params, call.name) == (group, sent, "echo")
    assert (call.method, call.era, call.id, call.principal) == ("tools/call", Era.MODERN, b'"q"', "ada")
    assert (call.token, call.headers) == (b"", None)


async def test_the_progress_token_goes_along() -> None:
    bench = Bench()
    await bench.serve("tools/call", '{"name":"echo","_meta":{"progressToken":"p1"}}')
    assert bench.dispatcher.sent[0].token == b'"p1"'


async def test_a_modern_client_must_mirror_annotated_arguments() -> None:
    params = '{"name":"where","arguments":{"r":"eu"}}'
    for wrong in ({}, {"Mcp-Param-Region": "us"}):
        assert await Bench().refused("tools/call", params, MODERN, wrong) == "header_mismatch"
    bench = Bench()
    await bench.serve("tools/call", params, MODERN, {"Mcp-Param-Region": "eu"})
    assert bench.dispatcher.sent[0].headers == {"Mcp-Param-Region": "eu"}


async def test_for_a_legacy_client_the_gateway_mirrors_them() -> None:
    bench = Bench()
    await bench.serve("tools/call", '{"name":"where","arguments":{"r":"eu"}}', LEGACY, {})
    await bench.serve("tools/call", '{"name":"where"}', LEGACY, {})
    assert [call.headers for call in bench.dispatcher.sent] == [{"Mcp-Param-Region": "eu"}, {}]


async def test_a_small_answer_is_the_upstreams_bytes() -> None:
    bench = Bench(event=Answered(False, b'{ "content": [ ], "n": 1.0 }'))
    ready = await bench.serve("tools/call", '{"name":"echo"}')
    assert ready == Ready(b'{"jsonrpc":"2.0","id":"q","result":{ "content": [ ], "n": 1.0 }}', 0)
    assert len(bench.dispatcher.released) == 1
    assert (bench.stats.calls, bench.stats.errors, bench.stats.seconds) == (1, 0, 2.0)


@pytest.mark.parametrize(
    ("error", "code"),
    [(b'{"code":-5,"message":"m"}', -5), (b'{"code":"x"}', -32603), (b"[]", -32603), (b"{}", 0)],
)
async def test_an_upstreams_error_is_passed_on_and_counted(error: bytes, code: int) -> None:
    bench = Bench(event=Answered(True, error))
    ready = await bench.serve("tools/call", '{"name":"echo"}')
    assert ready == Ready(b'{"jsonrpc":"2.0","id":"q","error":%b}' % error, code)
    assert (bench.stats.calls, bench.stats.errors) == (1, 1)


async def test_a_call_with_something_before_its_answer_is_a_stream() -> None:
    bench = Bench(event=Interim(b"{}"))
    started = await bench.serve("tools/call", '{"name":"echo"}')
    assert isinstance(started, Started)
    assert (started.id, started.event) == (b'"q"', Interim(b"{}"))
    assert bench.dispatcher.released == []


async def test_a_call_that_failed_for_good_is_counted_and_raised() -> None:
    error = NotDelivered("overloaded", "too many")
    bench = Bench(error=error)
    with pytest.raises(NotDelivered) as caught:
        await bench.serve("tools/call", '{"name":"echo"}')
    assert caught.value is error
    assert (bench.stats.calls, bench.stats.failures) == (1, {"overloaded": 1})


def test_a_failure_after_the_stream_began_names_the_upstream() -> None:
    bench = Bench()
    ready = bench.requests.fail(b"7", in_flight(), Failure("timeout", "too slow", True, {"k": "v"}))
    body = json.loads(ready.body)
    assert body["id"] == 7
    assert body["error"]["message"] == "upstream 'up-1': too slow"
    assert body["error"]["data"] == {"code": "timeout", "k": "v", "upstream": "up-1"}
    assert ready.rpc_code == body["error"]["code"] == -31004
    assert (bench.stats.failures, bench.stats.errors) == ({"timeout": 1}, 1)
    assert len(bench.dispatcher.released) == 1
