"""Demo upstreams, made with the ``mcp`` SDK: ``python servers.py ROLE [PORT]``; they need no network.

Roles: ``search`` (Streamable HTTP), ``weather`` (HTTP+SSE), ``notes`` (stdio).
"""

from __future__ import annotations

import asyncio
import sys

from mcp.server.mcpserver import Context, MCPServer

CITIES = {"berlin": "12 °C, rain", "lima": "19 °C, mist", "nairobi": "24 °C, sun", "oslo": "3 °C, snow"}
DOCUMENTS = [
    "The gateway routes each call to a healthy replica.",
    "Replicas share a name; the balancer alternates between them.",
    "A call is never silently run twice.",
]


def search(port: int) -> MCPServer:
    """Finds sentences; says which replica answered."""
    server = MCPServer("demo-search", instructions="Searches three sentences about the gateway.", log_level="WARNING")

    @server.tool()
    def search_documents(query: str) -> str:
        """Find sentences that contain a word."""
        hits = [text for text in DOCUMENTS if query.lower() in text.lower()]
        return f"[replica on port {port}] " + ("; ".join(hits) or "nothing found")

    @server.tool()
    async def index_documents(ctx: Context, steps: int = 3) -> str:
        """Pretend to index; takes its time and reports progress."""
        for step in range(steps):
            await asyncio.sleep(0.1)
            await ctx.report_progress(step + 1, steps, f"step {step + 1} of {steps}")
        return f"indexed in {steps} steps on port {port}"

    return server


def weather(port: int) -> MCPServer:
    """Weather of four cities."""
    server = MCPServer("demo-weather", log_level="WARNING")

    @server.tool()
    def get_weather(city: str) -> str:
        """Tell the weather of a city."""
        return CITIES.get(city.lower(), f"no station in {city}; there is one in {', '.join(sorted(CITIES))}")

    return server


def notes(port: int) -> MCPServer:
    """Notes in memory."""
    server = MCPServer("demo-notes", log_level="WARNING")
    kept: list[str] = []

    @server.tool()
    def add_note(text: str) -> str:
        """Keep a note."""
        kept.append(text)
        return f"{len(kept)} notes"

    @server.tool()
    def list_notes() -> list[str]:
        """All notes."""
        return kept

    return server


def main() -> None:
    """Run one role."""
    role = sys.argv[1]
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    server = {"search": search, "weather": weather, "notes": notes}[role](port)
    if role == "notes":
        server.run("stdio")
    elif role == "weather":
        server.run("sse", port=port)
    else:
        server.run("streamable-http", port=port)


if __name__ == "__main__":
    main()
