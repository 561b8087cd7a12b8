"""A server written with FastMCP: ``python fastmcp_server.py stdio``, or ``http PORT``."""

# The environment that runs this has FastMCP, and nothing of the gateway.
# mypy: ignore-errors

import sys
from dataclasses import dataclass

from fastmcp import Context, FastMCP
from fastmcp.exceptions import ToolError

mcp = FastMCP("interop")


@dataclass
class Choice:
    colour: str


@mcp.tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@mcp.tool
def fails() -> str:
    """Always fail."""
    raise ToolError("as it must")


@mcp.tool
async def asks(ctx: Context) -> str:
    """Ask the person."""
    answer = await ctx.elicit("Which colour?", response_type=Choice)
    return f"{answer.action}: {getattr(answer, 'data', None)}"


@mcp.tool
async def samples(ctx: Context) -> str:
    """Ask the model."""
    answer = await ctx.sample("Say something")
    return answer.text


@mcp.tool
async def counts(to: int, ctx: Context) -> int:
    """Count, with progress."""
    for n in range(1, to + 1):
        await ctx.report_progress(n, to)
    return to


@mcp.resource("data://config")
def config() -> dict:
    """The configuration."""
    return {"theme": "dark", "großes ß": True}


@mcp.resource("data://users/{id}")
def user(id: str) -> str:
    """One user."""
    return f"user {id}"


@mcp.prompt
def review(code: str) -> str:
    """Review code."""
    return f"Review this:\n{code}"


if sys.argv[1] == "stdio":
    mcp.run(show_banner=False)
else:
    mcp.run(transport="http", host="127.0.0.1", port=int(sys.argv[2]), show_banner=False)
