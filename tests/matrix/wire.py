"""A client that shows bytes: posts what it is given, at one front end after the other, and returns raw messages."""

from __future__ import annotations

import asyncio
import itertools
import json
from typing import Any

import aiohttp

from tests.machine import scaled
from tests.matrix.cells import Kind

CAPABILITIES = {"sampling": {}, "elicitation": {}, "roots": {}}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}

ASKABLE = {**META, "io.modelcontextprotocol/clientCapabilities": CAPABILITIES}


class Wire:
    """One client of any kind, over Streamable HTTP or HTTP+SSE."""

    def __init__(self, ports: list[int], kind: Kind) -> None:
        self.kind = kind
        self._ports = itertools.cycle(ports)
        self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=scaled(30)))
        self._headers: dict[str, str] = {}
        self._path = "/mcp"
        self._messages: asyncio.Queue[str] = asyncio.Queue()
        self._kept: list[str] = []  # all messages that came for the last request
        self._stream: aiohttp.ClientResponse | None = None
        self._reading: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Wire:
        if self.kind.over_sse:
            await self._open_stream()
        if not self.kind.modern:
            params = {
                "protocolVersion": self.kind.version,
                "capabilities": CAPABILITIES,
                "clientInfo": {"name": "wire", "version": "1"},
            }
            body = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
            (answer,) = await self.post(json.dumps(body))
            assert json.loads(answer)["result"]["protocolVersion"] == self.kind.version, answer
            if not self.kind.over_sse:
                self._headers["MCP-Protocol-Version"] = self.kind.version
            await self.post('{"jsonrpc":"2.0","method":"notifications/initialized"}', answers=0)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._stream is not None and self._reading is not None:
            self._stream.close()
            self._reading.cancel()
        await self._http.close()

    async def _open_stream(self) -> None:
        url = f"http://127.0.0.1:{next(self._ports)}/sse"
        self._stream = await self._http.get(url, headers={"Accept": "text/event-stream"})
        self._reading = asyncio.create_task(self._read(self._stream))
        self._path = await asyncio.wait_for(self._messages.get(), scaled(10))

    async def _read(self, response: aiohttp.ClientResponse) -> None:
        async for line in response.content:
            if line.startswith(b"data:") and line[5:].strip():
                await self._messages.put(line[5:].decode().strip())

    async def post(self, body: str, answers: int = 1, headers: dict[str, str] | None = None) -> list[str]:
        """POST these bytes; the raw messages that answer, without what comes before them."""
        sent = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            **self._headers,
            **(headers or {}),
        }
        url = f"http://127.0.0.1:{next(self._ports)}{self._path}"
        async with self._http.post(url, data=body.encode(), headers=sent) as response:
            if sid := response.headers.get("Mcp-Session-Id"):
                self._headers["Mcp-Session-Id"] = sid
            text = await response.text()
            if response.content_type == "text/event-stream":
                found = [
                    line[5:].strip() for line in text.splitlines() if line.startswith("data:") and line[5:].strip()
                ]
            else:
                found = [text] if response.content_type == "application/json" and text else []
        if self.kind.over_sse:
            found = await self._answers(answers)
        self._kept = found
        return found[-answers:] if answers else []

    async def _answers(self, count: int) -> list[str]:
        """Messages from the HTTP+SSE stream until there are so many answers."""
        found: list[str] = []
        while sum('"method":' not in one for one in found) < count:
            found.append(await asyncio.wait_for(self._messages.get(), scaled(10)))
        return found

    async def request(self, method: str, params: str = "", name: str | None = None, meta: dict[str, Any] = META) -> str:
        """One request; ``params`` are the members inside the braces, as they go out. The raw answer."""
        headers: dict[str, str] = {}
        if self.kind.modern:
            headers = {"MCP-Protocol-Version": self.kind.version, "Mcp-Method": method}
            if name is not None:
                headers["Mcp-Name"] = name
            facts = json.dumps(meta)[1:-1]
            if '"_meta":{' in params:
                params = params.replace('"_meta":{', '"_meta":{' + facts + ",", 1)
            else:
                params = ",".join(part for part in (params, '"_meta":{' + facts + "}") if part)
        body = f'{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{{{params}}}}}'
        (answer,) = await self.post(body, headers=headers)
        return answer

    async def call(self, name: str, arguments: str, more: str = "") -> str:
        """``tools/call``; the raw answer."""
        members = [f'"name":"{name}"', f'"arguments":{arguments}', *([more] if more else [])]
        return await self.request("tools/call", ",".join(members), name)

    async def whole(self, name: str, arguments: str, more: str = "") -> list[dict[str, Any]]:
        """``tools/call``; every message on its stream, the answer last."""
        self._kept = []
        await self.call(name, arguments, more)
        return [json.loads(one) for one in self._kept]

    async def answering(self, name: str, key: str, answer: dict[str, Any]) -> dict[str, Any]:
        """``tools/call`` of a tool that asks once; its result, when the question was answered with ``answer``.

        What the client was asked must name ``key``: a question of another client does not.
        """
        members = {"name": name, "arguments": {"key": key}}
        if self.kind.modern:
            raw = json.loads(await self.request("tools/call", json.dumps(members)[1:-1], name, ASKABLE))["result"]
            (asked,) = raw["inputRequests"].items()
            assert key in json.dumps(asked[1]), (key, asked)
            retry = {**members, "requestState": raw["requestState"], "inputResponses": {asked[0]: answer}}
            return dict(json.loads(await self.request("tools/call", json.dumps(retry)[1:-1], name, ASKABLE))["result"])
        message = {"jsonrpc": "2.0", "id": 11, "method": "tools/call", "params": members}
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream", **self._headers}
        url = f"http://127.0.0.1:{next(self._ports)}{self._path}"
        async with self._http.post(url, json=message, headers=headers) as response:
            while "result" not in (heard := await self._next(response)):
                assert key in json.dumps(heard), (key, heard)
                await self.post(json.dumps({"jsonrpc": "2.0", "id": heard["id"], "result": answer}), answers=0)
        return dict(heard["result"])

    async def _next(self, response: aiohttp.ClientResponse) -> dict[str, Any]:
        """The next message, on whichever stream this client hears."""
        async with asyncio.timeout(scaled(10)):
            if self.kind.over_sse:
                return dict(json.loads(await self._messages.get()))
            while True:
                line = await response.content.readline()
                assert line, "the stream has ended"
                if line.startswith(b"data: {"):
                    return dict(json.loads(line[5:]))

    async def lose(self, name: str, arguments: str, more: str, after: int) -> tuple[list[dict[str, Any]], str]:
        """``tools/call`` whose stream is dropped after so many messages: these, and the last event id."""
        params = f'{{"name":"{name}","arguments":{arguments},{more}}}'
        body = f'{{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{params}}}'
        sent = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream", **self._headers}
        url = f"http://127.0.0.1:{next(self._ports)}{self._path}"
        async with self._http.post(url, data=body.encode(), headers=sent) as response:
            return await self._events(response, after)

    async def resume(self, last_id: str) -> list[dict[str, Any]]:
        """What follows the event with this id, at the next front end."""
        sent = {"Accept": "text/event-stream", "Last-Event-ID": last_id, **self._headers}
        async with self._http.get(f"http://127.0.0.1:{next(self._ports)}{self._path}", headers=sent) as response:
            return (await self._events(response, 1000))[0]

    @staticmethod
    async def _events(response: aiohttp.ClientResponse, count: int) -> tuple[list[dict[str, Any]], str]:
        messages: list[dict[str, Any]] = []
        last_id = complete = ""
        async for line in response.content:
            name, _, value = line.decode().strip().partition(": ")
            if name == "id":
                last_id = value
            elif name == "data" and value:
                messages.append(json.loads(value))
            elif not name and messages:
                complete = last_id
                if len(messages) >= count:
                    break
        return messages, complete

    async def text(self, name: str, arguments: str) -> str:
        """The first text of a tool's result."""
        answer: dict[str, Any] = json.loads(await self.call(name, arguments))
        return str(answer["result"]["content"][0]["text"])
