"""One trace from the client to the upstream, as a collector gets it from a real fleet: who is whose parent, what is
said of retries, questions, waiting and errors, and what is never said."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from mcp.client.client import Client
from mcp.types import ElicitResult

from tests.clients import RawClient
from tests.collector import Collector, Span, tree
from tests.e2e.test_up import run, running
from tests.fleet import Fleet, SdkServer, eventually, stdio_connection
from tests.servers.asking import form
from tests.servers.raw import RawUpstreams
from tests.servers.scripted import Exchange, Scripted, said

CLOCK_S = 0.01
"""How far two processes may differ about when something began: a loop knows the time to the millisecond."""
ROOT = "00f067aa0ba902b7"
_numbers = iter(range(1, 1000))


def fresh(flags: str = "01") -> tuple[str, str]:
    """A trace id, and a ``traceparent`` of it."""
    trace = f"4bf92f3577b34da6a3ce929d{next(_numbers):08x}"
    return trace, f"00-{trace}-{ROOT}-{flags}"


@contextlib.contextmanager
def variables(collector: Collector, **more: str) -> Iterator[None]:
    """The environment that asks for traces, for the processes that are started meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        for name, value in more.items():
            patch.setenv(name, value)
        yield


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str, collector: Collector, upstreams: RawUpstreams) -> AsyncIterator[Fleet]:
    with variables(collector, OTEL_EXPORTER_OTLP_HEADERS="x-key=hidden%20key", OTEL_SERVICE_NAME="ours"):
        async with (
            SdkServer("http", "web") as http,
            SdkServer("sse", "old") as sse,
            Fleet(redis_url, 2, 2, access_log=True, log_format="json") as fleet,
        ):
            await fleet.register("web", http.connection)
            await fleet.register("old", sse.connection)
            await fleet.register("local", stdio_connection("local"))
            for era in ("legacy", "modern"):
                upstreams.add(era, era=era)
                await fleet.register(era, upstreams.connection(era))
            for replica in ("first", "second"):
                upstreams.add(replica)
                await fleet.register(replica, upstreams.connection(replica), name="pair")
            yield fleet


WAITING = {"gateway.admit", "gateway.wait", "gateway.queue", "gateway.connect"}
"""How long a call waits is the machine's affair, unless a test makes it wait."""


async def trace_of(collector: Collector, trace: str, count: int) -> list[Span]:
    """The spans of a trace, once there are so many beside those of waiting."""

    def found() -> list[Span]:
        return [span for span in collector.of_trace(trace) if span.name not in WAITING]

    await eventually(lambda: len(found()) >= count, 15.0, f"{count} spans of {trace}")
    print("\n" + tree(collector.of_trace(trace)))
    assert len(found()) == count
    return found()


