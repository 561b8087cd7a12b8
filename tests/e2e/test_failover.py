"""What a client sees when upstreams fail: another replica's answer, or an error that names upstream and cause."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.clients import RawClient
from tests.fleet import Fleet, SdkServer, eventually, script_connection, stdio_connection
from tests.machine import scaled, stretched
from tests.servers.raw import RawUpstreams


@pytest_asyncio.fixture(scope="module")
async def fleet(redis_url: str) -> AsyncIterator[Fleet]:
    async with Fleet(
        redis_url,
        frontends=1,
        workers=2,
        request_timeout_s=stretched(1.5),
        health_check_interval_s=0.4,
        health_check_timeout_s=stretched(0.5),
        reconnect_min_s=0.1,
        reconnect_max_s=0.5,
        start_timeout_s=stretched(6.0),
        stdio_start_timeout_s=stretched(6.0),
        probe_timeout_s=stretched(1.0),
    ) as fleet:
        yield fleet


async def pair(fleet: Fleet, upstreams: RawUpstreams, group: str) -> None:
    """Two replicas with tools ``{group}_who`` and, read-only, ``{group}_read``."""
    tools = [
        {"name": f"{group}_who", "inputSchema": {"type": "object"}},
        {"name": f"{group}_read", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}},
    ]
    for number in (1, 2):
        upstreams.add(f"{group}-{number}", tools)
        await fleet.register(f"{group}-{number}", upstreams.connection(f"{group}-{number}"), name=group)


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        ("hang", "timeout"),
        ("close", "outcome_unknown"),
        ("half", "outcome_unknown"),
        ("html", "upstream_protocol"),
        ("500", "upstream_unavailable"),
    ],
)
async def test_what_may_have_run_is_not_repeated_and_the_error_says_so(
    fleet: Fleet, client: RawClient, behaviour: str, code: str
) -> None:
    group = f"u{behaviour}"
    async with RawUpstreams() as upstreams:
        await pair(fleet, upstreams, group)
        for number in (1, 2):
            upstreams.endpoints[f"{group}-{number}"].behaviour = behaviour
        started = time.monotonic()
        error = (await client.call(f"{group}_who")).error
        assert time.monotonic() - started < fleet.settings.calls.request_timeout_s + scaled(1.0)
        assert error["data"]["code"] == code
        assert error["data"]["upstream"].startswith(group) and "may have run" in error["message"]
        assert not -32768 <= error["code"] <= -32000
        ran = sum(len(upstreams.endpoints[f"{group}-{number}"].tool_calls) for number in (1, 2))
        assert ran == 1
        for number in (1, 2):
            upstreams.endpoints[f"{group}-{number}"].release.set()


@pytest.mark.parametrize("behaviour", ["close", "half", "html", "500"])
async def test_a_read_only_tool_is_served_by_another_replica(fleet: Fleet, client: RawClient, behaviour: str) -> None:
    group = f"r{behaviour}"
    async with RawUpstreams() as upstreams:
        await pair(fleet, upstreams, group)
        upstreams.endpoints[f"{group}-1"].behaviour = behaviour
        assert {(await client.call(f"{group}_read")).content for _ in range(3)} == {f"{group}-2"}


async def test_a_refused_call_goes_to_another_replica(fleet: Fleet, client: RawClient) -> None:
    async with RawUpstreams() as upstreams:
        await pair(fleet, upstreams, "auth")
        upstreams.endpoints["auth-1"].behaviour = "401"
        assert {(await client.call("auth_who")).content for _ in range(4)} == {"auth-2"}


async def test_a_timed_out_upstream_is_told_to_cancel(fleet: Fleet, client: RawClient) -> None:
    async with SdkServer("http", "slow") as server:
        await fleet.register("slowhttp", server.connection)
        answer = await client.call("slowhttp__slow", {"seconds": 30})
        assert answer.error["data"]["code"] == "timeout"
        assert (await client.call("slowhttp__echo", {"text": "still here"})).content == "still here"


async def test_a_dead_replica_is_out_after_the_first_refused_connection_and_comes_back(
    fleet: Fleet, client: RawClient
) -> None:
    async with RawUpstreams() as steady, RawUpstreams() as shaky:
        tools = [{"name": "dead_who", "inputSchema": {"type": "object"}}]
        steady.add("steady", tools)
        shaky.add("shaky", tools)
        await fleet.register("steady", steady.connection("steady"), name="dead")
        await fleet.register("shaky", shaky.connection("shaky"), name="dead")
        await shaky.stop()
        assert {(await client.call("dead_who")).content for _ in range(6)} == {"steady"}
        reason = await fleet.failed("shaky")
        assert "cannot connect" in reason
        await shaky.start()
        await fleet.connected("shaky")
        assert {(await client.call("dead_who")).content for _ in range(4)} == {"steady", "shaky"}


async def test_killing_a_replica_under_load_fails_only_what_was_with_it(fleet: Fleet, client: RawClient) -> None:
    async with SdkServer("http-stateless", "k1") as first, SdkServer("http-stateless", "k2") as second:
        await fleet.register("k-1", first.connection, name="k")
        await fleet.register("k-2", second.connection, name="k")
        with_it = 0
        failed: list[dict[str, object]] = []
        done = 0
        stop = asyncio.Event()

        async def load() -> None:
            nonlocal done
            while not stop.is_set():
                answer = await client.call("k__who")
                if "error" in answer.body:
                    failed.append(answer.error)
                done += 1

        callers = [asyncio.ensure_future(load()) for _ in range(8)]
        await eventually(lambda: done > 50, 10.0, "load flows")
        await second.kill()
        before = done
        await eventually(lambda: done > before + 100, 10.0, "load goes on without the replica")
        await second.start()
        await fleet.connected("k-2")
        before = done
        await eventually(lambda: done > before + 50, 10.0, "load goes on with it again")
        stop.set()
        await asyncio.gather(*callers)
        with_it = len([error for error in failed if error["data"]["upstream"] == "k-2"])  # type: ignore[index]
        assert len(failed) == with_it <= 8, failed

        async def both_serve() -> bool:  # one that failed and came back begins slowly
            return {(await client.call("k__who")).content.split(":")[0] for _ in range(4)} == {"k1", "k2"}

        await eventually(both_serve, 30.0, "both replicas serve")


async def test_no_healthy_replica_is_an_error_at_once_with_the_last_health_error(
    fleet: Fleet, client: RawClient
) -> None:
    async with RawUpstreams() as upstreams:
        upstreams.add("alone", [{"name": "alone_who", "inputSchema": {"type": "object"}}])
        await fleet.register("alone", upstreams.connection("alone"))
    await fleet.failed("alone")
    await eventually(lambda: _known_as_down(fleet, client), 5.0, "the front end knows")
    started = time.monotonic()
    error = (await client.call("alone_who")).error
    assert time.monotonic() - started < fleet.settings.calls.request_timeout_s / 3, "nothing is waited for"
    assert error["data"]["code"] == "upstream_unavailable" and error["data"]["group"] == "alone"
    assert "cannot connect" in error["message"]
    listed = (await client.modern("tools/list")).body["result"]
    assert "alone" in listed["_meta"]["gateway/unavailableGroups"]


async def _known_as_down(fleet: Fleet, client: RawClient) -> bool:
    async with client.session.get(f"{fleet.url}/admin/v1/servers/alone") as response:
        return bool((await response.json())["status"] == "error")


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [
        ("exits", "import sys; print('no config found', file=sys.stderr); sys.exit(7)", "exited with code 7"),
        ("mute", "import time; time.sleep(600)", "no handshake"),
        ("missing", "", "cannot start"),
    ],
)
async def test_a_stdio_server_that_does_not_start_is_in_error_with_the_reason(
    fleet: Fleet, name: str, code: str, reason: str
) -> None:
    connection = script_connection(code) if code else {"type": "stdio", "command": "/no/such/command"}
    await fleet.register(name, connection, connected=False)
    assert reason in await fleet.failed(name)
    if name == "exits":
        key = fleet.store.keys.logs(name)
        await eventually(lambda: fleet.store.redis.lrange(key, 0, -1), 5.0, "its stderr is kept")
        assert b"no config found" in (await fleet.store.redis.lrange(key, 0, -1))[0]
    await fleet.store.unregister(name)


async def test_garbage_on_stdout_is_logged_and_skipped(fleet: Fleet, client: RawClient) -> None:
    code = """
