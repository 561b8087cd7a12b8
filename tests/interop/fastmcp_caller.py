"""The client of FastMCP on an endpoint of the gateway: ``python fastmcp_caller.py http|sse VERSION URL PREFIX`` prints
what it saw as one JSON object, as ``go_client`` does. VERSION is not asked for: FastMCP takes the latest."""

# The environment that runs this has FastMCP, and nothing of the gateway.
# mypy: ignore-errors

import asyncio
import json
import sys

from fastmcp import Client
from fastmcp.client.elicitation import ElicitResult


async def main(kind, version, url, prefix):
    progress = []

    async def elicited(message, response_type, params, context):
        return ElicitResult(action="accept", content={"colour": "blue"})

    async def sampled(messages, params, context):
        return "hello"

    async def progressed(value, total, message):
        progress.append(value)

    async with Client(url, elicitation_handler=elicited, sampling_handler=sampled) as client:

        async def call(name, arguments=None, **options):
            return await client.call_tool(f"{prefix}__{name}", arguments or {}, raise_on_error=False, **options)

        async def text(name, arguments=None, **options):
            return (await call(name, arguments, **options)).content[0].text

        saw = {
            "tools": len(await client.list_tools()),
            "echoed": await text("echo", {"text": "héllo ✓"}),
            "failed": (await call("fail", {"message": "on purpose"})).is_error,
            "asked": await text("ask"),
            "sampled": await text("sample"),
        }
        await call("progress", {"steps": 3}, progress_handler=progressed)
        saw["progress"] = progress
        try:
            await client.call_tool("no_such_tool", {})
        except Exception as error:
            saw["unknown"] = getattr(getattr(error, "error", None), "code", str(error))
    print(json.dumps(saw))


asyncio.run(main(*sys.argv[1:]))
