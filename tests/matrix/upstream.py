"""The matrix's upstream, on the ``mcp`` 2.x SDK. ``python -m tests.matrix.upstream http|sse|stdio NAME`` prints its
port (not for stdio), then serves. It speaks both eras; the gateway is told which one to use.

Everything a client can ask of a server is here once, in a form that shows what arrived.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import Counter, deque
from typing import Annotated, Any

import anyio
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.stdio import stdio_server
from mcp.shared.exceptions import MCPError
from mcp.types import (
    Annotations,
    CallToolResult,
    Completion,
    EmptyResult,
    Icon,
    ListToolsResult,
    PaginatedRequestParams,
    ResourceLink,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    ToolAnnotations,
    UnsubscribeRequestParams,
)
from pydantic import BaseModel, Field

from tests.matrix.asking import add_asking_tools
from tests.matrix.jobs import Jobs, add_job_and_panel

LEVELS = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"]
PAGE = 9
UNKNOWN = '"x-later":{"z":[1.0,2.50,-0.0,1E2],"a":123456789012345678901234567890,"é":"\\u2713"}'
"""A member that no version of the protocol knows: its order, numbers and escapes must come through as they are."""
PLACE = '"x-later":"here"'
"""What the SDK writes in the result of ``mirror``; on the wire ``UNKNOWN`` stands there, and beside ``content``."""
ICON = Icon(src="https://pages.invalid/icon.png", mime_type="image/png", sizes=["48x48"])
HINTS = ToolAnnotations(title="Hinted", read_only_hint=True, open_world_hint=False)
heard: deque[str] = deque(maxlen=200)
"""Raw messages that call ``mirror``, as they came."""


class Weather(BaseModel):
    """A structured result."""

    city: str
    degrees: int


def remember(raw: str) -> None:
    """Keep it if ``mirror`` is called."""
    if '"mirror"' in raw:
        heard.append(raw)


def make(name: str) -> MCPServer:
    """The server; names of resources begin with ``name``."""
    server = MCPServer(name, instructions=f"I am {name}.", extensions=[Jobs(name)])
    simple_tools(server, name)
    waiting_tools(server)
    showing_tools(server, name)
    add_job_and_panel(server, name)
    add_asking_tools(server)
    prompts_and_resources(server, name)
    changing_tools(server, name)
    lower_level(server)
    return server


def simple_tools(server: MCPServer, name: str) -> None:
    """What answers by itself."""

    @server.tool()
    def echo(text: str) -> str:
        """Give back the text."""
        return text

    @server.tool()
    def fail(message: str) -> str:
        """Raise."""
        raise ToolError(message)

    @server.tool()
    def refuse() -> str:
        """Answer with an error of the protocol that carries data."""
        raise MCPError(-32602, "refused on purpose", {"why": name})

    @server.tool()
    def weather(city: str) -> Weather:
        """A structured result."""
        return Weather(city=city, degrees=21)

    @server.tool()
    def increase(number: int) -> str:
        """One more, however big."""
        return str(number + 1)

    @server.tool()
    async def progress(ctx: Context, steps: int) -> str:
        """Report progress."""
        for step in range(steps):
            await ctx.report_progress(step + 1, steps, f"step {step + 1}")
            await asyncio.sleep(0.02)
        return "finished"

    @server.tool()
    async def speak(ctx: Context) -> str:
        """Log on three levels, from the one this connection asked for."""
        wanted = ctx.session._connection.state.get("level", "debug")
        for level in ("debug", "info", "error"):
            if LEVELS.index(level) >= LEVELS.index(wanted):
                await ctx.log(level, f"{level} of {name}")  # type: ignore[arg-type]
        await asyncio.sleep(0.02)
        return "spoken"


def waiting_tools(server: MCPServer) -> None:
    """What is cancelled, and tells of it."""
    waiting: Counter[str] = Counter()
    cancelled: Counter[str] = Counter()

    @server.tool()
    async def wait(key: str) -> str:
        """Until it is cancelled."""
        waiting[key] += 1
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled[key] += 1
            raise
        return "not cancelled"

    @server.tool()
    def waits(key: str) -> str:
        """How many began to wait, and how many of these were cancelled."""
        return f"{waiting[key]} {cancelled[key]}"


def showing_tools(server: MCPServer, name: str) -> None:
    """What shows everything that travels beside arguments and texts."""

    @server.tool()
    def region(ctx: Context, where: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})]) -> str:
        """An argument that travels in a header too (SEP-2243)."""
        sent = ctx.headers.get("mcp-param-region") if ctx.headers is not None else None
        return f"{where} {sent}"

    @server.tool(title="Shown", annotations=HINTS, icons=[ICON], meta={"x-shown": {"a": 1}})
    def shown() -> CallToolResult:
        """Everything that is for showing: title, icons, hints, and annotated content."""
        text = TextContent(type="text", text="for you", annotations=Annotations(audience=["user"], priority=0.25))
        link = ResourceLink(type="resource_link", uri=f"memo://{name}/fixed", name="fixed", icons=[ICON])
        return CallToolResult(content=[text, link])

    @server.tool()
    def keep(ctx: Context, value: str) -> str:
        """Remember a value for this connection; the one before."""
        kept = ctx.session._connection.state
        before, kept["kept"] = str(kept.get("kept", "")), value
        return before

    @server.tool()
    def recall(marker: str) -> str:
        """The raw call of ``mirror`` that has this marker."""
        return next((raw for raw in reversed(heard) if marker in raw), "")


def prompts_and_resources(server: MCPServer, name: str) -> None:
    """What is read."""

    @server.prompt(title="Greeting", icons=[ICON])
    def greet(person: str) -> str:
        """Greet somebody."""
        return f"Hello {person}, from {name}"

    notes = Annotations(audience=["assistant"], priority=0.75)

    @server.resource(f"memo://{name}/fixed", mime_type="text/plain", title="Fixed", icons=[ICON], annotations=notes)
    def fixed() -> str:
        """A fixed resource."""
        return f"fixed of {name}"

    @server.resource(f"memo://{name}/picture", mime_type="image/png")
    def picture() -> bytes:
        """A binary resource."""
        return b"\x89PNG\x00\xff"

    @server.resource(f"memo://{name}/notes/{{number}}")
    def note(number: str) -> str:
        """A numbered note."""
        return f"note {number} of {name}"

    @server.completion()
    async def complete(ref: Any, argument: Any, context: Any) -> Completion:
        """What was typed, twice."""
        return Completion(values=[argument.value + "-1", argument.value + "-2"], total=2, has_more=False)


def changing_tools(server: MCPServer, name: str) -> None:
    """What changes lists and resources, and says so in either era."""

    @server.tool()
    async def change(ctx: Context, kind: str, entry: str) -> str:
        """Add the entry, or remove it if it is there; announce it. Whether it is there now."""

        def grown() -> str:
            return f"{entry} of {name}"

        uri = f"memo://{name}/{entry}"
        there = {
            "tools": server._tool_manager._tools,
            "prompts": server._prompt_manager._prompts,
            "resources": server._resource_manager._resources,
        }[kind]
        key = uri if kind == "resources" else entry
        if key in there:
            del there[key]  # type: ignore[arg-type]
        elif kind == "tools":
            server.add_tool(grown, name=entry)
        elif kind == "prompts":
            server.prompt(name=entry)(grown)
        else:
            server.resource(uri)(grown)
        modern, legacy = {
            "tools": (ctx.notify_tools_changed, ctx.session.send_tool_list_changed),
            "prompts": (ctx.notify_prompts_changed, ctx.session.send_prompt_list_changed),
            "resources": (ctx.notify_resources_changed, ctx.session.send_resource_list_changed),
        }[kind]
        await (modern() if ctx.protocol_version == "2026-07-28" else legacy())
        return str(key in there)

    subscribers: dict[str, list[Any]] = {}

    async def subscribe(ctx: Any, params: SubscribeRequestParams) -> EmptyResult:
        subscribers.setdefault(str(params.uri), []).append(ctx.session)
        return EmptyResult()

    async def unsubscribe(ctx: Any, params: UnsubscribeRequestParams) -> EmptyResult:
        subscribers.get(str(params.uri), [ctx.session]).pop()
        return EmptyResult()

    server._lowlevel_server.add_request_handler("resources/subscribe", SubscribeRequestParams, subscribe)
    server._lowlevel_server.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, unsubscribe)

    @server.tool()
    async def touch(ctx: Context, uri: str) -> str:
        """Say that a resource changed, to whoever subscribed."""
        for session in subscribers.get(uri, []):
            await session.send_resource_updated(uri)
        await ctx.notify_resource_updated(uri)
        return str(len(subscribers.get(uri, [])))


def lower_level(server: MCPServer) -> None:
    """What the SDK's friendly layer does not do: levels, pages, and a result with members nobody knows."""

    async def set_level(ctx: Any, params: SetLevelRequestParams) -> EmptyResult:
        ctx.session._connection.state["level"] = params.level
        return EmptyResult()

    async def list_tools(ctx: Any, params: PaginatedRequestParams | None) -> ListToolsResult:
        tools = await server.list_tools()
        start = int((params.cursor if params else None) or 0)
        after = str(start + PAGE) if start + PAGE < len(tools) else None
        return ListToolsResult(tools=tools[start : start + PAGE], next_cursor=after)

    @server.tool()
    def mirror(text: str) -> CallToolResult:
        """A result with members that nobody knows."""
        return CallToolResult(content=[TextContent(type="text", text=text)], _meta={"x-later": "here"})

    server._lowlevel_server.add_request_handler("logging/setLevel", SetLevelRequestParams, set_level)
    server._lowlevel_server.add_request_handler("tools/list", PaginatedRequestParams, list_tools)


