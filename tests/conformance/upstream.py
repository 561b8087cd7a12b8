"""An upstream with the tools, prompts and resources that the official conformance suite expects, on the ``mcp`` SDK.

``python -m tests.conformance.upstream http|sse|stdio`` prints its port (not for stdio), then serves. Names and texts
are the suite's (``@modelcontextprotocol/conformance``); it speaks both protocol eras.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import sys
from typing import Annotated, Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.prompts.base import Message, UserMessage
from mcp.shared.exceptions import MCPError
from mcp.types import (
    AudioContent,
    Completion,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    InputRequiredResult,
    SamplingMessage,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)
from pydantic import BaseModel, Field

from tests.servers.asking import ROOTS, ask_model, form, given, in_either_era, required

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WAV = "UklGRiYAAABXQVZFZm10IBAAAAABAAEAQB8AAAB9AAACABAAZGF0YQIAAAA="

server = MCPServer("conformance-upstream", instructions="Tools that the conformance suite asks for.")


async def agree(ctx: Any, params: SubscribeRequestParams | UnsubscribeRequestParams) -> EmptyResult:
    """Subscriptions of the handshake era: the suite looks at the answer only."""
    return EmptyResult()


server._lowlevel_server.add_request_handler("resources/subscribe", SubscribeRequestParams, agree)
server._lowlevel_server.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, agree)


def embedded(uri: str = "test://embedded-resource") -> EmbeddedResource:
    text = "This is an embedded resource content."
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type="text/plain", text=text))


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


def titled(**titles: str) -> list[dict[str, str]]:
    """Choices with titles."""
    return [{"const": value, "title": title} for value, title in titles.items()]


ENUMS: dict[str, Any] = {
    "untitledSingle": {"type": "string", "enum": ["option1", "option2", "option3"]},
    "titledSingle": {"type": "string", "oneOf": titled(value1="First Option", value2="Second Option")},
    "legacyEnum": {
        "type": "string",
        "enum": ["opt1", "opt2", "opt3"],
        "enumNames": ["Option One", "Option Two", "Option Three"],
    },
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": ["option1", "option2", "option3"]}},
    "titledMulti": {"type": "array", "items": {"anyOf": titled(value1="First Choice", value2="Second Choice")}},
}


@server.tool()
async def test_elicitation_sep1330_enums(ctx: Context) -> str:
    """Asks with every kind of enum (SEP-1330)."""
    schema = {"type": "object", "properties": ENUMS}
    result = await ctx.session.elicit_form("Choose", schema, related_request_id=ctx.request_id)
    return f"Elicitation completed: action={result.action}, content={result.content}"


@server.tool()
def test_custom_headers(
    region: Annotated[str, Field(json_schema_extra={"x-mcp-header": "Region"})], query: str = ""
) -> str:
    """A parameter that travels in a header too (SEP-2243)."""
    return f"{region}: {query}"


SCHEMA_2020_12: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


@server.tool()
def json_schema_2020_12_tool(name: str = "") -> str:
    """Tool with JSON Schema 2020-12 features."""
    return name


server._tool_manager._tools["json_schema_2020_12_tool"].parameters = SCHEMA_2020_12  # no annotation says all this


@server.tool()
def test_missing_capability(ctx: Context) -> str:
    """Needs sampling, and says so when the client has not declared it."""
    if ctx.client_capabilities is None or ctx.client_capabilities.sampling is None:
        raise MCPError(-32021, "sampling is required", {"requiredCapabilities": {"sampling": {}}})
    return "The client can sample."


@server.tool()
async def test_logging_tool(ctx: Context) -> str:
    """Logs; the SDK keeps it to itself unless the client asked for a level."""
    await ctx.info("a log line")
    return "Logged."


@server.tool()
async def test_trigger_tool_change(ctx: Context) -> str:
    """The list of tools changes."""
    await ctx.notify_tools_changed()
    return "Announced."


@server.tool()
async def test_trigger_prompt_change(ctx: Context) -> str:
    """The list of prompts changes."""
    await ctx.notify_prompts_changed()
    return "Announced."


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
def test_prompt_with_embedded_resource(resourceUri: str) -> list[Message]:  # noqa: N803
    """With a resource inside."""
    inside = TextResourceContents(
        uri=resourceUri, mime_type="text/plain", text="Embedded resource content for testing."
    )
    resource = EmbeddedResource(type="resource", resource=inside)
    return [UserMessage(resource), UserMessage("Please process the embedded resource above.")]


@server.prompt()
def test_prompt_with_image() -> list[Message]:
    """With an image inside."""
    image = ImageContent(type="image", data=PNG, mime_type="image/png")
    return [UserMessage(image), UserMessage("Please analyze the image above.")]


# ---- multi round-trip requests (2026-07-28, basic/patterns/mrtr)


@server.tool(structured_output=False)
@in_either_era
def test_input_required_result_elicitation(ctx: Context) -> str | InputRequiredResult:
    """One elicitation."""
    answer = given(ctx, "user_name")
    if answer is None:
        return required(user_name=form("What is your name?", name="string"))
    return f"Hello, {(answer.get('content') or {}).get('name')}!"


@server.tool(structured_output=False)
@in_either_era
def test_streaming_elicitation(ctx: Context) -> str | InputRequiredResult:
    """Asks on its response stream, by its result alone."""
    answer = given(ctx, "user_name")
    return required(user_name=form("Who?", name="string")) if answer is None else "Thanks."


@server.tool(structured_output=False)
@in_either_era
def test_input_required_result_sampling(ctx: Context) -> str | InputRequiredResult:
    """One sampling request."""
    answer = given(ctx, "capital_question")
    if answer is None:
        return required(capital_question=ask_model("What is the capital of France?", 100))
    return f"The model said: {answer.get('content')}"


@server.tool(structured_output=False)
@in_either_era
def test_input_required_result_list_roots(ctx: Context) -> str | InputRequiredResult:
    """The client's roots."""
    answer = given(ctx, "client_roots")
    return required(client_roots=ROOTS) if answer is None else f"Roots: {answer.get('roots')}"


