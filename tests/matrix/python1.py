"""The puppet of the Python SDK 1.x, in an environment of its own. See ``tests.matrix.puppet``."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
from mcp import ClientSession, types
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

from tests.matrix.puppet import ANSWERS, Puppet, taking_turns

LISTS = {
    "tools": "list_tools",
    "prompts": "list_prompts",
    "resources": "list_resources",
    "templates": "list_resource_templates",
}


def plain(model: Any) -> Any:
    """As it was on the wire."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


class Python1(Puppet):
    """``mcp.ClientSession``."""

    one: ClientSession

    @asynccontextmanager
    async def client(self, ports: list[int], path: str, version: str, log_level: str | None) -> AsyncIterator[str]:
        """Connect with exactly this version."""
        types.LATEST_PROTOCOL_VERSION = version  # what ``initialize`` asks for
        url = f"http://127.0.0.1:{ports[0]}{path}"

        def factory(headers: Any = None, timeout: Any = None, auth: Any = None) -> httpx.AsyncClient:
            return httpx.AsyncClient(
                headers=headers, timeout=timeout or 60, auth=auth, transport=taking_turns(httpx, ports)
            )

        async with AsyncExitStack() as stack:
            if "/sse" in path:
                streams = await stack.enter_async_context(sse_client(url, httpx_client_factory=factory))
            else:
                http = await stack.enter_async_context(factory(timeout=httpx.Timeout(30, read=300)))
                streams = await stack.enter_async_context(streamable_http_client(url, http_client=http))
            self.one = await stack.enter_async_context(
                ClientSession(
                    streams[0],
                    streams[1],
                    elicitation_callback=self.elicited,
                    sampling_callback=self.sampled,
                    list_roots_callback=self.rooted,
                    logging_callback=self.logged,
                    message_handler=self.heard,
                )
            )
            yield str((await self.one.initialize()).protocolVersion)

    # ---- what the client hears

    async def elicited(self, context: Any, params: Any) -> types.ElicitResult:
        self.event("elicitation", params=plain(params))
        if params.mode == "url":
            return types.ElicitResult(action="accept")
        return types.ElicitResult(action="accept", content={"colour": ANSWERS["colour"]})

    async def sampled(self, context: Any, params: Any) -> types.CreateMessageResult:
        self.event("sampling", params=plain(params))
        content = types.TextContent(type="text", text=ANSWERS["model"])
        return types.CreateMessageResult(role="assistant", content=content, model="m")

    async def rooted(self, context: Any) -> types.ListRootsResult:
        self.event("roots")
        return types.ListRootsResult(roots=[types.Root.model_validate({"uri": ANSWERS["root"]})])

    async def logged(self, params: Any) -> None:
        self.event("log", level=params.level, data=params.data)

    async def heard(self, message: Any) -> None:
        if isinstance(message, types.ServerNotification):
            self.event("notification", **plain(message.root))

    # ---- commands

    async def do_list(self, what: str) -> Any:
        pages, cursor = [], None
        while True:
            page = await getattr(self.one, LISTS[what])(params=types.PaginatedRequestParams(cursor=cursor))
            pages.append(plain(page))
            cursor = page.nextCursor
            if cursor is None:
                return pages

    async def do_call(self, id: int, name: str, arguments: dict[str, Any]) -> Any:
        async def progressed(progress: float, total: float | None, message: str | None) -> None:
            self.event("progress", progress=progress, total=total, message=message)

        self.requests[id] = self.one._request_id  # the one that ``send_request`` takes next
        return plain(await self.one.call_tool(name, arguments, progress_callback=progressed))

    async def do_cancel(self, of: int) -> None:
        """This SDK leaves it to the caller to say so."""
        params = types.CancelledNotificationParams(requestId=self.requests[of], reason="no longer wanted")
        cancelled = types.CancelledNotification(params=params)
        await self.one.send_notification(types.ClientNotification(cancelled))
        self.running[of].cancel()

    async def do_prompt(self, name: str, arguments: dict[str, str]) -> Any:
        return plain(await self.one.get_prompt(name, arguments))

    async def do_read(self, uri: str) -> Any:
        return plain(await self.one.read_resource(uri))  # type: ignore[arg-type]

    async def do_complete(self, ref: dict[str, str], argument: dict[str, str]) -> Any:
        kind = types.PromptReference if ref["type"] == "ref/prompt" else types.ResourceTemplateReference
        return plain(await self.one.complete(kind.model_validate(ref), argument))

    async def do_subscribe(self, uri: str) -> None:
        await self.one.subscribe_resource(uri)  # type: ignore[arg-type]

    async def do_unsubscribe(self, uri: str) -> None:
        await self.one.unsubscribe_resource(uri)  # type: ignore[arg-type]

    async def do_level(self, level: str) -> None:
        await self.one.set_logging_level(level)  # type: ignore[arg-type]

    async def do_ping(self) -> None:
        await self.one.send_ping()

    def __init__(self) -> None:
        super().__init__()
        self.requests: dict[int, int] = {}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    asyncio.run(Python1().main())