import sys, json
print('Starting up...'); print('{"not": "jsonrpc"}'); print('[1, 2'); print('\\xff\\xfe')
for line in sys.stdin:
    m = json.loads(line); print('debug: got', m.get('method'))
    if 'id' not in m: continue
    me = {'name': 'g', 'version': '1'}
    r = {'initialize': {'protocolVersion': '2025-06-18', 'capabilities': {'tools': {}}, 'serverInfo': me},
         'tools/list': {'tools': [{'name': 'noise', 'inputSchema': {'type': 'object'}}]}, 'ping': {},
         'tools/call': {'content': [{'type': 'text', 'text': 'clear'}]}}.get(m['method'])
    out = {'jsonrpc': '2.0', 'id': m['id']}
    out.update({'result': r} if r is not None else {'error': {'code': -32601, 'message': 'no'}})
    print(json.dumps(out))
"""
    await fleet.register("garbage", script_connection(code))
    assert (await client.call("noise")).content == "clear"
    lines = await eventually(lambda: fleet.store.redis.lrange(fleet.store.keys.logs("garbage"), 0, -1))
    assert any(b"Starting up" in line for line in lines)


async def test_an_upstream_that_is_html_or_asks_for_credentials_says_so(fleet: Fleet) -> None:
    async with RawUpstreams() as upstreams:
        for behaviour, reason in (("401-always", "HTTP 401: check the headers"), ("html-always", "")):
            upstreams.add(behaviour).behaviour = behaviour
            await fleet.register(behaviour, upstreams.connection(behaviour), connected=False)
            assert reason in await fleet.failed(behaviour)
            await fleet.store.unregister(behaviour)


@pytest.mark.parametrize("transport", ["http", "sse", "stdio"])
async def test_several_hundred_concurrent_calls_share_one_upstream(
    fleet: Fleet, client: RawClient, transport: str
) -> None:
    async with SdkServer("sse" if transport == "sse" else "http", f"many-{transport}") as server:
        id = f"many-{transport}"
        connection = stdio_connection(id) if transport == "stdio" else server.connection
        await fleet.register(id, connection)
        await client.call(f"{id}__echo", {"text": "warm"})
        answers = []
        for _ in range(3):
            answers += await asyncio.gather(*(client.call(f"{id}__add", {"a": n, "b": 1}) for n in range(100)))
        assert [answer.content for answer in answers] == [str(n + 1) for n in range(100)] * 3
        await fleet.store.unregister(id)


async def test_a_crashed_stdio_child_comes_back(fleet: Fleet, client: RawClient) -> None:
    await fleet.register("crashy", stdio_connection("crashy"))
    error = (await client.call("crashy__crash")).error
    assert (
        error["data"]["code"] == "outcome_unknown" and "exited with code 3" in error["message"]
    ) or "closed its output" in error["message"]
    await eventually(lambda: _echoes(client), 15.0, "the child is back")
    await fleet.store.unregister("crashy")


async def _echoes(client: RawClient) -> bool:
    return "result" in (await client.call("crashy__echo", {"text": "x"})).body


async def test_a_legacy_cancel_reaches_the_upstream_and_ends_the_call(fleet: Fleet, client: RawClient) -> None:
    async with SdkServer("http", "cancel") as server:
        await fleet.register("cancelme", server.connection)
        await client.initialize()
        call = asyncio.ensure_future(client.legacy_call("cancelme__slow", {"seconds": 30}, id="mine"))
        started = time.monotonic()

        async def cancelled() -> bool:
            await client.legacy_notice("notifications/cancelled", {"requestId": "mine"})
            return call.done()

        await eventually(cancelled, 5.0, "the call ends")
        assert time.monotonic() - started < fleet.settings.calls.request_timeout_s, "it did not time out"
        assert (await call).error["data"]["code"] == "cancelled"
