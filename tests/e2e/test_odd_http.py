"""Servers whose HTTP is a little odd are served all the same: labels that are wrong, streams without end, cookies."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from tests.clients import RawClient
from tests.fleet import Fleet

Answer = dict[str, Any]
EVENTS = {"Content-Type": "text/event-stream"}
RESULTS: dict[str, Answer] = {
    "initialize": {
        "protocolVersion": "2025-06-18",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "s", "version": "1"},
    },
    "ping": {},
    "tools/list": {"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]},
    "tools/call": {"content": [{"type": "text", "text": "hi"}]},
}


def reply(before: bytes, after: bytes, kind: str, **headers: str) -> Callable[..., Awaitable[web.StreamResponse]]:
    """Answers as one body between two texts."""

    async def answer(request: web.Request, message: Answer, text: bytes) -> web.StreamResponse:
        if "id" not in message:
            return web.Response(status=202)
        return web.Response(body=before + text + after, headers={**headers, "Content-Type": kind})

    return answer


async def noticed_by_a_stream(request: web.Request, message: Answer, text: bytes) -> web.StreamResponse:
    """Answers notifications with an event stream that has no end."""
    if "id" in message:
        return web.Response(body=text, content_type="application/json")
    response = web.StreamResponse(headers=EVENTS)
    await response.prepare(request)
    await asyncio.sleep(3600)
    return response


async def never_noticed(request: web.Request, message: Answer, text: bytes) -> web.StreamResponse:
    """Answers no notifications."""
    if "id" not in message:
        await asyncio.sleep(3600)
    return web.Response(body=text, content_type="application/json")


async def sticky(request: web.Request, message: Answer, text: bytes) -> web.StreamResponse:
    """A balancer in front keeps a session at one server by a cookie, which it renews with each answer."""
    if message["method"] not in ("initialize", "server/discover"):
        turn = int(request.cookies.get("AWSALB", "0"))
        if not turn or request.cookies.get("gone"):
            return web.Response(status=404)
    response = web.Response(body=text, content_type="application/json", headers={"Mcp-Session-Id": "s"})
    turn = int(request.cookies.get("AWSALB", "0")) + 1
    response.headers.add("Set-Cookie", f"AWSALB={turn}; Expires=Sat, 05 Dec 2099 07:00:00 GMT; Path=/; HttpOnly")
    response.headers.add("Set-Cookie", "gone=x; Max-Age=0")
    return response


async def shy(request: web.Request, message: Answer, text: bytes) -> web.StreamResponse:
    """A firewall refuses who does not say its name."""
    if not request.headers.get("User-Agent"):
        return web.Response(status=403)
    return web.Response(body=text, content_type="application/json")


NOTICE = b'{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}'
SESSIONS: dict[str, str] = {}


def changing(late: str) -> Callable[..., Awaitable[web.StreamResponse]]:
    """Names a session with the answer to ``late``, and another one with each answer from then on."""

    async def answer(request: web.Request, message: Answer, text: bytes) -> web.StreamResponse:
        method = message["method"]
        if method == "initialize":
            SESSIONS.pop(late, None)
        if method not in ("initialize", "server/discover") and request.headers.get("Mcp-Session-Id") != SESSIONS.get(
            late
        ):
            return web.Response(status=400)
        if method == late or late in SESSIONS:
            SESSIONS[late] = f"{len(SESSIONS.get(late, ''))}{SESSIONS.get(late, '')}"[:64]
        response = web.Response(body=text, content_type="application/json") if "id" in message else web.Response()
        if late in SESSIONS:
            response.headers["mcp-session-id"] = SESSIONS[late]
        return response

    return answer


ODD: dict[str, Callable[[web.Request, Answer, bytes], Awaitable[web.StreamResponse]]] = {
    "events_without_an_empty_line": reply(b"data: ", b"\n", "text/event-stream"),
    "events_without_a_line_end": reply(b"event: message\ndata: ", b"", "text/event-stream"),
    "events_with_a_name": reply(b"event: response\ndata: ", b"\n\n", "text/event-stream"),
    "events_of_another_type": reply(b"data: ", b"\n\n", "application/octet-stream"),
    "events_called_json": reply(b": hello\n\ndata: ", b"\n\n", "application/json"),
    "json_called_events": reply(b"", b"\n", "text/event-stream"),
    "charset_as_coding": reply(b"", b"", "application/json", **{"Content-Encoding": "utf-8"}),
    "noticed_by_a_stream": noticed_by_a_stream,
    "never_noticed": never_noticed,
    "sticky": sticky,
    "shy": shy,
    "json_behind_line_ends": reply(b"\r\n  \n", b"\n", "text/html"),
    "json_behind_a_warning": reply(b"<br />\n<b>Warning</b>: x in y<br />\n", b"", "text/html"),
    "json_before_a_comment": reply(b"", b"\n<!-- from the cache -->", "application/json"),
    "messages_on_lines": reply(NOTICE + b"\n", b"\n", "application/x-ndjson"),
    "messages_in_one_event": reply(b"data: " + NOTICE + b"\ndata: ", b"\n\n", "text/event-stream"),
    "session_changes": changing("initialize"),
    "session_comes_late": changing("notifications/initialized"),
    "session_comes_later": changing("tools/list"),
    "with spaces ü": reply(b"", b"", "application/json"),
}


async def serve(request: web.Request) -> web.StreamResponse:
    if request.method != "POST":
        return web.Response(status=405)
    message = await request.json()
    answer: Answer = {"jsonrpc": "2.0", "id": message.get("id")}
    if message["method"] in RESULTS:
        answer["result"] = RESULTS[message["method"]]
    else:
        answer["error"] = {"code": -32601, "message": "Method not found"}
    return await ODD[request.match_info["odd"]](request, message, json.dumps(answer).encode())


REFUSALS: dict[str, tuple[int, bool]] = {
    "402": (402, False),
    "403_with_id": (403, True),
    "422": (422, False),
    "500_with_id": (500, True),
    "501_with_id": (501, True),
}
"""How a tool's error comes: the HTTP status, and whether it has the id of its request."""
FAILURES: dict[str, Any] = {
    "json_rpc": {"jsonrpc": "2.0", "id": None, "error": {"code": -32603, "message": "the disk is full"}},
    "fastapi": {"detail": "the disk is full"},
    "express": {"error": "the disk is full"},
}