def one(spans: list[Span], kind: str, process: str = "") -> Span:
    """The one span of this kind."""
    (found,) = [s for s in spans if s.kind == kind and process in ("", s.resource["gateway.process"])]
    return found


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize("group", ["web", "old", "local"])
async def test_one_trace_from_client_to_upstream(fleet: Fleet, collector: Collector, group: str, era: str) -> None:
    trace, parent = fresh()
    async with RawClient(fleet.urls[1]) as client:
        params = {"name": f"{group}__echo", "arguments": {"text": "hush hush"}, "_meta": {"traceparent": parent}}
        if era == "modern":
            answer = await client.modern("tools/call", params, meta={"traceparent": parent})
        else:
            await client.initialize()
            answer = await client.legacy("tools/call", params)
        assert answer.content == "hush hush"
    spans = await trace_of(collector, trace, 2)
    front, worker = one(spans, "server", "frontend"), one(spans, "client", "worker")
    assert (front.parent, worker.parent) == (ROOT, front.id)
    for span in (front, worker):
        assert span.name == "tools/call echo" and not span.failed
        wanted = {
            "mcp.method.name": "tools/call",
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": "echo",
            "gateway.group": group,
            "gateway.upstream": group,
            "gateway.outcome": "answered",
        }
        assert span.facts.items() >= wanted.items()
        assert span.resource["service.name"] == "ours" and span.resource["service.instance.id"]
        assert "hush" not in repr(vars(span))
    assert front.facts["gateway.era"] == era and int(front.facts["jsonrpc.request.id"]) > 0
    assert worker.facts["network.transport"] == ("pipe" if group == "local" else "tcp")
    assert worker.facts["mcp.protocol.version"] in ("2025-11-25", "2026-07-28")
    assert ("server.address" in worker.facts) == (group != "local")
    assert front.began - CLOCK_S <= worker.began and worker.ended <= front.ended + 0.05
    assert collector.requests[-1]["x-key"] == "hidden key"


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize("sent", ["headers", "meta", "both", "none"])
async def test_the_context_goes_up_in_headers_and_meta(
    fleet: Fleet, collector: Collector, upstreams: RawUpstreams, era: str, sent: str
) -> None:
    trace, parent = fresh()
    other, other_parent = fresh()
    headers = {"traceparent": parent, "tracestate": "a=1,b=2", "baggage": "user=1"}
    meta = dict(headers)
    async with RawClient(fleet.urls[0]) as client:
        if sent == "headers":
            await client.call(f"{era}__who", headers=headers)
        elif sent == "meta":
            await client.call(f"{era}__who", meta=meta)
        elif sent == "both":
            await client.call(f"{era}__who", meta=meta, headers={"traceparent": other_parent})
        else:
            await client.call(f"{era}__who")
    arrived, lines = upstreams.endpoints[era].tool_calls[-1], upstreams.endpoints[era].headers[-1]
    upwards = arrived["params"]["_meta"]
    assert upwards["traceparent"] == lines["traceparent"]
    version, of, span_id, flags = upwards["traceparent"].split("-")
    if sent == "none":
        trace = of
        assert not {"tracestate", "baggage"} & (set(upwards) | {name.lower() for name in lines})
    else:
        for name in ("tracestate", "baggage"):
            assert upwards[name] == lines[name] == headers[name]
    assert (version, of, flags) == ("00", trace, "01") and span_id != ROOT
    spans = await trace_of(collector, trace, 2)
    front, worker = one(spans, "server"), one(spans, "client")
    assert worker.id == span_id and worker.parent == front.id
    assert front.parent == ("" if sent == "none" else ROOT)
    assert front.links == ([(other, ROOT)] if sent == "both" else [])
    assert {s.state for s in spans} == ({""} if sent == "none" else {"a=1,b=2"})


async def test_a_retry_is_seen_with_what_failed(fleet: Fleet, collector: Collector, upstreams: RawUpstreams) -> None:
    before = {name: len(upstreams.endpoints[name].tool_calls) for name in ("first", "second")}
    async with RawClient(fleet.urls[0]) as client:
        for failing in ("first", "second"):
            upstreams.endpoints[failing].behaviour = "close"
            trace, parent = fresh()
            answer = await client.call("pair__read", meta={"traceparent": parent})
            upstreams.endpoints[failing].behaviour = "ok"
            assert answer.content != failing
            if len(upstreams.endpoints[failing].tool_calls) > before[failing]:
                break  # the balancer had chosen the one that failed
    spans = await trace_of(collector, trace, 4)
    front = one(spans, "server")
    ((event, facts),) = front.events
    assert event == "gateway.attempt.failed"
    assert facts == {"gateway.attempt": 1, "gateway.upstream": failing, "error.type": "outcome_unknown"}
    assert front.facts["gateway.attempts"] == 2 and not front.failed
    (retry,) = [s for s in spans if s.name == "gateway.retry"]
    lost, good = sorted((s for s in spans if s.kind == "client"), key=lambda s: s.began)
    assert (lost.parent, retry.parent, good.parent) == (front.id, front.id, retry.id)
    assert lost.failed and lost.facts["error.type"] == "outcome_unknown"
    assert good.facts["gateway.upstream"] == retry.facts["gateway.upstream"] != failing


async def elicited(context: Any, params: Any) -> ElicitResult:
    return ElicitResult(action="accept", content={"colour": "secret blue"})


async def asks(server: Scripted, exchange: Exchange) -> dict[str, Any] | None:
    """A tool that asks, in the era of its server."""
    if server.era == "modern":
        given = exchange.message["params"].get("inputResponses")
        if given is not None:
            return said(given["colour"]["content"]["colour"])
        return {"resultType": "input_required", "inputRequests": {"colour": form("Which?", colour="string")}}
    await exchange.ask("q")
    await eventually(lambda: "q" in server.replies, 10.0, "the answer")
    await exchange.answer(said(server.replies.pop("q")["result"]["content"]["colour"]))
    return None


