"""A real ``mcp`` SDK server for tests. ``python -m tests.servers.sdk TRANSPORT NAME`` prints its port, then serves.

TRANSPORT is ``http``, ``http-json``, ``http-stateless``, ``sse`` or ``stdio``. Its tools say who they are, so that
tests see where a call went.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.exceptions import MCPError
from mcp.types import (
    Completion,
    EmptyResult,
    NotificationParams,
    SamplingMessage,
    SubscribeRequestParams,
    TextContent,
    ToolAnnotations,
    UnsubscribeRequestParams,
)
from pydantic import BaseModel
from starlette.responses import JSONResponse
from starlette.routing import Route


class Colour(BaseModel):
    """What ``ask`` asks for."""

    colour: str


def make(name: str) -> MCPServer:
    """The server."""
    server = MCPServer(name, instructions=f"I am {name}.")
    simple_tools(server, name)
    growing_tool(server, name)
    asking_tools(server)
    subscriptions(server)
    prompts_and_resources(server, name)

    @server.tool()
    def crash() -> str:
        """End the process at once."""
        os._exit(3)

    return server


def simple_tools(server: MCPServer, name: str) -> None:
    """What answers by itself."""
    counter = {"calls": 0}

    @server.tool()
    def who() -> str:
        """Name and pid."""
        return f"{name}:{os.getpid()}"

    @server.tool()
    def echo(text: str) -> str:
        """Give back the text."""
        return text

    @server.tool()
    def add(a: int, b: int) -> int:
        """Add two numbers."""
        return a + b

    @server.tool()
    def fail(message: str) -> str:
        """Raise."""
        raise ValueError(message)

    @server.tool()
    def count() -> int:
        """How often this process was asked."""
        counter["calls"] += 1
        return counter["calls"]

    @server.tool()
    async def slow(seconds: float) -> str:
        """Take a while."""
        await asyncio.sleep(seconds)
        return f"{name} done"

    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    async def slow_read(seconds: float) -> str:
        """Take a while, reading only."""
        await asyncio.sleep(seconds)
        return f"{name} done"

    @server.tool()
    async def progress(ctx: Context, steps: int) -> str:
        """Report progress."""
        for step in range(steps):
            await ctx.report_progress(step + 1, steps, f"step {step + 1}")
            await asyncio.sleep(0.02)
        return "finished"


def growing_tool(server: MCPServer, name: str) -> None:
    """What changes the list of tools."""

    @server.tool()
    async def grow(ctx: Context, tool: str) -> str:
        """Add a tool and announce it."""

        def added() -> str:
            return f"{tool} of {name}"

        server.add_tool(added, name=tool, description="grown")
        try:
            await ctx.session.send_tool_list_changed()
        except Exception:
            pass
        notify = getattr(ctx, "notify_tools_changed", None)
        if notify is not None:
            await notify()
        return "grown"


def asking_tools(server: MCPServer) -> None:
    """What needs the client, or tells it something."""

    @server.tool()
    async def ask(ctx: Context) -> str:
        """Ask the user for a colour."""
        answer = await ctx.elicit("Which colour?", Colour)
        return f"{answer.action}: {answer.data.colour if answer.action == 'accept' else '-'}"

    @server.tool()
    async def sample(ctx: Context) -> str:
        """Ask the client's model."""
        message = SamplingMessage(role="user", content=TextContent(type="text", text="hi"))
        result = await ctx.session.create_message([message], max_tokens=9)
        return f"model said {result.content.text}"

    @server.tool()
    async def roots(ctx: Context) -> str:
        """Ask for the client's roots."""
        return ",".join(str(root.uri) for root in (await ctx.session.list_roots()).roots)

    @server.tool()
    async def logs(ctx: Context) -> str:
        """Log something."""
        await ctx.debug("detail")
        await ctx.info("logged line")
        await asyncio.sleep(0.02)
        return "logged"


def subscriptions(server: MCPServer) -> None:
    """What clients subscribe to, and what they say of their roots."""
    subscribers: dict[str, list[Any]] = {}

    async def subscribe(ctx: Any, params: SubscribeRequestParams) -> EmptyResult:
        if str(params.uri) == "memo://forbidden":
            raise MCPError(-32002, "no such resource", {"uri": str(params.uri)})
        subscribers.setdefault(str(params.uri), []).append(ctx.session)
        return EmptyResult()

    async def unsubscribe(ctx: Any, params: UnsubscribeRequestParams) -> EmptyResult:
        subscribers.get(str(params.uri), [ctx.session]).pop()
        return EmptyResult()

    server._lowlevel_server.add_request_handler("resources/subscribe", SubscribeRequestParams, subscribe)
    server._lowlevel_server.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, unsubscribe)

    roots_changed: list[Any] = []

    async def note_roots(ctx: Any, params: NotificationParams) -> None:
        roots_changed.append(ctx.session)

    server._lowlevel_server.add_notification_handler("notifications/roots/list_changed", NotificationParams, note_roots)

    @server.tool()
    def roots_changes() -> int:
        """How often clients said that their roots changed."""
        return len(roots_changed)

    @server.tool()
    async def touch(ctx: Context, uri: str) -> str:
        """Say that a resource changed, to whoever subscribed; how many legacy subscriptions there are."""
        for session in subscribers.get(uri, []):
            await session.send_resource_updated(uri)
        await ctx.notify_resource_updated(uri)
        return str(len(subscribers.get(uri, [])))


def prompts_and_resources(server: MCPServer, name: str) -> None:
    """What is read."""

    @server.prompt()
    def greet(person: str) -> str:
        """Greet somebody."""
        return f"Hello {person}, from {name}"

    @server.resource(f"memo://{name}/fixed")
    def fixed() -> str:
        """A fixed resource."""
        return f"fixed of {name}"

    @server.resource(f"memo://{name}/notes/{{number}}")
    def note(number: str) -> str:
        """A numbered note."""
        return f"note {number} of {name}"

    @server.resource("memo://common")
    def common() -> str:
        """A resource whose URI every such server uses."""
        return f"common of {name}"

    @server.completion()
    async def complete(ref, argument, context):  # type: ignore[no-untyped-def]
        """People and numbers."""
        return Completion(values=[argument.value + "-completed"], total=1, has_more=False)


async def serve(transport: str, name: str) -> None:
    """Serve over HTTP on a free port."""
    server = make(name)
    if transport == "sse":
        app = server.sse_app()
        # Some servers show a page at their origin: a gateway that was given only that must look further.
        app.router.routes.insert(0, Route("/", lambda request: JSONResponse({"name": name, "status": "ok"})))
    else:
        app = server.streamable_http_app(
            json_response=transport == "http-json", stateless_http=transport == "http-stateless"
        )
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(os.environ.get("TEST_PORT", "0"))))
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1)
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        make(sys.argv[2]).run("stdio")
    else:
        asyncio.run(serve(sys.argv[1], sys.argv[2]))
