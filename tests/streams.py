"""Event streams as tests read them: the messages as they come, ids and retry beside them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from tests.clients import MODERN_META, RawClient
from tests.fleet import eventually
from tests.machine import scaled


class Stream:
    """An open event stream: its JSON messages as they come, and the last event id."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.retry_ms = 0
        self.comments = 0
        self.closed = False

    async def read(self, response: aiohttp.ClientResponse) -> None:
        """Until it ends."""
        ids: list[str] = []  # of the event that is being read: what is in it counts when it is whole
        data = ""
        with contextlib.suppress(aiohttp.ClientError, asyncio.CancelledError):
            async for line in response.content:
                name, _, value = line.decode().strip().partition(":")
                value = value.strip()
                if line.startswith(b":"):
                    self.comments += 1
                elif name == "data" and value:
                    data = value
                elif name == "id":
                    ids.append(value)
                elif not name:
                    self._dispatch(data, ids)
                    data, ids = "", []
                elif name == "retry":
                    self.retry_ms = int(value)
        self.closed = True

    def _dispatch(self, data: str, ids: list[str]) -> None:
        self.ids += ids
        if data:
            try:
                self.messages.append(json.loads(data))
            except ValueError:
                self.messages.append({"unreadable": data[:100]})

    def methods(self) -> list[str]:
        """Of the notifications that came."""
        return [message["method"] for message in self.messages if "method" in message]

    def updated(self) -> list[str]:
        """URIs of the resources that were said to have changed."""
        return [m["params"]["uri"] for m in self.messages if m.get("method") == "notifications/resources/updated"]


@contextlib.asynccontextmanager
async def reading(response: aiohttp.ClientResponse) -> AsyncIterator[Stream]:
    """Read it while the block runs, then close it."""
    stream = Stream()
    assert response.status == 200, await response.text()
    task = asyncio.create_task(stream.read(response))
    try:
        yield stream
    finally:
        response.close()
        await task


@contextlib.asynccontextmanager
async def standing(client: RawClient, url: str, last_id: str = "") -> AsyncIterator[Stream]:
    """The GET stream of a legacy session at one front end."""
    sent = {**client.legacy_headers(), "Accept": "text/event-stream"}
    if last_id:
        sent["Last-Event-ID"] = last_id
    async with client.session.get(url, headers=sent) as response, reading(response) as stream:
        yield stream


@contextlib.asynccontextmanager
async def calling(client: RawClient, url: str, message: dict[str, Any]) -> AsyncIterator[Stream]:
    """A legacy request whose answer is read as a stream."""
    sent = {**client.legacy_headers(), "Accept": "application/json, text/event-stream"}
    async with client.session.post(url, json=message, headers=sent) as response, reading(response) as stream:
        yield stream


@contextlib.asynccontextmanager
async def listening(
    client: RawClient, url: str, meta: dict[str, Any] | None = None, **notifications: Any
) -> AsyncIterator[Stream]:
    """A modern ``subscriptions/listen`` stream, acknowledged."""
    message = {
        "jsonrpc": "2.0",
        "id": "listen-1",
        "method": "subscriptions/listen",
        "params": {
            "_meta": {**MODERN_META, "progressToken": "listener", **(meta or {})},
            "notifications": notifications,
        },
    }
    headers = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "subscriptions/listen",
    }
    async with client.session.post(url, json=message, headers=headers) as response, reading(response) as stream:
        await eventually(lambda: stream.messages, 5.0, "acknowledged")
        yield stream


async def sse_data(response: aiohttp.ClientResponse, within_s: float = 5.0) -> str:
    """The data of the next event on an HTTP+SSE stream."""
    async with asyncio.timeout(scaled(within_s)):
        while not (line := await response.content.readline()).startswith(b"data:"):
            assert line, "the stream has ended"
    return line[5:].strip().decode()