@pytest_asyncio.fixture(scope="module")
async def asking(fleet: Fleet) -> AsyncIterator[None]:
    async with Scripted("asks-legacy", "legacy") as legacy, Scripted("asks-modern", "modern") as modern:
        for server in (legacy, modern):
            server.on["tools/call"] = functools.partial(asks, server)
            await fleet.register(server.name, server.connection)
        yield


@pytest.mark.parametrize(
    ("mode", "tool"),
    [
        ("legacy", "web__ask"),  # relayed
        ("legacy", "local__ask"),
        ("auto", "asks-legacy__asks-legacy"),  # parked
        ("legacy", "asks-modern__asks-modern"),  # asked
    ],
)
@pytest.mark.usefixtures("asking")
async def test_a_question_to_the_client_is_a_span(fleet: Fleet, collector: Collector, tool: str, mode: str) -> None:
    before = len(collector.spans)
    async with Client(fleet.urls[0], mode=mode, elicitation_callback=elicited) as client:
        answer = await client.call_tool(tool, {})
        assert "secret blue" in answer.content[0].text

    def asked() -> list[Span]:
        return [s for s in collector.spans[before:] if s.facts.get("mcp.method.name") == "elicitation/create"]

    await eventually(asked, 15.0, "the question's span")
    (question,) = asked()
    await eventually(
        lambda: any(s.id == question.parent for s in collector.spans), 15.0, "the span of the call that it belongs to"
    )
    (call,) = [s for s in collector.spans if s.id == question.parent]
    print("\n" + tree(collector.of_trace(call.trace)))
    assert (
        call.name == f"tools/call {tool.split('__')[1]}"
        and call.resource["gateway.process"] == "worker"
        and not question.failed
    )
    assert call.began <= question.began <= question.ended <= call.ended
    assert "blue" not in repr([vars(s) for s in collector.of_trace(call.trace)])
    if mode == "auto":  # the client came again with the answer
        ((trace, span),) = call.links
        await eventually(lambda: collector.of_trace(trace), 15.0, "the span of the client's second try")
        (again,) = [s for s in collector.of_trace(trace) if s.name not in WAITING]
        assert (again.id, again.kind, again.name) == (span, "server", call.name)


async def test_errors_have_their_codes(fleet: Fleet, collector: Collector, upstreams: RawUpstreams) -> None:
    endpoint = upstreams.endpoints["modern"]
    async with RawClient(fleet.urls[0]) as client:
        trace, parent = fresh()
        endpoint.behaviour = "error"
        assert (await client.call("modern__who", meta={"traceparent": parent})).error["code"] == -32000
        endpoint.behaviour = "ok"
        spans = await trace_of(collector, trace, 2)
        front, worker = one(spans, "server"), one(spans, "client")
        assert front.failed and worker.failed and front.facts["error.type"] == "upstream_error"
        assert worker.facts["error.type"] == worker.facts["rpc.response.status_code"] == "-32000"

        trace, parent = fresh()
        endpoint.behaviour = "close"
        await client.call("modern__who", meta={"traceparent": parent})
        endpoint.behaviour = "ok"
        spans = await trace_of(collector, trace, 2)
        assert {s.facts["error.type"] for s in spans} == {"outcome_unknown"} and all(s.failed for s in spans)

        trace, parent = fresh()
        await client.call("web__fail", {"message": "hush"}, meta={"traceparent": parent})
        spans = await trace_of(collector, trace, 2)
        assert one(spans, "client").facts["error.type"] == "tool_error"
        assert "hush" not in repr([vars(s) for s in spans])


async def test_what_is_refused_here_is_a_span_without_what_it_names(fleet: Fleet, collector: Collector) -> None:
    trace, parent = fresh()
    async with RawClient(fleet.urls[0]) as client:
        assert (await client.call("hush__hush", meta={"traceparent": parent})).error["code"] == -32602
    (front,) = await trace_of(collector, trace, 1)
    assert front.failed and front.name == "tools/call" and front.facts["error.type"] == "tool_unknown"
    assert "hush" not in repr(vars(front))


