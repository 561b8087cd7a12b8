"""``gateway.protocol.methods``: what a request means, as a plan; nothing is sent."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.admission.caller import Waits
from gateway.fleet.outgoing import ANYWHERE, Bound, Exact, Only
from gateway.protocol.plans import Listen, OneOf
from shared import request_state, task_ids
from shared.errors import Refused
from shared.mcp import tasks
from shared.mcp.versions import Era
from tests.unit.builders import record
from tests.unit.gateway.fakes import KEY, result
from tests.unit.gateway.protocol.bench import LEGACY, MODERN, Bench, result_of, session_of

CAPABILITIES = {name: {"listChanged": True} for name in ("tools", "prompts", "resources")}


async def test_each_era_has_its_own_methods() -> None:
    bench = Bench()
    assert bench.result("ping") == {}
    assert bench.refused("ping", era=MODERN) == "method_unknown"
    discovered = bench.result("server/discover", era=MODERN)
    assert discovered["supportedVersions"] == ["2026-07-28"]
    assert discovered["capabilities"] == CAPABILITIES | {"completions": {}}
    assert {"name": "unit", "version": "9.9"} in discovered["_meta"].values()
    assert bench.refused("server/discover") == "method_unknown"
    assert isinstance(bench.plan("subscriptions/listen", era=MODERN), Listen)
    assert bench.refused("subscriptions/listen") == "method_unknown"


@pytest.mark.parametrize("method", ["nothing/here", "prompts/List", "tools/List", "Initialize"])
@pytest.mark.parametrize("era", Era)
async def test_what_is_not_offered_is_method_unknown(method: str, era: Era) -> None:
    assert Bench().refused(method, era=era) == "method_unknown"


@pytest.mark.parametrize("endpoint", ["", "a"])
async def test_the_modern_era_has_no_initialize(endpoint: str) -> None:
    with pytest.raises(Refused, match="call server/discover") as caught:
        Bench().plan("initialize", era=MODERN, endpoint=endpoint)
    assert caught.value.code == "method_unknown"


async def test_initialize_opens_a_session_for_its_client_at_its_endpoint() -> None:
    bench = Bench()
    params = '{"protocolVersion":"2025-06-18","capabilities":{"roots":{}},"clientInfo":{"name":"c"}}'
    assert not bench.front.sessions.known
    answer = await bench.done("initialize", params, endpoint="a")
    result = result_of(answer)
    assert result["protocolVersion"] == "2025-06-18"
    assert result["serverInfo"] == {"name": "unit", "version": "9.9"}
    session = bench.front.sessions.known[answer.session]
    assert (session.version, session.principal, session.endpoint) == ("2025-06-18", "ada", "a")
    assert (session.capabilities, session.client_info) == (b'{"roots":{}}', b'{"name":"c"}')


async def test_initialize_on_a_stream_that_came_first_learns_who_its_client_is() -> None:
    bench, session = Bench(), session_of()
    session.initialized = False
    params = '{"protocolVersion":"2024-11-05","capabilities":{"roots":{}},"clientInfo":{"name":"c"}}'
    answer = await bench.done("initialize", params, session=session)
    assert answer.session == "s"
    assert (session.version, session.capabilities, session.initialized) == ("2024-11-05", b'{"roots":{}}', True)


@pytest.mark.parametrize(
    "params",
    [
        '{"protocolVersion":5}',
        '{"protocolVersion":"2025-06-18","capabilities":[1]}',
        '{"protocolVersion":"2025-06-18","capabilities":{"x":"%s"}}' % ("y" * 20_000),
    ],
)
async def test_an_initialize_that_is_not_in_order_opens_nothing(params: str) -> None:
    bench = Bench()
    assert bench.refused("initialize", params) == "invalid_params"
    assert not bench.front.sessions.known


async def test_lists_are_paged_and_are_those_of_the_view() -> None:
    bench = Bench()
    for params in ("", "{}", '{"cursor":null}'):
        first = bench.result("tools/list", params)
        assert [one["name"] for one in first["tools"]] == ["echo", "where"]
    second = bench.result("tools/list", json.dumps({"cursor": first["nextCursor"]}))
    assert [one["name"] for one in second["tools"]] == ["b__echo"]
    alone = bench.result("tools/list", era=MODERN, endpoint="b")
    assert [one["name"] for one in alone["tools"]] == ["echo"]
    assert alone["resultType"] == "complete"


@pytest.mark.parametrize("cursor", ["5", '"nonsense"', "{}", "false"])
async def test_a_bad_cursor_is_invalid_params(cursor: str) -> None:
    assert Bench().refused("tools/list", f'{{"cursor":{cursor}}}') == "invalid_params"


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
async def test_a_call_without_a_known_tool_is_refused(params: str, code: str) -> None:
    assert Bench().refused("tools/call", params) == code


@pytest.mark.parametrize(
    ("method", "params", "endpoint"),
    [
        ("tools/call", '{"name":"nothing"}', ""),
        ("prompts/get", '{"name":"nothing"}', "a"),
        ("tools/list", "", "nobody"),
        ("resources/list", "", "nobody"),
    ],
)
@pytest.mark.parametrize("era", Era)
async def test_before_a_name_is_unknown_or_a_list_empty_the_registry_is_asked_for_news(
    method: str, params: str, endpoint: str, era: Era
) -> None:
    assert Bench().plan(method, params, era, endpoint, fresh=False) is Waits.CATALOGUE
    assert Bench().plan("tools/call", '{"name":"echo"}', era, fresh=False) is not Waits.CATALOGUE


@pytest.mark.parametrize(
    ("name", "endpoint", "group", "sent"),
    [
        ("echo", "", "a", b'{"name":"echo","arguments":{"x":1.0}}'),
        ("b__echo", "", "b", b'{"name":"echo","arguments":{"x":1.0}}'),
        ("a__echo", "", "a", b'{"name":"echo","arguments":{"x":1.0}}'),
        ("echo", "b", "b", b'{"name":"echo","arguments":{"x":1.0}}'),
    ],
)
async def test_a_call_goes_to_its_group_under_its_own_name(name: str, endpoint: str, group: str, sent: bytes) -> None:
    call = Bench().sent("tools/call", f'{{"name":"{name}","arguments":{{"x":1.0}}}}', MODERN, endpoint)
    assert (call.route.group, call.group, bytes(call.params), call.name) == (group, group, sent, "echo")
    assert (call.method, call.era, call.id, call.principal) == ("tools/call", MODERN, b'"q"', "ada")
    assert (call.token, call.headers, call.affinity) == (b"", None, ANYWHERE)
    assert (call.attempts, call.started_at) == (0, 0.0)


async def test_the_progress_token_goes_along() -> None:
    assert Bench().sent("tools/call", '{"name":"echo","_meta":{"progressToken":"p1"}}').token == b'"p1"'
    params = '{"name":"echo","_meta":{"progressToken":"%s"}}' % ("p" * 2000)
    assert Bench().refused("tools/call", params) == "invalid_params"


async def test_a_modern_client_must_mirror_annotated_arguments() -> None:
    params = '{"name":"where","arguments":{"r":"eu"}}'
    for wrong in ({}, {"mcp-param-region": "us"}):
        assert Bench().refused("tools/call", params, MODERN, headers=wrong) == "header_mismatch"
    call = Bench().sent("tools/call", params, MODERN, headers={"mcp-param-region": "eu"})
    assert call.headers == {"Mcp-Param-Region": "eu"}


async def test_for_a_legacy_client_the_gateway_mirrors_them() -> None:
    bench = Bench()
    calls = [
        bench.sent("tools/call", params) for params in ('{"name":"where","arguments":{"r":"eu"}}', '{"name":"where"}')
    ]
    assert [call.headers for call in calls] == [{"Mcp-Param-Region": "eu"}, {}]


# ---- where a call must go


async def test_a_call_of_a_session_goes_where_its_upstream_session_is() -> None:
    bench = Bench(
        record("own", sequence=1, tools=["own"], isolation="client", transport="stdio"),
        record("all", sequence=2, tools=["all"]),
    )
    session = session_of()
    own, shared = (bench.sent("tools/call", f'{{"name":"{name}"}}', session=session) for name in ("own", "all"))
    assert (own.affinity, own.session) == (Bound(session), session)
    assert (shared.affinity, shared.session) == (ANYWHERE, session)
    assert bench.sent("tools/call", '{"name":"own"}', MODERN).affinity == ANYWHERE


def _state(upstream: str, principal: str = "ada", parked: str = "", expires: float = 1e12) -> str:
    state = request_state.RequestState(expires, upstream, "w1", principal, b"", parked)
    return request_state.seal(KEY, state)


@pytest.mark.parametrize("parked", ["", "call-1"])
async def test_a_request_that_goes_on_goes_to_who_asked(parked: str) -> None:
    params = json.dumps({"name": "echo", "requestState": _state("a", parked=parked)})
    assert Bench().sent("tools/call", params, MODERN).affinity == Exact("a", "w1", bool(parked))
    assert Bench().sent("tools/call", params, LEGACY).affinity == ANYWHERE, "it means nothing there"


@pytest.mark.parametrize(
    "state",
    ["", "nonsense", _state("a", principal="bob"), _state("a", expires=1.0), _state("b"), _state("gone")],
    ids=["empty", "nonsense", "of another caller", "expired", "of another upstream", "of an upstream that is gone"],
)
async def test_a_request_state_that_does_not_fit_is_invalid_params(state: str) -> None:
    params = json.dumps({"name": "echo", "requestState": state})
    assert Bench().refused("tools/call", params, MODERN) == "invalid_params"


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
    for era in Era:
        page = bench.result(method, era=era)
        assert [one[key] for one in page[member]] == keys
        assert ("nextCursor" in page) is (method == "resources/list")
        assert page.get("resultType") == (None if era is LEGACY else "complete")
    assert bench.refused(method, '{"cursor":"nonsense"}') == "invalid_params"


@pytest.mark.parametrize(
    ("name", "endpoint", "group"),
    [("ask", "", "a"), ("b__ask", "", "b"), ("a__ask", "", "a"), ("ask", "b", "b")],
)
async def test_a_prompt_is_got_from_its_group_under_its_own_name(name: str, endpoint: str, group: str) -> None:
    params = f'{{"name":"{name}","arguments":{{"x":"1"}},"_meta":{{"progressToken":7}}}}'
    call = Bench().sent("prompts/get", params, endpoint=endpoint)
    assert (call.route.group, call.method, call.name, call.token) == (group, "prompts/get", "ask", b"7")
    assert bytes(call.params) == b'{"name":"ask","arguments":{"x":"1"},"_meta":{"progressToken":7}}'


@pytest.mark.parametrize("name", ["echo", "c__ask", "b__echo", "file:///r"])
async def test_an_unknown_prompt_is_invalid_params(name: str) -> None:
    with pytest.raises(Refused) as caught:
        Bench().plan("prompts/get", json.dumps({"name": name}))
    assert (caught.value.wire.rpc, caught.value.data["prompt"]) == (-32602, name)


# ---- resources


@pytest.mark.parametrize(
    ("uri", "endpoint", "group", "own"),
    [
        ("file:///r", "", "a", "file:///r"),
        ("urn:r", "", "a", "urn:r"),
        ("file://b__/r", "", "b", "file:///r"),
        ("file://a__/r", "", "a", "file:///r"),
        ("b__urn:r", "", "b", "urn:r"),
        ("file:///r", "b", "b", "file:///r"),
    ],
)
async def test_a_listed_resource_is_read_from_its_group_under_its_own_uri(
    uri: str, endpoint: str, group: str, own: str
) -> None:
    call = Bench().sent("resources/read", f'{{"k":1.0,"uri":"{uri}"}}', endpoint=endpoint)
    assert (call.route.group, call.name) == (group, own)
    assert bytes(call.params) == b'{"k":1.0,"uri":"%b"}' % own.encode()
    assert call.listed_name == ("" if own == uri else uri)


@pytest.mark.parametrize(("era", "code", "status"), [(LEGACY, -32002, 200), (MODERN, -32602, 400)])
@pytest.mark.parametrize("uri", ["nowhere://x", "relative", "", "NOWHERE:é"])
async def test_an_unknown_resource_is_worded_for_its_era(era: Era, code: int, status: int, uri: str) -> None:
    plan = Bench().plan("resources/read", json.dumps({"uri": uri}), era)
    assert isinstance(plan, OneOf) and plan.calls() == []
    body = json.loads(plan.unknown.whole)
    assert (body["jsonrpc"], body["id"]) == ("2.0", "q")
    assert plan.unknown.rpc_code == body["error"]["code"] == code
    assert plan.unknown.status == status
    assert body["error"]["data"] == {"uri": uri}


async def test_a_huge_unknown_uri_is_not_repeated_back() -> None:
    plan = Bench().plan("resources/read", json.dumps({"uri": "nowhere:" + "x" * 100_000}))
    assert isinstance(plan, OneOf) and len(plan.unknown.whole) < 1024


async def test_a_resource_that_the_endpoint_does_not_show_is_unknown() -> None:
    plan = Bench().plan("resources/read", '{"uri":"file:///r"}', endpoint="c")
    assert isinstance(plan, OneOf) and plan.calls() == [] and plan.unknown.rpc_code == -32002


@pytest.mark.parametrize("params", ["", "{}", '{"uri":5}', '{"uri":null}', '{"name":"file:///r"}'])
async def test_a_read_without_a_uri_is_invalid_params(params: str) -> None:
    assert Bench().refused("resources/read", params) == "invalid_params"


READERS = (
    record("a", sequence=1, resources=["db://listed"]),
    record("b", sequence=2, templates=["db://{t}/{+id}"]),
    record("c", sequence=3, templates=["db://users/{id}"]),
    record("d", sequence=4, resources=["file:///r"]),
)


async def test_an_unlisted_resource_is_planned_for_those_who_may_know_it() -> None:
    plan = Bench(*READERS).plan("resources/read", '{"uri":"db://users/7"}')
    assert isinstance(plan, OneOf)
    assert [call.group for call in plan.calls()] == ["c", "b", "a"]
    assert {(bytes(call.params), call.name) for call in plan.calls()} == {(b'{"uri":"db://users/7"}', "db://users/7")}


async def test_a_read_that_goes_on_goes_to_the_one_that_it_belongs_to() -> None:
    state = _state("b")
    params = json.dumps({"uri": "db://users/7", "requestState": state})
    plan = Bench(*READERS).plan("resources/read", params, MODERN)
    assert isinstance(plan, OneOf)
    assert [(call.group, call.affinity) for call in plan.calls()] == [("b", Exact("b", "w1", False))]
    foreign = json.dumps({"uri": "db://users/7", "requestState": _state("d")})
    assert Bench(*READERS).refused("resources/read", foreign, MODERN) == "invalid_params"


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
    call = Bench().sent("completion/complete", _completion(**given))
    assert (call.route.group, call.method) == (group, "completion/complete")
    assert json.loads(bytes(call.params)) == json.loads(_completion(**{**given, **own}))


async def test_a_completion_under_the_own_name_is_the_clients_bytes() -> None:
    params = '{ "argument":{"n":1.0}, "ref":{"name":"ask" , "type":"ref/prompt"},"_meta":{"progressToken":"p"} }'
    call = Bench().sent("completion/complete", params)
    assert (bytes(call.params), call.token) == (params.encode(), b'"p"')


@pytest.mark.parametrize("era", Era)
@pytest.mark.parametrize(
    "given",
    [
        {"type": "ref/prompt", "name": "nothing"},
        {"type": "ref/prompt", "name": "echo"},
        {"type": "ref/resource", "uri": "db://users/7"},
        {"type": "ref/resource", "uri": "file:///r"},
    ],
)
async def test_for_an_unknown_reference_there_is_nothing_to_suggest(era: Era, given: Any) -> None:
    result = Bench().result("completion/complete", _completion(**given), era)
    assert result.pop("resultType", None) == (None if era is LEGACY else "complete")
    assert result == {"completion": {"values": [], "total": 0, "hasMore": False}}


@pytest.mark.parametrize(
    "params",
    ["", "{}", '{"ref":5}', '{"ref":null}', '{"ref":{"type":"ref/prompt"}}', '{"ref":{"type":"ref/prompt","uri":"x"}}'],
)
async def test_a_completion_without_a_reference_is_invalid_params(params: str) -> None:
    assert Bench().refused("completion/complete", params) == "invalid_params"


@pytest.mark.parametrize(
    "params",
    ['{"ref":{"type":"ref/prompt","name":"secret","name":"ask"},"argument":{"name":"n","value":"v"}}',
     '{"ref":{"type":"ref/prompt","n\\u0061me":"secret","name":"ask"},"argument":{"name":"n","value":"v"}}',
     '{"ref":{"type":"ref/prompt","Name":"secret","name":"ask"},"argument":{"name":"n","value":"v"}}',
     '{"ref":{"type":"ref/prompt","name":"ask"},"argument":{"name":"hidden","name":"n","value":"v"}}'],
)  # fmt: skip
async def test_a_completion_names_one_thing(params: str) -> None:
    assert Bench().refused("completion/complete", params) == "invalid_request"


@pytest.mark.parametrize("name", ["_" * 5_000_000, "a__" * 1_000_000])
async def test_a_name_of_millions_of_separators_is_an_unknown_one(name: str) -> None:
    code = Bench().refused("tools/call", json.dumps({"name": name, "arguments": {}}))
    assert code in ("tool_unknown", "catalogue")
    plan = Bench().plan("resources/read", json.dumps({"uri": f"x://{name}"}))
    assert isinstance(plan, OneOf) and plan.calls() == []


# ---- what sessions ask for


@pytest.mark.parametrize("method", ["resources/subscribe", "resources/unsubscribe"])
async def test_a_subscription_belongs_to_a_session(method: str) -> None:
    bench = Bench()
    assert bench.refused(method, '{"uri":"x:y"}') == "invalid_request"
    assert bench.refused(method, "{}", session=session_of()) == "invalid_params"
    assert bench.refused(method, json.dumps({"uri": "x" * 70_000}), session=session_of()) == "invalid_params"
    assert result_of(await bench.done(method, '{"uri":"x:y"}', session=session_of())) == {}
    assert bench.subscriptions.noted == [(method.partition("/")[2], "s", "x:y")]


async def test_a_subscription_that_no_upstream_agrees_to_is_an_error() -> None:
    answer = await Bench().done("resources/subscribe", '{"uri":"no:such"}', session=session_of())
    assert json.loads(answer.whole)["error"] == {"code": -32002, "message": "no"}


@pytest.mark.parametrize("params", ["", '{"level":5}', '{"level":"loud"}'])
async def test_a_log_level_is_one_of_the_known_words(params: str) -> None:
    assert Bench().refused("logging/setLevel", params, session=session_of()) == "invalid_params"


async def test_a_log_level_is_told_to_the_upstream_sessions_that_are_the_clients_own() -> None:
    own = record("own", sequence=1, tools=["x"], capabilities={"logging": {}}, isolation="client", transport="stdio")
    shared = record("all", sequence=2, tools=["y"], capabilities={"logging": {}})
    bench = Bench(own, shared, record("mute", sequence=3, isolation="client", transport="stdio"))
    bench.front.upstream("own", result())
    session = session_of()
    assert result_of(await bench.done("logging/setLevel", '{"level":"info"}', session=session)) == {}
    assert bench.subscriptions.noted == [("level", "s", "info")]
    assert [(head.upstream, head.method) for head in bench.front.worker.fake.calls] == [("own", "logging/setLevel")]
    assert result_of(await bench.done("logging/setLevel", '{"level":"info"}')) == {}, "nobody to tell without a session"


# ---- what the gateway does not know


async def test_an_unknown_method_goes_on_only_at_the_endpoint_of_a_group() -> None:
    bench = Bench()
    call = bench.sent("x/y", '{"z":1.0}', endpoint="b")
    assert (call.route.group, call.method, bytes(call.params)) == ("b", "x/y", b'{"z":1.0}')
    assert bench.refused("x/y", endpoint="c") == bench.refused("x/y") == "method_unknown"
    assert bench.refused("x" * 300, endpoint="b") == "method_unknown"
    for ours in ("initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"):
        assert bench.refused(ours, era=MODERN, endpoint="b") == "method_unknown"


async def test_a_task_is_looked_for_again_before_its_upstream_is_said_to_be_gone() -> None:
    """The tool may have been called by way of a front end that knew of its upstream before this one does."""
    bench = Bench()
    declared: dict[str, Any] = {"io.modelcontextprotocol/clientCapabilities": {"extensions": {tasks.EXTENSION: {}}}}

    def asked(upstream: str, principal: str = "ada") -> str:
        id = task_ids.seal(KEY, task_ids.TaskId(upstream, principal, "1", "echo"))
        return json.dumps({"taskId": id, "_meta": declared})

    assert bench.plan("tasks/get", asked("new"), era=MODERN, fresh=False) is Waits.CATALOGUE
    assert bench.refused("tasks/get", asked("new"), era=MODERN) == "invalid_params"
    assert bench.sent("tasks/get", asked("a"), era=MODERN, fresh=False).affinity == Only("a")
    with pytest.raises(Refused, match="not yours"):
        bench.plan("tasks/get", asked("new", "eve"), era=MODERN, fresh=False)
