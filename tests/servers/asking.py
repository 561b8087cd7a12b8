"""Tools that ask their client in either era: by ``input_required`` results, or by requests of their own."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
from mcp.server.mcpserver import Context
from mcp.shared.message import ServerMessageMetadata
from mcp.types import (
    CreateMessageRequest,
    CreateMessageResult,
    ElicitRequest,
    ElicitResult,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
)

ROOTS: dict[str, Any] = {"method": "roots/list", "params": {}}
RESULTS: dict[str, tuple[Any, Any]] = {
    "elicitation/create": (ElicitRequest, ElicitResult),
    "sampling/createMessage": (CreateMessageRequest, CreateMessageResult),
    "roots/list": (ListRootsRequest, ListRootsResult),
}


def form(message: str, **properties: str) -> dict[str, Any]:
    """An elicitation request for these members (name=JSON type)."""
    schema = {
        "type": "object",
        "properties": {k: {"type": v} for k, v in properties.items()},
        "required": [*properties],
    }
    return {"method": "elicitation/create", "params": {"mode": "form", "message": message, "requestedSchema": schema}}


def ask_model(text: str, tokens: int) -> dict[str, Any]:
    """A sampling request."""
    message = {"role": "user", "content": {"type": "text", "text": text}}
    return {"method": "sampling/createMessage", "params": {"messages": [message], "maxTokens": tokens}}


def required(state: str | None = None, **requests: dict[str, Any]) -> InputRequiredResult:
    """The result that asks."""
    return InputRequiredResult.model_validate(
        {"resultType": "input_required", "inputRequests": requests, **({"requestState": state} if state else {})}
    )


class Gathered:
    """What the tools look at, for a legacy client: its answers were gathered by requests."""

    def __init__(self, ctx: Context) -> None:
        self.client_capabilities = ctx.client_capabilities
        self.input_responses: dict[str, Any] = {}
        self.request_state: str | None = None


def in_either_era(tool: Callable[[Any], Any]) -> Callable[..., Awaitable[Any]]:
    """Ask by ``input_required`` where the client knows that, else by requests, all of a round at once."""

    @functools.wraps(tool)
    async def run(ctx: Context) -> Any:
        if ctx.protocol_version == "2026-07-28":
            return tool(ctx)
        gathered = Gathered(ctx)
        related = ServerMessageMetadata(related_request_id=ctx.request_id)

        async def ask(key: str, request: dict[str, Any]) -> None:
            wanted, answer = RESULTS[request["method"]]
            sent = wanted.model_validate(request)
            gathered.input_responses[key] = await ctx.session.send_request(sent, answer, metadata=related)

        while isinstance(result := tool(gathered), InputRequiredResult):
            gathered.request_state = result.request_state
            requests = result.model_dump(mode="json", by_alias=True, exclude_none=True).get("inputRequests") or {}
            async with anyio.create_task_group() as tasks:
                for key, request in requests.items():
                    tasks.start_soon(ask, key, request)
        return result

    return run


def given(ctx: Any, key: str) -> dict[str, Any] | None:
    """What the client answered under ``key``."""
    response = (ctx.input_responses or {}).get(key)
    return None if response is None else response.model_dump(mode="json", by_alias=True)