async def test_a_cancelled_call_ends_its_spans(fleet: Fleet, collector: Collector, upstreams: RawUpstreams) -> None:
    trace, parent = fresh()
    endpoint = upstreams.endpoints["modern"]
    endpoint.behaviour, before = "hang", len(endpoint.tool_calls)
    endpoint.release.clear()
    async with RawClient(fleet.urls[0]) as client:
        call = asyncio.ensure_future(client.call("modern__who", meta={"traceparent": parent}))
        await eventually(lambda: len(endpoint.tool_calls) > before, 10.0, "the call arrives")
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
    spans = await trace_of(collector, trace, 2)
    endpoint.behaviour = "ok"
    endpoint.release.set()
    assert one(spans, "server").facts["gateway.outcome"] == "abandoned"
    assert one(spans, "client").facts["gateway.outcome"] == "cancelled"
    assert not any(s.failed for s in spans)


async def test_access_lines_have_the_id_of_the_trace(fleet: Fleet, collector: Collector) -> None:
    trace, parent = fresh()
    async with RawClient(fleet.urls[0]) as client:
        await client.call("modern__who", meta={"traceparent": parent})
    await trace_of(collector, trace, 2)

    def lines() -> set[str]:
        words = [
            json.loads(line)
            for child in (fleet.frontends[0].children[0], *fleet.workers)
            for line in child.last_words
            if line.startswith("{") and trace in line
        ]
        return {line["logger"] for line in words if line["request"] == trace}

    await eventually(lambda: lines() == {"gateway.access", "worker.access"}, 10.0, "both lines")


async def test_a_parent_that_is_not_recorded_is_obeyed_and_passed_on(
    fleet: Fleet, collector: Collector, upstreams: RawUpstreams
) -> None:
    trace, parent = fresh("00")
    async with RawClient(fleet.urls[0]) as client:
        for sent in ({"meta": {"traceparent": parent}}, {"headers": {"traceparent": parent}}):
            await client.call("modern__who", **sent)
            endpoint = upstreams.endpoints["modern"]
            assert endpoint.tool_calls[-1]["params"]["_meta"]["traceparent"] == parent
            assert endpoint.headers[-1]["traceparent"] == parent
        after, later = fresh()
        await client.call("modern__who", meta={"traceparent": later})
    await trace_of(collector, after, 2)
    assert collector.of_trace(trace) == []


@pytest.mark.parametrize("said", ["00-0-0-01", f"00-{'0' * 32}-{ROOT}-01", 'x"\r\n', 7, {"a": 1}, "a" * 9000])
async def test_a_context_that_is_not_valid_is_replaced(
    fleet: Fleet, collector: Collector, upstreams: RawUpstreams, said: Any
) -> None:
    async with RawClient(fleet.urls[0]) as client:
        await client.call("legacy__who", meta={"traceparent": said, "tracestate": "x=1"})
    upwards = upstreams.endpoints["legacy"].tool_calls[-1]["params"]["_meta"]
    assert upwards["traceparent"] != said and "tracestate" not in upwards
    assert (await trace_of(collector, upwards["traceparent"].split("-")[1], 2))[0].parent == ""


async def test_waiting_for_a_place_is_a_span(fleet: Fleet, collector: Collector, upstreams: RawUpstreams) -> None:
    narrow = upstreams.add("narrow")
    narrow.delay_s = 0.2
    await fleet.register(
        "narrow", upstreams.connection("narrow"), settings={"maxConcurrency": 1, "maxQueueWait": 20_000}
    )
    traces = [fresh() for _ in range(3)]
    async with RawClient(fleet.urls[0]) as client:
        await asyncio.gather(*(client.call("narrow__who", meta={"traceparent": parent}) for _, parent in traces))
    waits = []
    for trace, _ in traces:
        worker = one(await trace_of(collector, trace, 2), "client")
        waits += [s for s in collector.of_trace(trace) if s.name == "gateway.queue" and s.parent == worker.id]
    assert len(waits) == 2 and all(s.ended - s.began > 0.1 for s in waits)


