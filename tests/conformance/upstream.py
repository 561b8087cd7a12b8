"""An upstream with the tools, prompts and resources that the official conformance suite expects, on the ``mcp`` SDK.

``python -m tests.conformance.upstream http|sse|stdio`` prints its port (not for stdio), then serves. Names and texts are
the suite's (``@modelcontextprotocol/conformance``); it speaks both protocol eras.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import sys
from typing import Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.types import (
    AudioContent,
    Completion,
    EmbeddedResource,
    ImageContent,
    PromptMessage,
    SamplingMessage,
    TextContent,
    TextResourceContents,
)
from pydantic import BaseModel, Field

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="

server = MCPServer("conformance-upstream", instructions="Tools that the conformance suite asks for.")


def embedded(uri: str = "test://embedded-resource") -> EmbeddedResource:
    text = "This is an embedded resource content."
    return EmbeddedResource(
        type="resource", resource=TextResourceContents(uri=uri, mime_type="text/plain", text=text)
    )


@server.tool()
def test_simple_text() -> str:
    """Plain text."""
    return "This is a simple text response for testing."


@server.tool()
def test_image_content() -> ImageContent:
    """An image."""
    return ImageContent(type="image", data=PNG, mime_type="image/png")


@server.tool()
def test_audio_content() -> AudioContent:
    """A sound."""
    return AudioContent(type="audio", data=WAV, mime_type="audio/wav")


@server.tool()
def test_embedded_resource() -> EmbeddedResource:
    """A resource inside a result."""
    return embedded()


@server.tool()
def test_multiple_content_types() -> list[TextContent | ImageContent | EmbeddedResource]:
    """Three kinds of content."""
    text = TextContent(type="text", text="Multiple content types test:")
    json_text = '{"test":"data","value":123}'
    mixed = TextResourceContents(uri="test://mixed-content-resource", mime_type="application/json", text=json_text)
    image = ImageContent(type="image", data=PNG, mime_type="image/png")
    return [text, image, EmbeddedResource(type="resource", resource=mixed)]


@server.tool()
async def test_tool_with_logging(ctx: Context) -> str:
    """Logs while it runs."""
    for text in ("Tool execution started", "Tool processing data", "Tool execution completed"):
        await ctx.info(text)
        await asyncio.sleep(0.05)
    return "Logged."


@server.tool()
async def test_tool_with_progress(ctx: Context) -> str:
    """Reports progress."""
    for progress in (0, 50, 100):
        await ctx.report_progress(progress, 100, f"Completed step {progress} of 100")
        await asyncio.sleep(0.05)
    return "Done."


@server.tool()
def test_error_handling() -> str:
    """Fails on purpose."""
    raise ValueError("This tool intentionally returns an error for testing")


@server.tool()
async def test_sampling(prompt: str, ctx: Context) -> str:
    """Asks the client's model."""
    message = SamplingMessage(role="user", content=TextContent(type="text", text=prompt))
    result = await ctx.session.create_message([message], max_tokens=100)
    return f"LLM response: {getattr(result.content, 'text', '')}"


class UserInput(BaseModel):
    username: str = Field(description="User's response")
    email: str = Field(description="User's email address")


@server.tool()
async def test_elicitation(message: str, ctx: Context) -> str:
    """Asks the user."""
    result = await ctx.elicit(message, UserInput)
    return f"User response: action={result.action}, content={getattr(result, 'data', None)}"


class Defaults(BaseModel):
    name: str = Field(default="John Doe")
    age: int = Field(default=30)
    score: float = Field(default=95.5)
    verified: bool = Field(default=True)
    status: str = Field(default="active", json_schema_extra={"enum": ["active", "inactive", "pending"]})


@server.tool()
async def test_elicitation_sep1034_defaults(ctx: Context) -> str:
    """Asks with defaults (SEP-1034)."""
    result = await ctx.elicit("Please review and update the form fields with defaults", Defaults)
    return f"Elicitation completed: action={result.action}, content={getattr(result, 'data', None)}"


@server.resource("test://static-text", mime_type="text/plain")
def static_text() -> str:
    """Text that never changes."""
    return "This is the content of the static text resource."


@server.resource("test://static-binary", mime_type="image/png")
def static_binary() -> bytes:
    """Bytes that never change."""
    return base64.b64decode(PNG)


@server.resource("test://template/{id}/data", mime_type="application/json")
def template(id: str) -> str:
    """Data by id."""
    return f'{{"id":"{id}","templateTest":true,"data":"Data for ID: {id}"}}'


@server.prompt()
def test_simple_prompt() -> str:
    """Without arguments."""
    return "This is a simple prompt for testing."


@server.prompt()
def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
    """With two arguments."""
    return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"


@server.prompt()
def test_prompt_with_embedded_resource(resourceUri: str) -> list[Any]:  # noqa: N803
    """With a resource inside."""
    text = TextContent(type="text", text="Please process the embedded resource above.")
    return [PromptMessage(role="user", content=embedded(resourceUri)), PromptMessage(role="user", content=text)]


@server.prompt()
def test_prompt_with_image() -> list[Any]:
    """With an image inside."""
    image = ImageContent(type="image", data=PNG, mime_type="image/png")
    text = TextContent(type="text", text="Please analyze the image above.")
    return [PromptMessage(role="user", content=image), PromptMessage(role="user", content=text)]


@server.completion()
async def complete(ref: Any, argument: Any, context: Any) -> Completion:
    """Nothing to suggest is a legal answer."""
    return Completion(values=[], total=0, has_more=False)


async def serve(transport: str) -> None:
    """Serve over HTTP on a free port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    app = server.sse_app() if transport == "sse" else server.streamable_http_app()
    await uvicorn.Server(uvicorn.Config(app, log_level="error")).serve(sockets=[listener])



if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        asyncio.run(serve(sys.argv[1]))