@server.tool(structured_output=False)
@in_either_era
def test_input_required_result_request_state(ctx: Context) -> str | InputRequiredResult:
    """State that comes back."""
    if given(ctx, "confirm") is None:
        return required("state-1", confirm=form("Please confirm", ok="boolean"))
    return "state-ok" if ctx.request_state == "state-1" else "state lost"


@server.tool(structured_output=False)
@in_either_era
def test_input_required_result_tampered_state(ctx: Context) -> str | InputRequiredResult:
    """State that must not be changed: the SDK seals and checks it."""
    if given(ctx, "confirm") is None:
        return required("sealed", confirm=form("Please confirm", ok="boolean"))
    return "confirmed"


@server.tool(structured_output=False)
@in_either_era
def test_input_required_result_multiple_inputs(ctx: Context) -> str | InputRequiredResult:
    """Three at once."""
    if any(given(ctx, key) is None for key in ("user_name", "greeting", "client_roots")):
        return required(
            "several",
            user_name=form("What is your name?", name="string"),
            greeting=ask_model("Generate a greeting", 50),
            client_roots=ROOTS,
        )
    return "All inputs received."


@server.tool(structured_output=False)
@in_either_era
def test_input_required_result_multi_round(ctx: Context) -> str | InputRequiredResult:
    """Two rounds."""
    if given(ctx, "step2") is not None:
        return "Both steps done."
    if given(ctx, "step1") is not None:
        return required("round-2", step2=form("Step 2: What is your favorite color?", color="string"))
    return required("round-1", step1=form("Step 1: What is your name?", name="string"))


@server.tool(structured_output=False)
@in_either_era
def test_input_required_result_capabilities(ctx: Context) -> str | InputRequiredResult:
    """Asks only for what the client declared."""
    declared = ctx.client_capabilities
    requests: dict[str, dict[str, Any]] = {}
    if declared is not None and declared.sampling is not None:
        requests["model"] = ask_model("Say hi", 10)
    if declared is not None and declared.elicitation is not None:
        requests["user"] = form("Say hi", text="string")
    return required(**requests) if requests and not ctx.input_responses else "Nothing to ask."


@server.prompt()
@in_either_era
def test_input_required_result_prompt(ctx: Context) -> list[Message] | InputRequiredResult:
    """A prompt that asks."""
    answer = given(ctx, "user_context")
    if answer is None:
        return required(user_context=form("What context should the prompt use?", context="string"))
    return [UserMessage(f"Context: {answer.get('content')}")]


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