async def test_front_ends_that_gunicorn_forked_export_for_themselves(tmp_path: Path, collector: Collector) -> None:
    """Two front ends of one gunicorn and two workers, as ``gateway up`` starts them."""
    file = tmp_path / "gateway.json"
    file.write_text(json.dumps({"mcpServers": {"local": stdio_connection("local")}}))
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    before = len(collector.spans)
    processes: set[int] = set()
    arguments = ("--config", file, "--frontends", "2", "--workers", "2", "--ephemeral")
    async with running(*arguments, **variables) as (command, url):
        await command.says(r"local .*connected")

        async def both() -> bool:
            async with RawClient(f"{url}/mcp") as client:  # a connection of its own, which either of them accepts
                assert (await client.call("who")).content.startswith("local:")
            spans = [s for s in collector.spans[before:] if s.kind == "server"]
            processes.update(s.resource["process.pid"] for s in spans)
            return len(processes) == 2

        await eventually(both, 30.0, "spans of both front ends")
    spans = collector.spans[before:]
    assert len({s.id for s in spans}) == len(spans), "no two processes make the same ids"
    roots = [s for s in spans if s.kind == "server"]
    assert len({s.trace for s in roots}) == len(roots)
    for root in roots:
        assert [s.parent for s in spans if s.kind == "client" and s.trace == root.trace] == [root.id]


async def test_without_the_extra_the_gateway_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "opentelemetry").mkdir()
    (tmp_path / "opentelemetry" / "__init__.py").write_text("")  # found before the one that is installed
    for name in ("up", "serve", "worker"):
        arguments = () if name == "worker" else ("--port", "0")
        nowhere = {} if name == "up" else {"GATEWAY_REDIS_URL": "redis://127.0.0.1:1/0"}
        code, said = await run(name, *arguments, PYTHONPATH=str(tmp_path), GATEWAY_TRACES="on", **nowhere)
        assert code == 2 and "pip install 'mcp-one-gateway[otel]'" in said and "Traceback" not in said, said


async def test_sampling_off_exports_nothing(redis_url: str, collector: Collector, upstreams: RawUpstreams) -> None:
    before = len(collector.spans)
    upstreams.add("quiet")
    with variables(collector, OTEL_TRACES_SAMPLER="always_off"):
        async with Fleet(redis_url) as fleet, RawClient(fleet.urls[0]) as client:
            await fleet.register("quiet", upstreams.connection("quiet"))
            await client.call("who")
            assert "traceparent" not in upstreams.endpoints["quiet"].tool_calls[-1]["params"]["_meta"]
            await client.call("who", meta={"traceparent": fresh()[1]})
            assert upstreams.endpoints["quiet"].tool_calls[-1]["params"]["_meta"]["traceparent"].endswith("-00")
    assert len(collector.spans) == before, "not even at the end"


async def test_what_waits_is_exported_at_the_end(redis_url: str, collector: Collector, upstreams: RawUpstreams) -> None:
    upstreams.add("last")
    trace, parent = fresh()
    with variables(collector, OTEL_BSP_SCHEDULE_DELAY="600000", OTEL_EXPORTER_OTLP_COMPRESSION="gzip"):
        async with Fleet(redis_url) as fleet, RawClient(fleet.urls[0]) as client:
            await fleet.register("last", upstreams.connection("last"))
            await client.call("who", meta={"traceparent": parent})
            assert collector.of_trace(trace) == []
    assert {s.kind for s in collector.of_trace(trace)} >= {"server", "client"}, "sent before the processes were gone"


async def test_a_dead_collector_costs_a_line(redis_url: str, upstreams: RawUpstreams) -> None:
    upstreams.add("alone")
    async with Collector() as collector:
        pass  # nobody listens there any more
    with variables(collector, OTEL_BSP_MAX_QUEUE_SIZE="8"):
        async with Fleet(redis_url) as fleet, RawClient(fleet.urls[0]) as client:
            await fleet.register("alone", upstreams.connection("alone"))
            for _ in range(50):
                assert (await client.call("who")).content == "alone"
            processes = (fleet.frontends[0].children[0], fleet.workers[0])

            def told(words: str) -> list[int]:
                return [sum(words in line for line in one.last_words) for one in processes]

            await eventually(lambda: told("traces cannot be exported") == [1, 1], 10.0, "a line of each")
            await asyncio.sleep(1.5)  # the next attempt comes after a second, and says nothing
            assert told("traces cannot be exported") == [1, 1]
            async with collector:
                await eventually(lambda: collector.spans, 20.0, "spans come when the collector is back")
                await eventually(lambda: all(told("exported again")), 20.0, "and the log says so")
                assert len(collector.spans) <= 16
