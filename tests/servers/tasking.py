"""A modern HTTP upstream with tasks, as the extension's specification has them, in the test's own event loop.

Its tools are those that the scenarios of the conformance suite want, and ``who``. It checks the headers of requests
about tasks, makes a task only for clients that declare the extension, and tells streams that listen of every change.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

EXTENSION = "io.modelcontextprotocol/tasks"
CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
TAG = "io.modelcontextprotocol/subscriptionId"
REQUIRED = {"failing_job", "test_tool_with_task"}
"""Tools that are refused to clients that do not declare the extension."""
SYNC = {"greet", "who"}
NAMES = ("greet", "who", "slow_compute", "failing_job", "protocol_error_job", "confirm_delete", "multi_input", "sample")
ABOUT = ("tasks/get", "tasks/update", "tasks/cancel")
COMPLETE = {"resultType": "complete"}


class Failure(Exception):
    """A JSON-RPC error."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message, **({"data": data} if data is not None else {})}


class Task:
    """One task: its document, what it waits for, and who listens."""

    def __init__(self, poll_ms: int) -> None:
        self.id = str(uuid.uuid4())
        self.document: dict[str, Any] = {
            "taskId": self.id, "status": "working", "createdAt": now(), "lastUpdatedAt": now(),
            "ttlMs": 600_000, "pollIntervalMs": poll_ms,
        }  # fmt: skip
        self.changed = asyncio.Condition()
        self.responses: dict[str, Any] = {}
        self.work: asyncio.Task[None] | None = None

    async def become(self, status: str, **members: Any) -> None:
        """Change the status."""
        async with self.changed:
            if self.document["status"] in ("completed", "failed", "cancelled"):
                return
            kept = {name: value for name, value in self.document.items() if name not in ("inputRequests",)}
            self.document = {**kept, "status": status, "lastUpdatedAt": now(), **members}
            self.changed.notify_all()

    async def ask(self, needs: dict[str, Any]) -> dict[str, Any]:
        """Wait for input. What was answered is needed no longer."""
        await self.become("input_required", inputRequests=needs)
        async with self.changed:
            while not self.responses.keys() >= needs.keys():
                await self.changed.wait()
                left = {key: need for key, need in needs.items() if key not in self.responses}
                self.document["inputRequests"] = left
        await self.become("working")
        return self.responses


def now() -> str:
    """The time as the protocol writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def text(said: str, **members: Any) -> dict[str, Any]:
    """A tool's result."""
    return {"content": [{"type": "text", "text": said}], **members}