async def refuse(request: web.Request) -> web.StreamResponse:
    if request.method != "POST":
        return web.Response(status=405)
    message = await request.json()
    if "id" not in message:
        return web.Response(status=202)
    if message["method"] in RESULTS and message["method"] != "tools/call":
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": RESULTS[message["method"]]})
    how = request.match_info["how"]
    if how in FAILURES:
        return web.json_response(FAILURES[how], status=500)
    status, with_id = REFUSALS[how]
    error = {"code": -32050, "message": "the quota is used up"}
    answer = {"jsonrpc": "2.0", "id": message["id"] if with_id else None, "error": error}
    return web.json_response(answer, status=status)


async def test_what_a_server_says_of_a_refusal_reaches_the_client(redis_url: str) -> None:
    app = web.Application()
    app.router.add_route("*", "/{how}", refuse)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with Fleet(redis_url, 1, 1) as fleet, RawClient(fleet.urls[0]) as client:
            for how in (*REFUSALS, *FAILURES):
                connection = {"url": f"http://127.0.0.1:{runner.addresses[0][1]}/{how}"}
                await fleet.register(how, connection, connected=False)
            await fleet.connected(*REFUSALS, *FAILURES)
            await client.initialize()
            for call in (client.legacy_call, client.call):
                for how in REFUSALS:
                    error = (await call(f"{how}__echo")).error
                    assert (error["code"], error["message"]) == (-32050, "the quota is used up"), how
                for how in FAILURES:
                    said = (await call(f"{how}__echo")).error["message"]
                    assert "answered HTTP 500 (the disk is full); the call may have run" in said, how
    finally:
        await runner.cleanup()


QUEUES: dict[str, asyncio.Queue[Answer]] = {}


async def sticky_sse(request: web.Request) -> web.StreamResponse:
    """HTTP+SSE behind a balancer that finds the server of a stream by a cookie; the endpoint is written as JSON."""
    if request.method == "GET":
        name = str(len(QUEUES))
        QUEUES[name] = asyncio.Queue()
        response = web.StreamResponse(headers={**EVENTS, "Set-Cookie": f"node={name}; Path=/"})
        await response.prepare(request)
        await response.write(b'event: endpoint\ndata: "/sticky/messages"\n\n')
        while True:
            await response.write(b"data: " + json.dumps(await QUEUES[name].get()).encode() + b"\n\n")
    name = request.cookies.get("node", "")
    if name not in QUEUES:
        return web.Response(status=404)
    message = await request.json()
    if message.get("method") in RESULTS:
        QUEUES[name].put_nowait({"jsonrpc": "2.0", "id": message["id"], "result": RESULTS[message["method"]]})
    elif "id" in message:
        error = {"code": -32601, "message": "Method not found"}
        QUEUES[name].put_nowait({"jsonrpc": "2.0", "id": message["id"], "error": error})
    return web.Response(status=202)


async def test_odd_http_is_understood(redis_url: str) -> None:
    app = web.Application()
    app.router.add_route("*", "/sticky/{_}", sticky_sse)
    app.router.add_route("*", "/{odd}", serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        async with Fleet(redis_url, 1, 1, probe_timeout_s=2.0) as fleet:
            names = {odd: f"odd{number}" for number, odd in enumerate(ODD)}
            for odd, name in names.items():
                connection = {"url": f"http://127.0.0.1:{runner.addresses[0][1]}/{odd}"}
                await fleet.register(name, connection, connected=False)
            connection = {"type": "sse", "url": f"http://127.0.0.1:{runner.addresses[0][1]}/sticky/sse"}
            await fleet.register("sticky_sse", connection, connected=False)
            names["sticky sse"] = "sticky_sse"
            await fleet.connected(*names.values())
            for odd, name in names.items():
                async with RawClient(f"{fleet.url}/servers/{name}/mcp") as client:
                    await client.initialize()
                    for _ in range(2):
                        assert (await client.legacy_call("echo")).content == "hi", odd
    finally:
        await runner.cleanup()
