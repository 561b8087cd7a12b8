"""``gateway.protocol.methods``: what a request means, with the way to the workers faked."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.calls.in_flight import Answered, Failure, Interim
from gateway.fleet.dispatch import Outgoing
from gateway.protocol.methods import Caller, Ready, Requests, Started
from gateway.routing.catalog import Catalog
from gateway.telemetry.counters import Counters
from shared.errors import NotDelivered, Refused
from shared.mcp import jsonrpc
from shared.mcp.versions import Era
from shared.registry.records import UpstreamRecord
from shared.secrets import FleetKey
from shared.settings import build
from tests.unit.builders import record, tool

ANNOTATED = tool(
    "where", inputSchema={"type": "object", "properties": {"r": {"type": "string", "x-mcp-header": "Region"}}}
)
LEGACY, MODERN = Caller(Era.LEGACY, "2025-11-25"), Caller(Era.MODERN, "2026-07-28", principal="ada")


CAPABILITIES = {name: {"listChanged": True} for name in ("tools", "prompts", "resources")}


class FakeDispatcher:
    """Takes calls and answers what it was told to: one event, or one by group."""

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
        return in_flight(), self.event[call.route.group] if isinstance(self.event, dict) else self.event

    def release(self, call: Any) -> None:
        """As ``Dispatcher.release``."""
        self.released.append(call)


def in_flight() -> Any:
    """A call that began two seconds ago."""
    clock = SimpleNamespace(loop=SimpleNamespace(time=lambda: 12.0))
    return SimpleNamespace(client=clock, started_at=10.0, replica=SimpleNamespace(id="up-1"))


OFFERED: dict[str, Any] = {"prompts": ["ask"], "resources": ["file:///r", "urn:r"], "templates": ["db://{t}/{+id}"]}


class Bench:
    """``Requests`` over these upstreams; without any, over two groups that offer the same."""

    def __init__(self, *given: UpstreamRecord, **dispatch: Any) -> None:
        catalog = Catalog(build({"pageSize": 2}).routing)
        both = (
            record("a", sequence=1, tools=["echo", ANNOTATED], capabilities={"completions": {}}, **OFFERED),
            record("b", sequence=2, tools=["echo"], capabilities={"completions": {}}, **OFFERED),
        )
        records = {one.spec.id: one for one in given or both}
        catalog.rebuild(records, 0.0)
        self.dispatcher, self.stats = FakeDispatcher(**dispatch), Counters()

        async def catch_up() -> None:
            """What the records say is all there is."""

        interests: Any = SimpleNamespace()
        watcher: Any = SimpleNamespace(catalog=catalog, records=records, catch_up=catch_up)
        dispatcher: Any = self.dispatcher
        self.requests = Requests(
            watcher, dispatcher, interests, self.stats, FleetKey(bytes(32)), build({"name": "unit"}), "9.9"
        )

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
    assert discovered["capabilities"] == CAPABILITIES | {"completions": {}}
    assert {"name": "unit", "version": "9.9"} in discovered["_meta"].values()
    assert await bench.refused("server/discover") == "method_unknown"


@pytest.mark.parametrize("method", ["nothing/here", "prompts/List", "tools/List", "initialize"])
async def test_what_is_not_offered_is_method_unknown(method: str) -> None:
    for caller in (LEGACY, MODERN):
        assert await Bench().refused(method, caller=caller) == "method_unknown"


def test_initialize_names_the_version_and_the_server() -> None:
    answer = json.loads(Bench().requests.initialize("2025-06-18", None))
    assert answer["protocolVersion"] == "2025-06-18"
    assert answer["serverInfo"] == {"name": "unit", "version": "9.9"}
    assert answer["capabilities"] == CAPABILITIES | {"completions": {}}
    assert "instructions" not in answer


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


# ---- capabilities and instructions


def _offers(scope: str | None, *records: UpstreamRecord) -> tuple[Any, Any]:
    bench = Bench(*records)
    legacy = json.loads(bench.requests.initialize("2025-11-25", scope))
    modern = json.loads(bench.requests.discover(scope))
    assert legacy["capabilities"] == modern["capabilities"]
    assert legacy.get("instructions") == modern.get("instructions")
    return legacy["capabilities"], legacy.get("instructions")


@pytest.mark.parametrize(("scope", "expected"), [(None, True), ("g", True), ("plain", False), ("nobody", False)])
def test_completions_are_offered_where_some_upstream_has_them(scope: str | None, expected: bool) -> None:
    records = (
        record("plain", sequence=1, capabilities={"tools": {}}),
        record("g1", "g", sequence=2, capabilities={"tools": {}}),
        record("g2", "g", sequence=3, capabilities={"completions": {}}),
    )
    capabilities, _ = _offers(scope, *records)
    assert capabilities == CAPABILITIES | ({"completions": {}} if expected else {})


def test_instructions_are_told_by_group_in_registration_order() -> None:
    records = (
        record("g2", "g", sequence=3, instructions="not this"),
        record("g1", "g", sequence=2, instructions="Ask twice."),
        record("late", sequence=4, instructions="Be é."),
        record("silent", sequence=1),
    )
    assert _offers(None, *records)[1] == "## g\nAsk twice.\n\n## late\nBe é."
    assert _offers("g", *records)[1] == "Ask twice."
    assert _offers("silent", *records)[1] is None
    assert _offers("nobody", *records)[1] is None


def test_a_replica_without_instructions_leaves_the_word_to_the_next() -> None:
    records = (record("g1", "g", sequence=1), record("g2", "g", sequence=2, instructions="Second."))
    assert _offers(None, *records)[1] == "## g\nSecond."


def test_instructions_are_capped_each_and_together() -> None:
    one = _offers("u0", record("u0", instructions="x" * 100_000))[1]
    assert one == "x" * 2048
    many = [record(f"u{n}", sequence=n, instructions=str(n % 10) * 5000) for n in range(50)]
    together = _offers(None, *many)[1]
    assert together.startswith("## u0\n" + "0" * 2048 + "\n\n## u1\n111")
    assert len(together) == 16 * 1024


# ---- prompts


@pytest.mark.parametrize(
    ("method", "member", "key", "keys"),
    [
        ("prompts/list", "prompts", "name", ["ask", "b__ask"]),
        ("resources/list", "resources", "uri", ["file:///r", "urn:r"]),
        ("resources/templates/list", "resourceTemplates", "uriTemplate", ["db://{t}/{+id}", "db://b__{t}/{+id}"]),
    ],
)
async def test_every_kind_is_listed(method: str, member: str, key: str, keys: list[str]) -> None:
    bench = Bench()
    for caller in (LEGACY, MODERN):
        page = await bench.result(method, caller=caller)
        assert [one[key] for one in page[member]] == keys
        assert ("nextCursor" in page) is (method == "resources/list")
        assert page.get("resultType") == (None if caller is LEGACY else "complete")
    assert await bench.refused(method, '{"cursor":"nonsense"}') == "invalid_params"


@pytest.mark.parametrize(
    ("name", "scope", "group"),
    [("ask", None, "a"), ("b__ask", None, "b"), ("a__ask", None, "a"), ("ask", "b", "b")],
)
async def test_a_prompt_is_got_from_its_group_under_its_own_name(name: str, scope: str | None, group: str) -> None:
    bench = Bench()
    caller = Caller(Era.LEGACY, "2025-11-25", scope=scope)
    await bench.serve(
        "prompts/get", f'{{"name":"{name}","arguments":{{"x":"1"}},"_meta":{{"progressToken":7}}}}', caller
    )
    (call,) = bench.dispatcher.sent
    assert (call.route.group, call.method, call.name, call.token) == (group, "prompts/get", "ask", b"7")
    assert call.params == b'{"name":"ask","arguments":{"x":"1"},"_meta":{"progressToken":7}}'


@pytest.mark.parametrize("name", ["echo", "c__ask", "b__echo", "file:///r"])
async def test_an_unknown_prompt_is_invalid_params(name: str) -> None:
    bench = Bench()
    with pytest.raises(Refused) as caught:
        await bench.serve("prompts/get", json.dumps({"name": name}))
    assert (caught.value.wire.rpc, caught.value.data["prompt"]) == (-32602, name)
    assert bench.dispatcher.sent == []


# ---- resources


CONTENTS = (
    b'{ "contents":[ {"uri":"file:///r","n":1.0},{"uri":"file:///r/sub"},'
    b'{"uri":"file:///r","text":"file:///r"}],"k":1.0}'
)


@pytest.mark.parametrize(
    ("uri", "scope", "group", "own"),
    [
        ("file:///r", None, "a", "file:///r"),
        ("urn:r", None, "a", "urn:r"),
        ("file://b__/r", None, "b", "file:///r"),
        ("file://a__/r", None, "a", "file:///r"),
        ("b__urn:r", None, "b", "urn:r"),
        ("file:///r", "b", "b", "file:///r"),
    ],
)
async def test_a_listed_resource_is_read_from_its_group_under_its_own_uri(
    uri: str, scope: str | None, group: str, own: str
) -> None:
    bench = Bench(event=Answered(False, b'{"contents":[]}'))
    await bench.serve("resources/read", f'{{"k":1.0,"uri":"{uri}"}}', Caller(Era.LEGACY, "2025-11-25", scope=scope))
    (call,) = bench.dispatcher.sent
    assert (call.route.group, call.params, call.name) == (group, b'{"k":1.0,"uri":"%b"}' % own.encode(), own)


async def test_a_resource_under_its_own_uri_is_the_upstreams_bytes() -> None:
    bench = Bench(event=Answered(False, CONTENTS))
    ready = await bench.serve("resources/read", '{"uri":"file:///r"}')
    assert ready == Ready(b'{"jsonrpc":"2.0","id":"q","result":%b}' % CONTENTS)


async def test_the_contents_of_a_renamed_resource_say_the_uri_that_was_asked_for() -> None:
    bench = Bench(event=Answered(False, CONTENTS))
    ready = await bench.serve("resources/read", '{"uri":"file://b__/r"}')
    body = json.loads(ready.body)
    assert body["result"] == {
        "contents": [
            {"uri": "file://b__/r", "n": 1.0},
            {"uri": "file:///r/sub"},
            {"uri": "file://b__/r", "text": "file:///r"},
        ],
        "k": 1.0,
    }
    assert ready.body.count(b"1.0") == 2
    assert len(bench.dispatcher.released) == 1


async def test_the_error_for_a_renamed_resource_is_passed_on() -> None:
    error = b'{"code":-32000,"message":"m","data":{"uri":"file:///r"}}'
    ready = await Bench(event=Answered(True, error)).serve("resources/read", '{"uri":"file://b__/r"}')
    assert ready == Ready(b'{"jsonrpc":"2.0","id":"q","error":%b}' % error, -32000)


async def test_a_started_read_carries_its_readdressing_along() -> None:
    bench = Bench(event=Interim(b"{}"))
    plain = await bench.serve("resources/read", '{"uri":"file:///r"}')
    renamed = await bench.serve("resources/read", '{"uri":"file://b__/r"}')
    assert isinstance(plain, Started)
    assert plain.in_flight.readdress is None
    ready = bench.requests.finish(b'"q"', renamed.in_flight, Answered(False, CONTENTS))
    assert json.loads(ready.body)["result"]["contents"][0]["uri"] == "file://b__/r"


@pytest.mark.parametrize(("caller", "code"), [(LEGACY, -32002), (MODERN, -32602)])
@pytest.mark.parametrize("uri", ["nowhere://x", "relative", "", "NOWHERE:é"])
async def test_an_unknown_resource_is_worded_for_its_era(caller: Caller, code: int, uri: str) -> None:
    bench = Bench()
    ready = await bench.serve("resources/read", json.dumps({"uri": uri}), caller)
    body = json.loads(ready.body)
    assert (body["jsonrpc"], body["id"]) == ("2.0", "q")
    assert ready.rpc_code == body["error"]["code"] == code
    assert body["error"]["data"] == {"uri": uri}
    assert bench.dispatcher.sent == []


async def test_a_huge_unknown_uri_is_not_repeated_back() -> None:
    ready = await Bench().serve("resources/read", json.dumps({"uri": "nowhere:" + "x" * 100_000}))
    assert len(ready.body) < 1024


async def test_a_resource_outside_the_scope_is_unknown() -> None:
    ready = await Bench().serve("resources/read", '{"uri":"file:///r"}', Caller(Era.LEGACY, "2025-11-25", scope="c"))
    assert ready.rpc_code == -32002


@pytest.mark.parametrize("params", ["", "{}", '{"uri":5}', '{"uri":null}', '{"name":"file:///r"}'])
async def test_a_read_without_a_uri_is_invalid_params(params: str) -> None:
    assert await Bench().refused("resources/read", params) == "invalid_params"


READERS = (
    record("a", sequence=1, resources=["db://listed"]),
    record("b", sequence=2, templates=["db://{t}/{+id}"]),
    record("c", sequence=3, templates=["db://users/{id}"]),
    record("d", sequence=4, resources=["file:///r"]),
)
FOUND = Answered(False, b'{"contents":[{"uri":"db://users/7"}]}')
OLD, NEW = Answered(True, b'{"code":-32002,"message":"no"}'), Answered(True, b'{"code":-32602,"message":"no"}')
BROKEN = Answered(True, b'{"code":-32603,"message":"broken"}')


@pytest.mark.parametrize(
    ("events", "asked", "code"),
    [
        ({"c": FOUND}, "c", 0),
        ({"c": OLD, "b": FOUND}, "cb", 0),
        ({"c": NEW, "b": FOUND}, "cb", 0),
        ({"c": OLD, "b": NEW, "a": FOUND}, "cba", 0),
        ({"c": BROKEN, "b": FOUND}, "c", -32603),
        ({"c": OLD, "b": OLD, "a": OLD}, "cba", -32002),
        ({"c": NEW, "b": NEW, "a": NEW}, "cba", -32002),
    ],
)
async def test_an_unlisted_resource_is_asked_for_one_after_another(events: Any, asked: str, code: int) -> None:
    bench = Bench(*READERS, event=events)
    ready = await bench.serve("resources/read", '{"uri":"db://users/7"}')
    assert "".join(call.route.group for call in bench.dispatcher.sent) == asked
    assert {(call.params, call.name) for call in bench.dispatcher.sent} == {(b'{"uri":"db://users/7"}', "db://users/7")}
    assert ready.rpc_code == code
    assert len(bench.dispatcher.released) == len(asked)
    if not code:
        assert ready.body == b'{"jsonrpc":"2.0","id":"q","result":%b}' % FOUND.body


async def test_an_unlisted_resource_that_streams_has_been_found() -> None:
    bench = Bench(*READERS, event={"c": Interim(b"{}")})
    assert isinstance(await bench.serve("resources/read", '{"uri":"db://users/7"}'), Started)


# ---- completion


def _completion(type: str, **reference: str) -> str:
    return json.dumps({"ref": {"type": type, **reference}, "argument": {"name": "n", "value": "v"}})


@pytest.mark.parametrize(
    ("given", "group", "own"),
    [
        ({"type": "ref/prompt", "name": "ask"}, "a", {"name": "ask"}),
        ({"type": "ref/prompt", "name": "b__ask"}, "b", {"name": "ask"}),
        ({"type": "ref/resource", "uri": "db://{t}/{+id}"}, "a", {"uri": "db://{t}/{+id}"}),
        ({"type": "ref/resource", "uri": "db://b__{t}/{+id}"}, "b", {"uri": "db://{t}/{+id}"}),
    ],
)
async def test_a_completion_goes_where_its_reference_leads(given: Any, group: str, own: Any) -> None:
    bench = Bench()
    await bench.serve("completion/complete", _completion(**given))
    (call,) = bench.dispatcher.sent
    assert (call.route.group, call.method) == (group, "completion/complete")
    assert json.loads(call.params) == json.loads(_completion(**{**given, **own}))


async def test_a_completion_under_the_own_name_is_the_clients_bytes() -> None:
    bench = Bench()
    params = '{ "argument":{"n":1.0}, "ref":{"name":"ask" , "type":"ref/prompt"},"_meta":{"progressToken":"p"} }'
    await bench.serve("completion/complete", params)
    assert (bench.dispatcher.sent[0].params, bench.dispatcher.sent[0].token) == (params.encode(), b'"p"')


@pytest.mark.parametrize("caller", [LEGACY, MODERN])
@pytest.mark.parametrize(
    "given",
    [
        {"type": "ref/prompt", "name": "nothing"},
        {"type": "ref/prompt", "name": "echo"},
        {"type": "ref/resource", "uri": "db://users/7"},
        {"type": "ref/resource", "uri": "file:///r"},
    ],
)
async def test_for_an_unknown_reference_there_is_nothing_to_suggest(caller: Caller, given: Any) -> None:
    bench = Bench()
    result = await bench.result("completion/complete", _completion(**given), caller)
    assert result.pop("resultType", None) == (None if caller is LEGACY else "complete")
    assert result == {"completion": {"values": [], "total": 0, "hasMore": False}}
    assert bench.dispatcher.sent == []


@pytest.mark.parametrize(
    "params",
    ["", "{}", '{"ref":5}', '{"ref":null}', '{"ref":{"type":"ref/prompt"}}', '{"ref":{"type":"ref/prompt","uri":"x"}}'],
)
async def test_a_completion_without_a_reference_is_invalid_params(params: str) -> None:
    assert await Bench().refused("completion/complete", params) == "invalid_params"


# ---- what the gateway does not know


async def test_an_unknown_method_goes_on_only_in_the_scope_of_a_group() -> None:
    bench = Bench()
    await bench.serve("x/y", '{"z":1.0}', Caller(Era.LEGACY, "2025-11-25", scope="b"))
    (call,) = bench.dispatcher.sent
    assert (call.route.group, call.method, call.params) == ("b", "x/y", b'{"z":1.0}')
    assert await Bench().refused("x/y", caller=Caller(Era.LEGACY, "2025-11-25", scope="c")) == "method_unknown"
    scoped = Caller(Era.MODERN, "2026-07-28", scope="b")
    for ours in ("initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"):
        assert await Bench().refused(ours, caller=scoped) == "method_unknown"