def spelled(raw: str) -> str:
    """The message as it goes out: unknown members in a spelling of their own."""
    if PLACE not in raw:
        return raw
    return raw.replace(PLACE, UNKNOWN).replace('"content":[', UNKNOWN + ',"content":[', 1)


class OnTheWire:
    """An ASGI application in front: remembers what is posted, and spells unknown members."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        parts: list[bytes] = []
        held: list[Any] = []

        async def listening() -> Any:
            message = await receive()
            if message["type"] == "http.request":
                parts.append(message.get("body", b""))
                if not message.get("more_body"):
                    remember(b"".join(parts).decode("utf-8", "replace"))
            return message

        async def spelling(message: Any) -> None:
            if message["type"] == "http.response.start":
                held.append(message)
                return
            if message["type"] == "http.response.body":
                body = message.get("body", b"")
                message = {**message, "body": spelled(body.decode()).encode()}
                if held:
                    longer = len(message["body"]) - len(body)
                    start = held.pop()
                    headers = [
                        (key, str(int(value) + longer).encode() if key.lower() == b"content-length" else value)
                        for key, value in start["headers"]
                    ]
                    await send({**start, "headers": headers})
            await send(message)

        await self.app(scope, listening, spelling)


class LinesIn:
    """Standard input that remembers its lines."""

    def __init__(self) -> None:
        self.lines = anyio.wrap_file(open(0, encoding="utf-8", errors="replace", closefd=False))  # noqa: SIM115

    async def __aiter__(self) -> Any:
        async for line in self.lines:
            remember(line)
            yield line


class LinesOut:
    """Standard output that spells unknown members."""

    def __init__(self) -> None:
        self.file = anyio.wrap_file(open(1, "w", encoding="utf-8", closefd=False))  # noqa: SIM115

    async def write(self, line: str) -> None:
        await self.file.write(spelled(line))

    async def flush(self) -> None:
        await self.file.flush()


async def serve_stdio(name: str) -> None:
    """Serve over standard input and output."""
    server = make(name)._lowlevel_server
    async with stdio_server(stdin=LinesIn(), stdout=LinesOut()) as (read, write):  # type: ignore[arg-type]
        await server.run(read, write, server.create_initialization_options())


async def serve(transport: str, name: str) -> None:
    """Serve over HTTP on a free port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    server = make(name)
    app = server.sse_app() if transport == "sse" else server.streamable_http_app()
    await uvicorn.Server(uvicorn.Config(OnTheWire(app), log_level="error")).serve(sockets=[listener])


if __name__ == "__main__":
    asyncio.run(serve_stdio(sys.argv[2]) if sys.argv[1] == "stdio" else serve(sys.argv[1], sys.argv[2]))
