"""Asks one server, and prints what it answered as JSON. Runs on the Python SDK 1.x, in the environment of the matrix.

Input (stdin): ``{"connect": {...}, "steps": [...]}``. Its lists come first. A step is ``[what, ...]``: ``call`` name
arguments, ``prompt`` name arguments, ``read`` URI, ``complete`` reference argument, ``level`` level.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

from mcp import ClientSession, StdioServerParameters, types
from mcp.client.sse import sse_client
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import McpError
from pydantic import AnyUrl

LISTS = {
    "tools": ("list_tools", "tools"),
    "prompts": ("list_prompts", "prompts"),
    "resources": ("list_resources", "resources"),
    "templates": ("list_resource_templates", "resourceTemplates"),
}


def plain(model: Any) -> Any:
    """As it was on the wire."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


class Asker:
    """One client. ``heard`` are the questions and the progress of the step that runs."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.session: ClientSession

    async def sampled(self, context: Any, params: Any) -> types.CreateMessageResult:
        self.heard.append(["sampling", plain(params)["messages"]])
        content = types.TextContent(type="text", text="a model's answer")
        return types.CreateMessageResult(role="assistant", content=content, model="m")

    async def elicited(self, context: Any, params: Any) -> types.ElicitResult:
        self.heard.append(["elicitation", params.message])
        required = (plain(params).get("requestedSchema") or {}).get("required", [])
        return types.ElicitResult(action="accept", content=dict.fromkeys(required, "given"))

    async def rooted(self, context: Any) -> types.ListRootsResult:
        self.heard.append(["roots"])
        return types.ListRootsResult(roots=[types.Root.model_validate({"uri": "file:///mine", "name": "mine"})])

    async def progressed(self, progress: float, total: float | None, message: str | None) -> None:
        self.heard.append(["progress", progress, total, message])

    async def entries(self, kind: str) -> Any:
        """All pages of a list, by name: merged lists may have another order."""
        method, member = LISTS[kind]
        found: list[Any] = []
        cursor = None
        while True:
            page = await getattr(self.session, method)(params=types.PaginatedRequestParams(cursor=cursor))
            found += plain(page)[member]
            cursor = page.nextCursor
            if not cursor:
                return sorted(found, key=lambda one: one.get("uri") or one.get("uriTemplate") or one["name"])

    async def step(self, what: str, *rest: Any) -> Any:
        """One question, and what came of it."""
        match what:
            case "call":
                limit = timedelta(seconds=60)
                return await self.session.call_tool(rest[0], rest[1], limit, progress_callback=self.progressed)
            case "prompt":
                return await self.session.get_prompt(rest[0], rest[1])
            case "read":
                return await self.session.read_resource(AnyUrl(rest[0]))
            case "complete":
                kind = types.PromptReference if rest[0]["type"] == "ref/prompt" else types.ResourceTemplateReference
                return await self.session.complete(kind.model_validate(rest[0]), rest[1])
            case _:
                return await self.session.set_logging_level(rest[0])

    async def told(self, asking: Any) -> Any:
        """The answer or the error, with what was heard before it."""
        self.heard = []
        try:
            answer: Any = await asking
            answer = answer if isinstance(answer, list) else plain(answer)
        except McpError as error:
            answer = {"error": error.error.code, "message": error.error.message}
        heard = [one for one in self.heard if one[0] != "roots"]  # servers ask for roots when they like
        return [answer, heard] if heard else answer

    async def ask(self, connect: dict[str, Any], steps: list[list[Any]]) -> dict[str, Any]:
        async with AsyncExitStack() as stack:
            errors = stack.enter_context(Path(os.devnull).open("w"))  # noqa: ASYNC230, SIM115
            if "command" in connect:
                server = StdioServerParameters(command=connect["command"], args=connect["args"], env=connect["env"])
                streams: Any = await stack.enter_async_context(stdio_client(server, errlog=errors))
            elif connect["type"] == "sse":
                streams = await stack.enter_async_context(sse_client(connect["url"]))
            else:
                streams = await stack.enter_async_context(streamable_http_client(connect["url"]))
            self.session = await stack.enter_async_context(
                ClientSession(
                    streams[0],
                    streams[1],
                    sampling_callback=self.sampled,
                    elicitation_callback=self.elicited,
                    list_roots_callback=self.rooted,
                )
            )
            await self.session.initialize()
            await asyncio.sleep(1.0)  # some servers register what the client may use after it is connected
            answers = {kind: await self.told(self.entries(kind)) for kind in LISTS}
            for step in steps:
                answers[json.dumps(step)] = await self.told(self.step(*step))
            return answers


async def main() -> None:
    asked = json.load(sys.stdin)
    print(json.dumps(await Asker().ask(asked["connect"], asked["steps"])))


if __name__ == "__main__":
    asyncio.run(main())
