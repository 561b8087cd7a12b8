"""The tools of the matrix's upstream that need the client: forms, its model, its folders, pages to visit."""

from __future__ import annotations

import asyncio
from typing import Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.shared.exceptions import MCPError, UrlElicitationRequiredError
from mcp.shared.message import ServerMessageMetadata
from mcp.types import (
    CreateMessageRequest,
    CreateMessageResult,
    ElicitRequestURLParams,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
)

from tests.servers.asking import ROOTS, ask_model, form, given, in_either_era, required

ORDER: dict[str, Any] = {
    "method": "elicitation/create",
    "params": {
        "mode": "form",
        "message": "What would you like?",
        "requestedSchema": {
            "type": "object",
            "properties": {
                "colour": {"type": "string", "enum": ["red", "blue"], "default": "red"},
                "size": {
                    "type": "string",
                    "oneOf": [{"const": "s", "title": "Small"}, {"const": "l", "title": "Large"}],
                },
                "extras": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}, "default": ["a"]},
                "count": {"type": "integer", "minimum": 1, "default": 2},
                "gift": {"type": "boolean", "default": True},
            },
            "required": ["colour"],
        },
    },
}
"""A form with defaults (SEP-1034) and choices (SEP-1330)."""
_asking: set[asyncio.Task[None]] = set()


def add_asking_tools(server: MCPServer) -> None:
    """Add them."""
    _forms(server)
    _model_and_folders(server)
    _pages(server)


def _forms(server: MCPServer) -> None:
    """What needs the client to fill in a form, or to say something when the call is over."""

    @server.tool(structured_output=False)
    @in_either_era
    def ask(ctx: Context) -> str | InputRequiredResult:
        """A form."""
        answer = given(ctx, "colour")
        return required(colour=form("Which colour?", colour="string")) if answer is None else _outcome(answer)

    @server.tool(structured_output=False)
    @in_either_era
    def order(ctx: Context) -> str | InputRequiredResult:
        """A form with defaults and choices of every kind."""
        answer = given(ctx, "order")
        return required(order=ORDER) if answer is None else _outcome(answer)

    answers: dict[str, str] = {}

    @server.tool()
    async def later(ctx: Context, key: str) -> str:
        """Ask the client for its folders when this call is over."""
        session = ctx.session

        async def ask() -> None:
            for _ in range(20):  # its standing stream may not be open yet
                try:
                    found = await session.send_request(ListRootsRequest(), ListRootsResult)
                    answers[key] = ",".join(str(root.uri) for root in found.roots)
                    return
                except MCPError as error:
                    answers[key] = f"{error.error.code}"
                await asyncio.sleep(0.2)

        _asking.add(asyncio.create_task(ask()))
        return "later"

    @server.tool()
    def later_answer(key: str) -> str:
        """What came of ``later``."""
        return answers.get(key, "")


def _model_and_folders(server: MCPServer) -> None:
    """What needs the client's model or its folders."""

    @server.tool(structured_output=False)
    @in_either_era
    def sample(ctx: Context) -> str | InputRequiredResult:
        """The client's model."""
        answer = given(ctx, "model")
        return required(model=ask_model("Say hi", 9)) if answer is None else f"model said {answer['content']['text']}"

    @server.tool(structured_output=False)
    async def think(ctx: Context, key: str) -> Any:
        """The client's model, about this key."""
        asked = ask_model(f"About {key}", 9)
        if ctx.protocol_version == "2026-07-28":
            answer = given(ctx, "model")
            return required(model=asked) if answer is None else f"{key}: model said {answer['content']['text']}"
        related = ServerMessageMetadata(related_request_id=ctx.request_id)
        wanted = CreateMessageRequest.model_validate(asked)
        found = await ctx.session.send_request(wanted, CreateMessageResult, metadata=related)
        return f"{key}: model said {found.content.text}"

    @server.tool(structured_output=False)
    @in_either_era
    def roots(ctx: Context) -> str | InputRequiredResult:
        """The client's folders."""
        answer = given(ctx, "roots")
        return required(roots=ROOTS) if answer is None else ",".join(root["uri"] for root in answer["roots"])


def _pages(server: MCPServer) -> None:
    """What needs the user to go to a page."""

    @server.tool(structured_output=False)
    async def visit(ctx: Context, key: str) -> Any:
        """A page to visit."""
        page = f"https://pages.invalid/{key}"
        if ctx.protocol_version != "2026-07-28":
            answer = await ctx.elicit_url("Please visit", page, key)
            await ctx.session.send_elicit_complete(key)
            return answer.action
        answer = given(ctx, "page")
        params = {"mode": "url", "message": "Please visit", "url": page}
        return required(page={"method": "elicitation/create", "params": params}) if answer is None else answer["action"]

    visited: set[str] = set()

    @server.tool()
    def pay(key: str) -> str:
        """Refuse once with -32042 (2025-11-25): a page has to be visited first."""
        if key in visited:
            return "paid"
        visited.add(key)
        page = f"https://pages.invalid/{key}"
        raise UrlElicitationRequiredError([ElicitRequestURLParams(message="Pay", url=page, elicitation_id=key)])


def _outcome(answer: dict[str, Any]) -> str:
    """What came of a form."""
    return f"{answer['action']}: {(answer.get('content') or {}).get('colour')}"
