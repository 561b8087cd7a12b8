"""Two MCP servers and a gateway in one script: ``python docs/example.py``.

Both servers are made with the ``mcp`` SDK and served over Streamable HTTP from this process. The gateway indexes their
tools; one client calls both through its one endpoint.
"""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from mcp.client.client import Client
from mcp.server.mcpserver import MCPServer

from gateway import Gateway

weather = MCPServer("weather")
calculator = MCPServer("calculator")


@weather.tool()
def forecast(city: str) -> str:
    """Tell tomorrow's weather."""
    return f"forecast for {city}: snow"


@calculator.tool()
def multiply(a: int, b: int) -> str:
    """Multiply two numbers."""
    return f"{a} × {b} = {a * b}"


def serve(server: MCPServer) -> tuple[uvicorn.Server, int]:
    """Serve on a free port, in the background."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    running = uvicorn.Server(uvicorn.Config(server.streamable_http_app(), log_level="error"))
    running.task = asyncio.ensure_future(running.serve(sockets=[listener]))  # type: ignore[attr-defined]
    return running, listener.getsockname()[1]


async def main() -> None:
    """Start everything, call both tools, stop everything."""
    servers = {"weather": serve(weather), "calculator": serve(calculator)}
    gateway = Gateway(name="example", port=0)
    for id, (_, port) in servers.items():
        gateway.register(id=id, connection={"type": "http", "url": f"http://127.0.0.1:{port}/mcp"})
    await gateway.start()
    for entry in gateway.list():
        print(entry.id, entry.status, [tool.name for tool in entry.tools])
    async with Client(gateway.endpoint) as client:
        print((await client.call_tool("forecast", {"city": "Oslo"})).content[0].text)
        print((await client.call_tool("multiply", {"a": 7, "b": 6})).content[0].text)
    await gateway.stop()
    for running, _ in servers.values():
        running.should_exit = True
        await running.task  # type: ignore[attr-defined]


if __name__ == "__main__":
    asyncio.run(main())
