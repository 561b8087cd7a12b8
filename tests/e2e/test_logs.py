"""What the processes of a fleet log: access lines with the same id everywhere, levels changed while they run, and no
traceback for what a client does wrong."""

from __future__ import annotations

import json
from typing import Any

import aiohttp

from gateway.supervisor.lifecycle import Child
from tests.clients import RawClient
from tests.fleet import Fleet, eventually
from tests.servers.raw import RawUpstreams


def _lines(child: Child, logger: str = "") -> list[dict[str, Any]]:
    found = []
    for line in child.last_words:
        if line.startswith("{"):
            read = json.loads(line)
            if not logger or read["logger"] == logger:
                found.append(read)
    return found


def _front(fleet: Fleet) -> Child:
    return fleet.frontends[0]._children[0]


async def test_a_call_has_a_line_with_the_same_id_in_front_end_and_worker(redis_url: str) -> None:
    async with (
        RawUpstreams() as upstreams,
        Fleet(redis_url, access_log=True, log_format="json") as fleet,
        RawClient(f"{fleet.url}/mcp") as client,
    ):
        upstreams.add("a")
        await fleet.register("a", upstreams.connection("a"))
        await client.call("who", {"secret": "hush"})
        await eventually(lambda: _lines(_front(fleet), "gateway.access"), 5.0, "the front end's line")
        await eventually(lambda: _lines(fleet.workers[0], "worker.access"), 5.0, "the worker's line")
        (front,), (worker,) = _lines(_front(fleet), "gateway.access"), _lines(fleet.workers[0], "worker.access")
        assert len(front["request"]) == 32 and front["request"] == worker["request"]
        for line in (front, worker):
            wanted = ("tools/call", "who", "answered", "a", "a")
            assert tuple(line[name] for name in ("method", "name", "outcome", "group", "upstream")) == wanted
            assert line["ms"] >= 0 and "hush" not in json.dumps(line)
        assert (front["era"], front["attempts"]) == ("modern", 1)
        await client.call("who")
        await eventually(lambda: len(_lines(_front(fleet), "gateway.access")) == 2, 5.0, "the next line")
        assert len({line["request"] for line in _lines(_front(fleet), "gateway.access")}) == 2

        trace = "0af7651916cd43dd8448eb211c80319c"
        parent = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
        for sent in ({"meta": parent}, {"headers": parent}):
            await client.call("who", **sent)

        def of_trace(child: Child, logger: str) -> int:
            return sum(line["request"] == trace for line in _lines(child, logger))

        await eventually(lambda: of_trace(_front(fleet), "gateway.access") == 2, 5.0, "the client's id")
        await eventually(lambda: of_trace(fleet.workers[0], "worker.access") == 2, 5.0, "also in the worker")


async def test_without_the_setting_there_are_no_lines(redis_url: str) -> None:
    async with (
        RawUpstreams() as upstreams,
        Fleet(redis_url, log_format="json", log_level="info") as fleet,
        RawClient(f"{fleet.url}/mcp") as client,
    ):
        upstreams.add("a")
        await fleet.register("a", upstreams.connection("a"))
        assert "result" in (await client.call("who")).body
        assert not _lines(_front(fleet), "gateway.access") and not _lines(fleet.workers[0], "worker.access")


async def test_the_level_is_changed_in_every_process_while_it_runs(redis_url: str) -> None:
    async with Fleet(redis_url, frontends=2, log_format="json") as fleet, aiohttp.ClientSession() as session:

        async def level(number: int) -> str:
            async with session.get(f"{fleet.frontends[number].url}/admin/v1/log-level") as response:
                return str((await response.json())["level"])

        assert await level(0) == await level(1) == "warning"
        async with session.put(f"{fleet.url}/admin/v1/log-level", json={"level": "debug"}) as response:
            assert response.status == 200

        async def changed() -> bool:
            return await level(0) == await level(1) == "debug"

        await eventually(changed, 5.0, "both front ends have the level")
        await eventually(lambda: _lines(fleet.workers[0], "worker.main"), 5.0, "the worker says at info that it has it")
        async with session.put(f"{fleet.url}/admin/v1/log-level", json={"level": "loud"}) as response:
            assert response.status == 400


async def test_a_mistake_of_a_client_is_no_traceback(redis_url: str) -> None:
    async with Fleet(redis_url, log_level="debug") as fleet, aiohttp.ClientSession() as session:
        for path, body in (
            ("/mcp", b"{"),
            ("/mcp", b"\xff\xfe"),
            ("/mcp", b"[]"),
            ("/mcp", b'{"jsonrpc":"2.0","id":{},"method":7}'),
            ("/admin/v1/servers", b"{"),
            ("/admin/v1/servers", b'{"id":"x\\u001b[2J","connection":{}}'),
            ("/admin/v1/log-level", b"[]"),
            ("/servers/%1b%5b2J/mcp", b"{}"),
        ):
            method = "PUT" if path.endswith("log-level") else "POST"
            headers = {"Content-Type": "application/json"}
            async with session.request(method, fleet.url + path, data=body, headers=headers) as response:
                assert 400 <= response.status < 500, path
        for path in ("/admin/v1/events?after=x", "/admin/v1/tools?limit=-1", "/ui/%00", "/%ff", "/admin/v1/explain"):
            async with session.get(fleet.url + path) as response:
                assert 400 <= response.status < 500, path
        said = "\n".join([*_front(fleet).last_words, *fleet.workers[0].last_words])
        assert "Traceback" not in said and "\x1b" not in said, said
