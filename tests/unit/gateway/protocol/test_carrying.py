"""``gateway.protocol.carrying``: from a plan to an answer, and each call is ended once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.calls.events import Answered, Failure, Interim
from gateway.protocol.answers import Answer
from gateway.protocol.carrying import Started
from shared.errors import NotDelivered
from shared.mcp.versions import Era
from tests.unit.builders import record
from tests.unit.gateway.fakes import Frame, error, failed, result, told
from tests.unit.gateway.protocol.bench import LEGACY, MODERN, Bench

ECHO = '{"name":"echo"}'


async def _answer(answers: list[Frame], method: str, params: str, era: Era = LEGACY) -> tuple[Bench, Answer]:
    """The answer to a request, when upstreams answer so."""
    bench = Bench()
    for id in ("a", "b"):
        bench.front.upstream(id, answers)
    answer = await bench.answer(method, params, era)
    assert not bench.front.dispatcher.under_way, "the call is over"
    return bench, answer


@pytest.mark.parametrize("era", Era)
async def test_a_small_answer_is_the_upstreams_bytes(era: Era) -> None:
    bench, answer = await _answer(result(b'{ "content": [ ], "n": 1.0 }'), "tools/call", ECHO, era)
    assert answer == Answer((b'{"jsonrpc":"2.0","id":"q","result":{ "content": [ ], "n": 1.0 }}',))
    counters = bench.counters
    assert (counters.calls, counters.errors, counters.failures, sum(counters.buckets)) == (1, 0, {}, 1)
    assert bench.front.registry.catalog.groups["a"].replicas[0].in_flight == 0


async def test_a_large_answer_is_not_copied_into_one() -> None:
    body = b'{"content":[%b]}' % (b"1," * 50_000 + b"1")
    _, answer = await _answer(result(body), "tools/call", ECHO)
    assert answer.body[1] is not None and len(answer.body) == 3
    assert answer.whole == b'{"jsonrpc":"2.0","id":"q","result":%b}' % body


@pytest.mark.parametrize(
    ("raw", "code", "status"),
    [
        (b'{"code":-5,"message":"m"}', -5, 200),
        (b'{"code":-32602,"message":"m"}', -32602, 400),
        (b'{"code":-32601,"message":"m"}', -32601, 404),
        (b'{"code":"x"}', -32603, 200),
        (b"[]", -32603, 200),
        (b"{}", 0, 200),
    ],
)
@pytest.mark.parametrize("era", Era)
async def test_an_upstreams_error_is_passed_on_and_counted(raw: bytes, code: int, status: int, era: Era) -> None:
    bench, answer = await _answer(error(raw), "tools/call", ECHO, era)
    assert answer == Answer((b'{"jsonrpc":"2.0","id":"q","error":%b}' % raw,), status if era is MODERN else 200, code)
    assert (bench.counters.calls, bench.counters.errors) == (1, 1)


async def test_a_call_with_something_before_its_answer_is_a_stream() -> None:
    bench = Bench()
    bench.front.upstream("a", told(b'{"x":1}'))
    started = await bench.carried("tools/call", ECHO)
    assert isinstance(started, Started)
    assert (started.id, started.era, started.event) == (b'"q"', LEGACY, Interim(b'{"x":1}'))
    assert list(bench.front.dispatcher.under_way) == [started.in_flight]
    assert bench.counters.calls == 0


async def test_a_call_that_failed_for_good_is_counted_and_raised() -> None:
    bench = Bench(max_in_flight=0)
    with pytest.raises(NotDelivered) as caught:
        await bench.carried("tools/call", ECHO)
    assert caught.value.code == "overloaded"
    assert (bench.counters.calls, bench.counters.failures) == (1, {"overloaded": 1})
    assert bench.front.asked == []


@pytest.mark.parametrize("era", Era)
async def test_a_failure_after_the_stream_began_names_the_upstream(era: Era) -> None:
    bench = Bench()
    bench.front.upstream("a", told())
    started = await bench.carried("tools/call", ECHO, era)
    assert isinstance(started, Started)
    event = Failure("timeout", "too slow", True, {"k": "v"})
    answer = bench.carrier.fail(b"7", era, started.in_flight, event)
    body = json.loads(answer.whole)
    assert body["id"] == 7
    assert body["error"]["message"] == "upstream 'a': too slow"
    assert body["error"]["data"] == {"code": "timeout", "k": "v", "upstream": "a"}
    assert answer.rpc_code == body["error"]["code"] == -31004
    assert (bench.counters.failures, bench.counters.errors, bench.counters.calls) == ({"timeout": 1}, 0, 1)
    assert not bench.front.dispatcher.under_way
    bench.carrier.fail(b"7", era, started.in_flight, event)
    bench.carrier.leave(started.in_flight)
    assert bench.counters.calls == 1, "a call ends once"


# ---- resources


CONTENTS = (
    b'{ "contents":[ {"uri":"file:///r","n":1.0},{"uri":"file:///r/sub"},'
    b'{"uri":"file:///r","text":"file:///r"}],"k":1.0}'
)


async def test_a_resource_under_its_own_uri_is_the_upstreams_bytes() -> None:
    _, answer = await _answer(result(CONTENTS), "resources/read", '{"uri":"file:///r"}')
    assert answer == Answer((b'{"jsonrpc":"2.0","id":"q","result":%b}' % CONTENTS,))


async def test_the_contents_of_a_renamed_resource_say_the_uri_that_was_asked_for() -> None:
    bench, answer = await _answer(result(CONTENTS), "resources/read", '{"uri":"file://b__/r"}')
    assert bench.front.asked == ["b"]
    assert json.loads(answer.whole)["result"] == {
        "contents": [
            {"uri": "file://b__/r", "n": 1.0},
            {"uri": "file:///r/sub"},
            {"uri": "file://b__/r", "text": "file:///r"},
        ],
        "k": 1.0,
    }
    assert answer.whole.count(b"1.0") == 2


@pytest.mark.parametrize("odd", [b"{}", b"[]", b'{"contents":5}', b'{"contents":[5]}', b'{"contents":[{"uri":5}]}'])
async def test_a_renamed_resource_without_contents_passes_as_it_is(odd: bytes) -> None:
    _, answer = await _answer(result(odd), "resources/read", '{"uri":"file://b__/r"}')
    assert answer.whole == b'{"jsonrpc":"2.0","id":"q","result":%b}' % odd


async def test_the_error_for_a_renamed_resource_is_passed_on() -> None:
    raw = b'{"code":-32000,"message":"m","data":{"uri":"file:///r"}}'
    _, answer = await _answer(error(raw), "resources/read", '{"uri":"file://b__/r"}')
    assert answer == Answer((b'{"jsonrpc":"2.0","id":"q","error":%b}' % raw,), 200, -32000)


async def test_a_started_read_carries_its_readdressing_along() -> None:
    bench = Bench()
    for id in ("a", "b"):
        bench.front.upstream(id, told())
    plain = await bench.carried("resources/read", '{"uri":"file:///r"}')
    renamed = await bench.carried("resources/read", '{"uri":"file://b__/r"}')
    assert isinstance(plain, Started) and isinstance(renamed, Started)
    assert plain.in_flight.call.listed_name == ""
    answer = bench.carrier.answer(b'"q"', LEGACY, renamed.in_flight, Answered(False, CONTENTS))
    assert json.loads(answer.whole)["result"]["contents"][0]["uri"] == "file://b__/r"


READERS = (
    record("a", sequence=1, resources=["db://listed"]),
    record("b", sequence=2, templates=["db://{t}/{+id}"]),
    record("c", sequence=3, templates=["db://users/{id}"]),
    record("d", sequence=4, resources=["file:///r"]),
)
BODY = b'{"contents":[{"uri":"db://users/7"}]}'
FOUND = result(BODY)
OLD, NEW = error(b'{"code":-32002,"message":"no"}'), error(b'{"code":-32602,"message":"no"}')
BROKEN, DOWN = error(b'{"code":-32603,"message":"broken"}'), failed("cancelled", False)
READ = ("resources/read", '{"uri":"db://users/7"}')


@pytest.mark.parametrize(
    ("answers", "asked", "code"),
    [
        ({"c": FOUND}, "c", 0),
        ({"c": OLD, "b": FOUND}, "cb", 0),
        ({"c": NEW, "b": FOUND}, "cb", 0),
        ({"c": OLD, "b": NEW, "a": FOUND}, "cba", 0),
        ({"c": BROKEN, "b": FOUND}, "c", -32603),
        ({"c": DOWN, "b": FOUND}, "cb", 0),
        ({"c": OLD, "b": OLD, "a": OLD}, "cba", -32002),
        ({"c": NEW, "b": NEW, "a": NEW}, "cba", -32002),
    ],
)
async def test_an_unlisted_resource_is_asked_for_one_after_another(answers: Any, asked: str, code: int) -> None:
    bench = Bench(*READERS)
    for id, frames in answers.items():
        bench.front.upstream(id, frames)
    answer = await bench.answer(*READ)
    assert "".join(bench.front.asked) == asked
    assert answer.rpc_code == code
    assert bench.counters.calls == len(asked) and not bench.front.dispatcher.under_way
    if not code:
        assert answer.whole == b'{"jsonrpc":"2.0","id":"q","result":%b}' % BODY


async def test_when_nobody_knows_a_resource_and_one_could_not_be_asked_that_is_said() -> None:
    bench = Bench(*READERS)
    for id, frames in {"c": OLD, "b": DOWN, "a": NEW}.items():
        bench.front.upstream(id, frames)
    with pytest.raises(NotDelivered, match="upstream 'b'"):
        await bench.carried(*READ)
    assert bench.front.asked == ["c", "b", "a"]


async def test_an_unlisted_resource_that_streams_has_been_found() -> None:
    bench = Bench(*READERS)
    bench.front.upstream("c", told())
    assert isinstance(await bench.carried(*READ), Started)
    assert bench.front.asked == ["c"]


@pytest.mark.parametrize("era", Era)
async def test_the_only_one_that_was_asked_says_itself_that_it_does_not_know(era: Era) -> None:
    bench = Bench(record("a", templates=["db://users/{id}"]))
    raw = b'{"code":%d,"message":"users are gone","data":{"uri":"db://users/7","why":"x"}}' % (
        -32602 if era is MODERN else -32002
    )
    bench.front.upstream("a", error(raw))
    answer = await bench.answer("resources/read", '{"uri":"db://users/7"}', era)
    assert b'"error":' + raw in answer.whole
