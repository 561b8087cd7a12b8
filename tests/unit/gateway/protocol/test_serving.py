"""``gateway.protocol.serving``: both lanes take the same steps, one as far as nothing has to be awaited."""

from __future__ import annotations

import json

import pytest

from gateway.access.principal import Principal
from gateway.admission.admit import Admission
from gateway.admission.caller import Waits
from gateway.admission.principals import Everybody, Principals
from gateway.admission.request_head import RequestHead
from gateway.admission.routing_headers import RoutingHeaders
from gateway.protocol.answers import Answer
from gateway.protocol.plans import Listen
from gateway.protocol.serving import BegunRequest, Serving
from shared.errors import Refused
from shared.mcp import jsonrpc
from tests.unit.builders import record
from tests.unit.gateway.fakes import result, told
from tests.unit.gateway.protocol.bench import Bench

LEGACY_HEAD = RequestHead(RoutingHeaders())
META = (
    '{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}'
)


def modern_head(method: str, name: str | None = None) -> RequestHead:
    """The head of a modern request that is in order."""
    return RequestHead(RoutingHeaders("2026-07-28", method, name, name))


class Served:
    """``Serving`` over a bench; ``principals`` tells who asks."""

    def __init__(self, bench: Bench, principals: Principals | None = None) -> None:
        self.bench = bench
        registry, sessions = bench.front.registry, bench.front.sessions
        principals = principals or Everybody()
        admission = Admission(principals, registry.views, sessions)
        self.serving = Serving(admission, principals, bench.methods, bench.carrier, registry, sessions, bench.own_lists)

    def begin(self, head: RequestHead, method: str, params: str = "{}") -> Answer | BegunRequest | None:
        """As the express lane asks, with the body behind something else."""
        body = jsonrpc.request(b'"q"', method, params.encode())
        return self.serving.begin(head, b"before" + body, len(b"before"))

    async def serve(self, head: RequestHead, method: str, params: str = "{}") -> object:
        """As the ordinary lane asks."""
        message = jsonrpc.decode(jsonrpc.request(b'"q"', method, params.encode()))
        decoded = jsonrpc.decode_params(message)
        caller = await self.serving.admitted(head, message, decoded)
        return await self.serving.serve(head, message, decoded, caller)


async def test_what_needs_no_waiting_is_answered_alike_by_both_lanes() -> None:
    served = Served(Bench())
    for head, method, params in (
        (LEGACY_HEAD, "ping", "{}"),
        (LEGACY_HEAD, "tools/list", "{}"),
        (modern_head("server/discover"), "server/discover", META),
        (LEGACY_HEAD, "completion/complete", '{"ref":{"type":"ref/prompt","name":"nothing"}}'),
    ):
        answer = served.begin(head, method, params)
        assert isinstance(answer, Answer) and answer.rpc_code == 0
        assert await served.serve(head, method, params) == answer


async def test_a_call_that_is_begun_is_gone_on_with_and_sent_once() -> None:
    served = Served(Bench())
    served.bench.front.upstream("a", result(b'{"n":1.0}'))
    exchange = served.begin(LEGACY_HEAD, "tools/call", '{"name":"echo"}')
    assert isinstance(exchange, BegunRequest) and exchange.id == b'"q"'
    answer = await served.serving.go_on(exchange)
    assert isinstance(answer, Answer) and answer.whole == b'{"jsonrpc":"2.0","id":"q","result":{"n":1.0}}'
    assert served.bench.front.asked == ["a"] and served.bench.counters.calls == 1


async def test_an_unknown_name_asks_the_registry_before_it_is_refused() -> None:
    served = Served(Bench())
    params = '{"name":"nothing"}'
    assert served.begin(LEGACY_HEAD, "tools/call", params) is None, "that takes time"
    with pytest.raises(Refused) as caught:
        await served.serve(LEGACY_HEAD, "tools/call", params)
    assert caught.value.code == "tool_unknown"


async def test_what_the_registry_had_news_of_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    served = Served(Bench())
    front = served.bench.front
    front.upstream("new", result())

    async def news() -> None:
        front.take(record("new", tools=["fresh"]))

    monkeypatch.setattr(front.registry, "catch_up", news)
    answer = await served.serve(LEGACY_HEAD, "tools/call", '{"name":"fresh"}')
    assert isinstance(answer, Answer) and answer.rpc_code == 0
    assert front.asked == ["new"]


@pytest.mark.parametrize("method", ["subscriptions/listen", "resources/read", "initialize"])
async def test_what_takes_time_is_left_to_the_ordinary_lane(method: str) -> None:
    served = Served(Bench())
    head = modern_head(method) if method == "subscriptions/listen" else LEGACY_HEAD
    params = META if method == "subscriptions/listen" else '{"uri":"no:where","protocolVersion":"2025-11-25"}'
    assert served.begin(head, method, params) is None
    reply = await served.serve(head, method, params)
    assert isinstance(reply, Listen if method == "subscriptions/listen" else Answer)