def form(message: str, name: str) -> dict[str, Any]:
    """A question."""
    schema = {"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}
    return {"method": "elicitation/create", "params": {"mode": "form", "message": message, "requestedSchema": schema}}


class TaskServer:
    """One upstream, called ``name``. ``calls`` are the messages that came."""

    def __init__(self, name: str, poll_ms: int = 60) -> None:
        self.name = name
        self.poll_ms = poll_ms
        self.port = 0
        self.calls: list[dict[str, Any]] = []
        self.tasks: dict[str, Task] = {}
        self.settled = asyncio.Event()
        """Tasks of ``slow_compute`` with ``held`` wait for this."""
        self._runner: web.ServerRunner | None = None

    async def __aenter__(self) -> TaskServer:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, on the same port again after ``stop``."""
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def connection(self) -> dict[str, Any]:
        """For ``register``."""
        return {"type": "http", "url": f"http://127.0.0.1:{self.port}/mcp"}

    def called(self, method: str) -> list[dict[str, Any]]:
        """The messages of a method that came."""
        return [one for one in self.calls if one.get("method") == method]

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method != "POST":
            return web.Response(status=405)
        message = json.loads(await request.read())
        self.calls.append(message)
        if "id" not in message:
            return web.Response(status=202)
        base = {"jsonrpc": "2.0", "id": message["id"]}
        method, params = message["method"], message.get("params") or {}
        if method == "subscriptions/listen":
            return await self._listen(request, message)
        try:
            if request.headers.get("Mcp-Method") != method:
                raise Failure(-32020, "Mcp-Method")
            named = params.get("taskId") if method in ABOUT else params.get("name")
            if named is not None and request.headers.get("Mcp-Name") != named:
                raise Failure(-32020, "Mcp-Name")
            return web.json_response({**base, "result": await self._result(method, params)})
        except Failure as failure:
            return web.json_response({**base, "error": failure.error}, status=400)

    async def _result(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        cached = {"ttlMs": 0, "cacheScope": "private", **COMPLETE}
        if method == "server/discover":
            capabilities = {"tools": {}, "extensions": {EXTENSION: {}}}
            return {"supportedVersions": ["2026-07-28"], "capabilities": capabilities, **cached}
        if method == "tools/list":
            names = (*NAMES, "test_tool_with_task")
            return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in names], **cached}
        if method == "tools/call":
            return await self._call(params)
        if method in ABOUT:
            return await self._about(method, params)
        raise Failure(-32601, "method not found")

    # ---- tools

    @staticmethod
    def _declared(params: dict[str, Any]) -> bool:
        return EXTENSION in params["_meta"][CAPABILITIES].get("extensions", {})

    async def _call(self, params: dict[str, Any]) -> dict[str, Any]:
        name, arguments = params["name"], params.get("arguments") or {}
        if name == "greet":
            return {**text(f"Hello, {arguments.get('name')}!"), **COMPLETE}
        if name == "who":
            return {**text(self.name), **COMPLETE}
        declared = self._declared(params)
        if not declared and name in REQUIRED:
            needed = {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
            raise Failure(-32021, "Missing required client capability", needed)
        if name == "test_tool_with_task" and "inputResponses" not in params:
            needs = {"user_name": form("Who are you?", "name")}
            return {"resultType": "input_required", "inputRequests": needs, "requestState": "round-1"}
        if not declared:
            await asyncio.sleep(arguments.get("seconds", 0))
            return {**text(f"{self.name} ran it at once"), **COMPLETE}
        task = Task(self.poll_ms)
        self.tasks[task.id] = task
        task.work = asyncio.create_task(self._work(task, name, arguments, params))
        return {"resultType": "task", **task.document}

    async def _work(self, task: Task, name: str, arguments: dict[str, Any], params: dict[str, Any]) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            result = await self._run(task, name, arguments, params)
            if "code" in result:
                await task.become("failed", error=result)
            else:
                await task.become("completed", result=result)

    async def _run(self, task: Task, name: str, arguments: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
        if name == "slow_compute":
            await task.become("working", statusMessage="half way")
            await (self.settled.wait() if arguments.get("held") else asyncio.sleep(arguments.get("seconds", 0)))
            computed = "computed" + "." * arguments.get("size", 0)
            return text(f"{self.name} {computed}", structuredContent={"taskId": "mine"})
        if name == "failing_job":
            await asyncio.sleep(0.2)
            return text("it did not work", isError=True)
        if name == "protocol_error_job":
            return {"code": -32603, "message": "the job panicked"}
        if name == "confirm_delete":
            said = await task.ask({"confirm": form(f"Delete {arguments.get('filename')}?", "confirm")})
            return text(f"{self.name}: {said['confirm'].get('action')}")
        if name == "multi_input":
            said = await task.ask({"first": form("First?", "value"), "second": form("Second?", "value")})
            return text(json.dumps([said["first"], said["second"]]))
        if name == "sample":
            asked = {"messages": [], "maxTokens": 5}
            said = await task.ask({"model": {"method": "sampling/createMessage", "params": asked}})
            return text(json.dumps(said))
        answer = next(iter(params["inputResponses"].values()))
        return text(f"done for {json.dumps(answer.get('content'))}")

    # ---- tasks

    async def _about(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        if not self._declared(params):
            needed = {"requiredCapabilities": {"extensions": {EXTENSION: {}}}}
            raise Failure(-32021, "Missing required client capability", needed)
        task = self.tasks.get(params["taskId"])
        if task is None:
            raise Failure(-32602, "Task not found")
        if method == "tasks/update":
            async with task.changed:
                task.responses.update(params["inputResponses"])
                task.changed.notify_all()
            await asyncio.sleep(0)
        elif method == "tasks/cancel" and task.document["status"] in ("working", "input_required"):
            assert task.work is not None
            task.work.cancel()
            await task.become("cancelled")
        return {**COMPLETE, **(task.document if method == "tasks/get" else {})}

    async def _listen(self, request: web.BaseRequest, message: dict[str, Any]) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        tag = {"_meta": {TAG: message["id"]}}
        wanted = message["params"]["notifications"].get("taskIds", [])
        found = [self.tasks[id] for id in wanted if id in self.tasks]

        async def say(method: str, params: dict[str, Any]) -> None:
            said = {"jsonrpc": "2.0", "method": method, "params": {**params, **tag}}
            await stream.write(b"data: %b\n\n" % json.dumps(said).encode())

        agreed = {"taskIds": [task.id for task in found]} if "taskIds" in message["params"]["notifications"] else {}
        await say("notifications/subscriptions/acknowledged", {"notifications": agreed})
        await asyncio.gather(*(self._follow(task, say) for task in found))
        if not found:
            await asyncio.Event().wait()
        return stream

    @staticmethod
    async def _follow(task: Task, say: Callable[[str, dict[str, Any]], Awaitable[None]]) -> None:
        while True:
            async with task.changed:
                await task.changed.wait()
                document = dict(task.document)
            await say("notifications/tasks", document)
