"""The client of FastMCP on an endpoint of the gateway: ``python fastmcp_client.py URL``; exit code 0 if all holds."""

# The environment that runs this has FastMCP, and nothing of the gateway.
# mypy: ignore-errors

import asyncio
import sys

from fastmcp import Client
from fastmcp.client.elicitation import ElicitResult


async def main(url):
    heard = []

    async def elicited(message, response_type, params, context):
        heard.append("elicitation")
        return ElicitResult(action="accept", content={"name": "Ada"})

    async def sampled(messages, params, context):
        heard.append("sampling")
        return "a model's answer"

    async def progressed(progress, total, message):
        heard.append(progress)

    async with Client(url, elicitation_handler=elicited, sampling_handler=sampled) as client:

        async def text(name, arguments, **options):
            return (await client.call_tool(name, arguments, **options)).content[0].text

        names = {tool.name for tool in await client.list_tools()}
        assert {"echo", "trigger-elicitation-request", "trigger-sampling-request"} <= names, names
        assert await text("echo", {"message": "hi"}) == "Echo: hi"
        assert "a model's answer" in await text("trigger-sampling-request", {"prompt": "p", "maxTokens": 9})
        await text("trigger-elicitation-request", {})
        await text("trigger-long-running-operation", {"duration": 1, "steps": 2}, progress_handler=progressed)
        assert heard == ["sampling", "elicitation", 1.0, 2.0], heard
        assert (await client.read_resource("demo://resource/dynamic/text/7"))[0].text.startswith("Resource 7")
        assert "Ulm" in (await client.get_prompt("args-prompt", {"city": "Ulm"})).messages[0].content.text


asyncio.run(main(sys.argv[1]))
