"""A FastMCP server whose tools run as tasks, and a client that plays them.

``python fastmcp_jobs.py server NAME PORT``; ``python fastmcp_jobs.py client PREFIX URL…`` prints what each tool gave,
as JSON. ``PREFIX`` is what stands before the names of tools. With several URLs a task is begun at the first one and
followed at the last one. With ``PREFIX`` ``legacy`` the client is one of the handshake era, which knows no tasks.
"""

# The environment that runs this has FastMCP, and nothing of the gateway.
# mypy: ignore-errors

import asyncio
import json
import sys
from datetime import timedelta

from fastmcp import Client, Context, FastMCP
from fastmcp.client.elicitation import ElicitResult
from fastmcp.exceptions import ToolError
from fastmcp.utilities.tasks import TaskConfig
from fastmcp_tasks import TasksExtension, ToolTask, call_tool_task
from mcp_types import ElicitRequest, ElicitRequestFormParams, InputRequiredResult


def serve(name, port):
    mcp = FastMCP("tasks")
    mcp.add_extension(TasksExtension(url=f"memory://{name}"))
    always = TaskConfig(mode="required", poll_interval=timedelta(milliseconds=100))

    @mcp.tool(task=always)
    async def adds(a: int, b: int) -> int:
        """Add two numbers, slowly."""
        await asyncio.sleep(0.3)
        return a + b

    @mcp.tool(task=always)
    async def fails() -> str:
        """Always fail."""
        raise ToolError("as it must")

    schema = {"type": "object", "properties": {"value": {"type": "string"}}, "required": ["value"]}
    question = ElicitRequestFormParams(mode="form", message="Which colour?", requested_schema=schema)

    @mcp.tool(task=always)
    async def asks(ctx: Context):
        """Ask the person."""
        said = (ctx.input_responses or {}).get("colour")
        if said is None:
            return InputRequiredResult(input_requests={"colour": ElicitRequest(params=question)})
        return f"{said.action}: {said.content}"

    @mcp.tool(task=always)
    async def sleeps() -> str:
        """Take long."""
        await asyncio.sleep(60)
        return "never"

    @mcp.tool
    def at_once() -> str:
        """No task."""
        return "now"

    mcp.run(transport="http", host="127.0.0.1", port=port, show_banner=False, log_level="ERROR")


async def elicited(message, response_type, params, context):
    return ElicitResult(action="accept", content={"value": "red"})


async def played(prefix, urls):
    legacy = prefix == "legacy"
    prefix = "" if legacy else prefix
    options = {"mode": "legacy"} if legacy else {}
    found = {}
    async with (
        Client(urls[0], elicitation_handler=elicited, **options) as first,
        Client(urls[-1], elicitation_handler=elicited, **options) as last,
    ):
        for name, arguments in (("adds", {"a": 2, "b": 3}), ("fails", {}), ("asks", {}), ("at_once", {})):
            answer = await first.call_tool(prefix + name, arguments, raise_on_error=False)
            found[name] = [answer.is_error, [one.text for one in answer.content], answer.data]
        if not legacy:
            for name, arguments in (("adds", {"a": 20, "b": 30}), ("asks", {})):
                begun = await call_tool_task(first, prefix + name, arguments)
                followed = ToolTask(last, prefix + name, begun.create_result)
                found[f"{name} followed"] = (await followed.result()).content[0].text
            begun = await call_tool_task(first, prefix + "sleeps")
            await ToolTask(last, prefix + "sleeps", begun.create_result).cancel()
            found["cancelled"] = (await begun.wait(timeout=20)).status
    print(json.dumps(found))


if sys.argv[1] == "server":
    serve(sys.argv[2], int(sys.argv[3]))
else:
    asyncio.run(played(sys.argv[2], sys.argv[3:]))
