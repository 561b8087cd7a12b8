"""Locust users of both protocol eras: ``locust -f loadtest/ --host http://127.0.0.1:4000``.

Both list the tools first and then call whatever the gateway offers, the first listed most often, with arguments made
from each tool's schema. Statistics are named by method and tool (``tools/call search_documents``).

What counts as a failure: HTTP errors, JSON-RPC errors, and answers that are neither JSON nor an event stream with a
response in it. A tool's result with ``isError`` has crossed the gateway as it should (arguments are invented, and some
tools will not like them), so it is a success; it is counted under its own name, ``tools/call NAME (isError)``.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from typing import Any

import gevent
from locust import FastHttpUser, between, task

from loadtest import arguments, wire
from loadtest.wire import Answer, Request

_ids = itertools.count(1)
_STREAM_S = (2.0, 8.0)


class McpUser(FastHttpUser):
    """What both eras share: sending a message, counting its answer, choosing a tool."""

    abstract = True
    host = "http://127.0.0.1:4000"
    wait_time = between(0.05, 0.3)

    def on_start(self) -> None:
        """Get to know the server."""
        self.rng = random.Random()
        self.tools: list[dict[str, Any]] = []
        self.open()
        self.list_tools()

    def open(self) -> None:
        """The era's beginning."""

    def request(self, method: str, params: dict[str, Any] | None = None) -> Request:
        """A message in the era's form."""
        raise NotImplementedError

    def send(self, request: Request, name: str) -> Answer:
        """Post, and count by what the answer means."""
        with self.client.request(
            request.method, request.path, name=name, data=request.body, headers=request.headers, catch_response=True
        ) as response:
            if not response.status_code:
                response.failure(response.error)
                return Answer(None, str(response.error))
            self.on_headers(response.headers or {})
            if not request.body or b'"id":' not in request.body:
                answer = Answer({})
            else:
                answer = wire.read((response.headers or {}).get("Content-Type", ""), response.text or "")
            if answer.error or response.status_code >= 400:
                response.failure(f"HTTP {response.status_code}: {answer.error}")
            else:
                response.success()
            if answer.result is not None and answer.result.get("isError"):
                response.request_meta["name"] = f"{name} (isError)"
            return answer

    def on_headers(self, headers: Any) -> None:
        """Look at an answer's headers."""

    @task(2)
    def list_tools(self) -> None:
        """All pages of the list."""
        found, cursor = [], None
        while True:
            answer = self.send(self.request("tools/list", {"cursor": cursor} if cursor else {}), "tools/list")
            if answer.result is None:
                return
            found += answer.result.get("tools", [])
            cursor = answer.result.get("nextCursor")
            if not cursor:
                self.tools = found
                return

    @task(20)
    def call(self) -> None:
        """Any tool; the first listed most often."""
        if self.tools:
            weights = [1 / (rank + 1) for rank in range(len(self.tools))]
            self.call_tool(self.rng.choices(self.tools, weights)[0])

    @task(2)
    def call_slowly(self) -> None:
        """A tool that can take a while, asked to, with progress wanted: usually answered by an event stream."""
        slow = [tool for tool in self.tools if arguments.slow_properties(tool["inputSchema"])]
        if slow:
            self.call_tool(self.rng.choice(slow), slow=True)

    def call_tool(self, tool: dict[str, Any], slow: bool = False) -> None:
        """One call."""
        schema = tool["inputSchema"]
        given = arguments.make(schema, self.rng, slow)
        params: dict[str, Any] = {"name": tool["name"], "arguments": given}
        if slow:
            params["_meta"] = {"progressToken": next(_ids)}
        request = self.request("tools/call", params)
        request = replace(request, headers={**request.headers, **wire.parameter_headers(schema, given)})
        self.send(request, f"tools/call {tool['name']}{' (slow)' if slow else ''}")


class ModernUser(McpUser):
    """2026-07-28: no session, every request stands for itself."""

    weight = 1

    def open(self) -> None:
        self.discover()

    def request(self, method: str, params: dict[str, Any] | None = None) -> Request:
        return wire.modern(method, params, next(_ids))

    @task(1)
    def discover(self) -> None:
        """What the server can do."""
        self.send(self.request("server/discover"), "server/discover")


class LegacyUser(McpUser):
    """2025-11-25: a session, an event stream beside it now and then, and a proper end."""

    weight = 1

    def on_start(self) -> None:
        self.sid = ""
        self.stream: gevent.Greenlet | None = None
        super().on_start()

    def open(self) -> None:
        self.sid = ""
        self.send(wire.initialize(), "initialize")
        self.send(wire.notice("notifications/initialized", self.sid), "notifications/initialized")

    def on_headers(self, headers: Any) -> None:
        self.sid = headers.get("Mcp-Session-Id") or self.sid

    def request(self, method: str, params: dict[str, Any] | None = None) -> Request:
        return wire.legacy(method, params, next(_ids), self.sid)

    @task(2)
    def ping(self) -> None:
        """Is anybody there?"""
        self.send(self.request("ping"), "ping")

    @task(1)
    def listen(self) -> None:
        """Hold the session's event stream open for a while, beside the calls."""
        if self.stream is None or self.stream.dead:
            self.stream = gevent.spawn(self._hold_stream, self.rng.uniform(*_STREAM_S))

    def _hold_stream(self, seconds: float) -> None:
        headers = {"Accept": "text/event-stream", **wire.session_headers(self.sid)}
        with self.client.get("/mcp", name="GET stream", headers=headers, stream=True, catch_response=True) as response:
            kind = (response.headers or {}).get("Content-Type", "")
            if response.status_code != 200 or not kind.startswith("text/event-stream"):
                response.failure(f"HTTP {response.status_code} {kind}")
                return
            response.success()
            try:
                with gevent.Timeout(seconds, False):
                    for _ in response.iter_content():
                        pass
            finally:
                response._response.release()  # an open stream is closed by closing its connection

    @task(1)
    def begin_again(self) -> None:
        """End the session and open another."""
        self._end()
        self.open()

    def _end(self) -> None:
        if self.stream is not None:
            self.stream.kill()
        if self.sid:
            self.send(Request(b"", wire.session_headers(self.sid), "/mcp", "DELETE"), "DELETE session")
        self.sid = ""

    def on_stop(self) -> None:
        """Leave nothing behind."""
        self._end()
