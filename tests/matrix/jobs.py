"""Extensions of the matrix's upstream: tasks (``io.modelcontextprotocol/tasks`` of 2026-07-28) and MCP Apps.

The tool ``job`` makes a task for whoever declares the extension, and refuses everybody else (-32021). ``panel``
has a user interface.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from typing import Any

from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.server import require_client_extension
from mcp.shared.exceptions import MCPError
from mcp.types import RequestParams

EXTENSION = "io.modelcontextprotocol/tasks"
JOB = "job"
PANEL = "ui://panel/main"
"""The resource that shows ``panel``; it has the same URI at every upstream."""
_ENDED = ("completed", "cancelled")


class AboutTask(RequestParams):
    """The params of requests about a task."""

    task_id: str


class Jobs(Extension):
    """See the module; ``name`` is in each result."""

    identifier = EXTENSION

    def __init__(self, name: str) -> None:
        self._name = name
        self._numbers = itertools.count(1)
        self._tasks: dict[str, dict[str, Any]] = {}
        self._work: set[asyncio.Task[None]] = set()

    def methods(self) -> Sequence[MethodBinding]:
        return [
            MethodBinding("tasks/get", AboutTask, self._get),
            MethodBinding("tasks/cancel", AboutTask, self._cancel),
        ]

    async def intercept_tool_call(self, params: Any, ctx: Any, call_next: Any) -> Any:
        if params.name != JOB:
            return await call_next(ctx)
        require_client_extension(ctx, EXTENSION)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        id = f"{self._name}-{next(self._numbers)}"
        task = self._tasks[id] = {
            "taskId": id, "status": "working", "statusMessage": "begun", "createdAt": now, "lastUpdatedAt": now,
            "ttlMs": 600_000, "pollIntervalMs": 50,
        }  # fmt: skip
        work = asyncio.create_task(self._run(task, params.arguments or {}))
        self._work.add(work)
        return {"resultType": "task", **task}

    async def _run(self, task: dict[str, Any], arguments: dict[str, Any]) -> None:
        await asyncio.sleep(float(arguments["seconds"]))
        if task["status"] not in _ENDED:
            said = f"{arguments['text']} by {self._name}"
            task.update(status="completed", result={"content": [{"type": "text", "text": said}]})

    def _known(self, ctx: Any, params: AboutTask) -> dict[str, Any]:
        require_client_extension(ctx, EXTENSION)
        task = self._tasks.get(params.task_id)
        if task is None:
            raise MCPError(-32602, "Task not found")
        return task

    async def _get(self, ctx: Any, params: AboutTask) -> Any:
        return {"resultType": "complete", **self._known(ctx, params)}

    async def _cancel(self, ctx: Any, params: AboutTask) -> Any:
        task = self._known(ctx, params)
        if task["status"] not in _ENDED:
            task["status"] = "cancelled"
        return {"resultType": "complete"}


def add_job_and_panel(server: MCPServer, name: str) -> None:
    """Add the two tools, and what shows one of them."""

    @server.tool()
    def job(text: str, seconds: float) -> str:
        """Take a while, as a task."""
        raise AssertionError("it is a task, or refused")

    @server.tool(meta={"ui": {"resourceUri": PANEL, "visibility": ["model", "app"]}})
    def panel() -> str:
        """A tool with a user interface."""
        return f"panel of {name}"

    @server.resource(PANEL, mime_type="text/html;profile=mcp-app")
    def page() -> str:
        """The user interface."""
        return f"<p>panel of {name}</p>"