@pytest.mark.parametrize(
    ("head", "method", "params", "code", "status"),
    [
        (LEGACY_HEAD, "nothing/here", "{}", -32601, 200),
        (modern_head("nothing/here"), "nothing/here", META, -32601, 404),
        (modern_head("other"), "tools/list", META, -32020, 400),
        (LEGACY_HEAD, "tools/call", "[1]", -32602, 400),
        (RequestHead(RoutingHeaders(), refusal=("forbidden", "no")), "ping", "{}", -31009, 403),
    ],
)
async def test_a_refusal_is_worded_for_its_era_and_names_the_request(
    head: RequestHead, method: str, params: str, code: int, status: int
) -> None:
    answer = Served(Bench()).begin(head, method, params)
    assert isinstance(answer, Answer)
    body = json.loads(answer.whole)
    assert (body["id"], body["error"]["code"], answer.rpc_code, answer.status) == ("q", code, code, status)


@pytest.mark.parametrize(
    "body", [b'{"jsonrpc":"2.0","method":"notifications/initialized"}', b'{"jsonrpc":"2.0","id":1,"result":{}}']
)
async def test_what_is_no_request_is_left_to_the_ordinary_lane(body: bytes) -> None:
    assert Served(Bench()).serving.begin(LEGACY_HEAD, body, 0) is None


class Tokens:
    """``Principals`` by bearer tokens, of which each has to be looked up once."""

    def __init__(self, **known: str) -> None:
        self.known = known
        self.checked: dict[str, str] = {}

    def of(self, head: RequestHead) -> Principal | Waits:
        token = (head.authorization or "").removeprefix("Bearer ")
        if token not in self.checked:
            return Waits.PRINCIPAL
        if not self.checked[token]:
            raise Refused("forbidden", "unknown token")
        return Principal(self.checked[token], "user")

    def step_up(self, head: RequestHead, scopes: tuple[str, ...], text: str) -> str:
        return ""

    async def resolve(self, head: RequestHead) -> None:
        token = (head.authorization or "").removeprefix("Bearer ")
        self.checked[token] = self.known.get(token, "")


async def test_an_authentication_method_is_one_class_and_both_lanes_ask_it() -> None:
    tokens = Tokens(secret="ada")
    served = Served(Bench(), tokens)
    served.bench.front.upstream("a", result())
    head = RequestHead(RoutingHeaders(), authorization="Bearer secret")
    assert served.begin(head, "tools/call", '{"name":"echo"}') is None, "the token has to be looked up first"
    await served.serving.check_head(head)
    begun = served.begin(head, "tools/call", '{"name":"echo"}')
    assert isinstance(begun, BegunRequest) and begun.caller.principal.id == "ada"
    assert begun.in_flight.call.principal == "ada", "whoever was admitted is served"
    stranger = RequestHead(RoutingHeaders(), authorization="Bearer guessed")
    with pytest.raises(Refused):
        await served.serving.check_head(stranger)
    answer = served.begin(stranger, "ping")
    assert isinstance(answer, Answer) and answer.status == 403
    assert "secret" not in repr(head)


@pytest.mark.parametrize("method", ["prompts/list", "resources/list", "tools/list"])
async def test_a_list_is_answered_from_memory_also_where_there_are_no_tools(
    method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = Served(Bench(record("docs", sequence=1, prompts=["p"]), record("t", sequence=2, tools=["x"])))

    async def never() -> None:
        raise AssertionError("Redis was asked")

    monkeypatch.setattr(served.bench.front.registry, "catch_up", never)
    head = RequestHead(RoutingHeaders(), endpoint="docs")
    assert isinstance(await served.serve(head, method), Answer)


class BrokenTaker:
    """``serving.MessageTaker`` that fails at the first message."""

    async def send(self, message: bytes, dropped: int) -> None:
        raise RuntimeError("broken")

    async def finish(self, body: bytes, dropped: int) -> None:
        raise AssertionError

    async def comment(self) -> None:
        raise AssertionError


async def test_a_call_whose_taker_fails_is_over() -> None:
    bench = Bench()
    served = Served(bench)
    bench.front.upstream("a", told(b'{"jsonrpc":"2.0","method":"x"}'))
    message = jsonrpc.decode(jsonrpc.request(b"1", "tools/call", b'{"name":"echo"}'))
    caller = await served.serving.admitted(LEGACY_HEAD, message)
    with pytest.raises(RuntimeError, match="broken"):
        await served.serving.serve_to(BrokenTaker(), LEGACY_HEAD, message, caller)
    assert not bench.front.dispatcher.under_way


async def test_an_answer_and_a_request_show_no_arguments_and_no_session_id() -> None:
    bench = Bench()
    begun = Served(bench).begin(LEGACY_HEAD, "tools/call", '{"name":"echo","arguments":{"key":"hunter2"}}')
    headers = RoutingHeaders(parameters=(("mcp-param-key", "hunter2"),))
    shown = repr((begun, bench.sent("tools/call", '{"name":"echo","arguments":{"key":"hunter2"}}'), headers))
    assert "hunter2" not in shown and "echo" in shown
    assert "hunter2" not in repr(Answer((b"hunter2",), session="hunter2"))
