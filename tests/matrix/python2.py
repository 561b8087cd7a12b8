"""The puppet of the Python SDK 2.x. ``python -m tests.matrix.python2``; see ``tests.matrix.puppet``."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx2
import mcp.client.session
from mcp.client.client import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from mcp.types import (
    CreateMessageResult,
    ElicitResult,
    ListRootsResult,
    PromptReference,
    ResourceTemplateReference,
    Root,
    TextContent,
)

from tests.matrix.puppet import ANSWERS, Puppet, taking_turns

MODERN = "2026-07-28"
LISTS = {
    "tools": "list_tools",
    "prompts": "list_prompts",
    "resources": "list_resources",
    "templates": "list_resource_templates",
}


def plain(model: Any) -> Any:
    """As it was on the wire."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


class Python2(Puppet):
    """``mcp.client.client.Client``."""

    one: Client

    @asynccontextmanager
    async def client(self, ports: list[int], path: str, version: str, log_level: str | None) -> AsyncIterator[str]:
        """Connect with exactly this version."""
        mcp.client.session.LATEST_HANDSHAKE_VERSION = version  # what ``initialize`` asks for
        url = f"http://127.0.0.1:{ports[0]}{path}"

        def factory(headers: Any = None, timeout: Any = None, auth: Any = None) -> Any:
            return httpx2.AsyncClient(
                headers=headers, timeout=timeout or 60, auth=auth, transport=taking_turns(httpx2, ports)
            )

        async with AsyncExitStack() as stack:
            if "/sse" in path:
                transport = sse_client(url, httpx_client_factory=factory)
            else:
                http = await stack.enter_async_context(factory(timeout=create_mcp_http_client().timeout))
                transport = streamable_http_client(url, http_client=http)
            self.one = await stack.enter_async_context(
                Client(
                    transport,
                    mode=MODERN if version == MODERN else "legacy",
                    elicitation_callback=self.elicited,
                    sampling_callback=self.sampled,
                    list_roots_callback=self.rooted,
                    logging_callback=self.logged,
                    log_level=log_level,  # type: ignore[arg-type]
                    message_handler=self.heard,
                )
            )
            yield self.one.protocol_version

    # ---- what the client hears

    async def elicited(self, context: Any, params: Any) -> ElicitResult:
        self.event("elicitation", params=plain(params))
        if params.mode == "url":
            return ElicitResult(action="accept")
        return ElicitResult(action="accept", content={"colour": ANSWERS["colour"]})

    async def sampled(self, context: Any, params: Any) -> CreateMessageResult:
        self.event("sampling", params=plain(params))
        content = TextContent(type="text", text=ANSWERS["model"])
        return CreateMessageResult(role="assistant", content=content, model="m")

    async def rooted(self, context: Any) -> ListRootsResult:
        self.event("roots")
        return ListRootsResult(roots=[Root(uri=ANSWERS["root"])])

    async def logged(self, params: Any) -> None:
        self.event("log", level=params.level, data=params.data)

    async def heard(self, message: Any) -> None:
        if not isinstance(message, Exception):
            self.event("notification", **plain(message))

    # ---- commands

    async def do_list(self, what: str) -> Any:
        pages, cursor = [], None
        while True:
            page = await getattr(self.one, LISTS[what])(cursor=cursor, cache_mode="bypass")
            pages.append(plain(page))
            cursor = page.next_cursor
            if cursor is None:
                return pages

    async def do_call(self, id: int, name: str, arguments: dict[str, Any]) -> Any:
        async def progressed(progress: float, total: float | None, message: str | None) -> None:
            self.event("progress", progress=progress, total=total, message=message)

        return plain(await self.one.call_tool(name, arguments, progress_callback=progressed))

    async def do_cancel(self, of: int) -> None:
        self.running[of].cancel()

    async def do_prompt(self, name: str, arguments: dict[str, str]) -> Any:
        return plain(await self.one.get_prompt(name, arguments))

    async def do_read(self, uri: str) -> Any:
        return plain(await self.one.read_resource(uri, cache_mode="bypass"))

    async def do_complete(self, ref: dict[str, str], argument: dict[str, str]) -> Any:
        kind = PromptReference if ref["type"] == "ref/prompt" else ResourceTemplateReference
        return plain(await self.one.complete(kind.model_validate(ref), argument))

    async def do_subscribe(self, uri: str) -> None:
        await self.one.subscribe_resource(uri)

    async def do_unsubscribe(self, uri: str) -> None:
        await self.one.unsubscribe_resource(uri)

    async def do_level(self, level: str) -> None:
        await self.one.set_logging_level(level)  # type: ignore[arg-type]

    async def do_ping(self) -> None:
        await self.one.session.send_ping()

    async def do_listen(self, **wanted: Any) -> None:
        """Hold a ``subscriptions/listen`` stream until this command is cancelled."""
        async with self.one.listen(**wanted) as changes:
            self.event("listening")
            async for change in changes:
                self.event("changed", what=type(change).__name__, uri=str(getattr(change, "uri", "")))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    asyncio.run(Python2().main())
