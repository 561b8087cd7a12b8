"""The command line's MCP client: that of the official SDK, with failures that are one clear line.

This module imports ``mcp``, which takes 0.8 s and 64 MiB. So commands that need this module import it when they run;
front ends, workers and all other commands never import it.

Results are kept as the JSON objects that came, because the SDK's models drop members that they do not know.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpx2
from mcp import Client, MCPError
from mcp.client.session import ClientRequestContext
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.dispatcher import ProgressFnT
from mcp_types import (
    CONNECTION_CLOSED,
    HEADER_MISMATCH,
    PARSE_ERROR,
    REQUEST_TIMEOUT,
    CallToolRequest,
    CallToolRequestParams,
    ElicitRequestParams,
    ElicitResult,
    GetPromptRequest,
    GetPromptRequestParams,
    Implementation,
    JSONRPCError,
    ListToolsRequest,
    PaginatedRequestParams,
    ReadResourceRequest,
    ReadResourceRequestParams,
    jsonrpc_message_adapter,
)
from pydantic import RootModel, ValidationError

from gateway import __version__
from gateway.cli import failures, trust
from gateway.cli.address import Address
from gateway.cli.failures import CommandFailed, RequestRefused
from shared.errors import ConfigError

_TRIES = 10
_BETWEEN_TRIES_S = 0.25
_CLOSED = ("Server disconnected", "peer closed connection")
"""How httpx2's error texts begin if a connection ended. httpx2 has one error class for that and for broken HTTP."""

_T = TypeVar("_T")
_Request = CallToolRequest | GetPromptRequest | ReadResourceRequest
ElicitationAnswers = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
"""Takes the params of an ``elicitation/create`` and returns its result."""
MakeArguments = Callable[[dict[str, Any]], dict[str, Any]]
"""Takes a tool's ``inputSchema`` and returns the arguments to call it with."""


class Whole(RootModel[dict[str, Any]]):
    """A result with all its members, also those that the SDK does not know."""


class McpClient:
    """A client of one MCP endpoint, in the newest era that both sides speak (at a gateway 2026-07-28).

    Each method opens a connection of its own, with the credentials in ``GATEWAY_API_KEY`` if that is set. It raises
    ``RequestRefused`` for a JSON-RPC error, and ``CommandFailed`` for every other failure.
    """

    def __init__(self, where: Address, answer: ElicitationAnswers | None = None) -> None:
        """``answer`` is who answers what servers ask a person; without it they are told that nobody can be asked."""
        self._where = where
        self._answer = answer
        self._oddity: CommandFailed | None = None

    def tools(self) -> list[dict[str, Any]]:
        """Return all tools of the endpoint, as the endpoint lists them."""
        return self._run(_tools)

    def call(
        self, tool: str, arguments: dict[str, Any] | MakeArguments, on_progress: ProgressFnT | None = None
    ) -> dict[str, Any]:
        """Call a tool and return its result; with ``on_progress`` the tool is asked to report its progress.

        ``arguments`` may be a function of the tool's ``inputSchema``, which is then looked up.
        """

        async def work(client: Client) -> dict[str, Any]:
            made = arguments if isinstance(arguments, dict) else arguments(await _schema(client, tool))
            request = CallToolRequest(params=CallToolRequestParams(name=tool, arguments=made))
            return await _finished(client, request, self._answer, on_progress)

        return self._with_list(work, "content")

    def read(self, uri: str) -> dict[str, Any]:
        """Read a resource and return its result."""
        request = ReadResourceRequest(params=ReadResourceRequestParams(uri=uri))
        return self._with_list(lambda client: _finished(client, request, self._answer, None), "contents")

    def prompt(self, name: str, arguments: dict[str, str]) -> dict[str, Any]:
        """Get a prompt and return its result."""
        request = GetPromptRequest(params=GetPromptRequestParams(name=name, arguments=arguments))
        return self._with_list(lambda client: _finished(client, request, self._answer, None), "messages")

    def _with_list(self, work: Callable[[Client], Awaitable[dict[str, Any]]], member: str) -> dict[str, Any]:
        """Return the result of ``work`` if it has this list: the SDK does not check the members of ``Whole``."""
        result = self._run(work)
        if not isinstance(result.get(member), list):
            raise failures.broken(self._where.endpoint, f"{member} is no list")
        return result

    # ---- connections

    def _run(self, work: Callable[[Client], Awaitable[_T]]) -> _T:
        for name in ("mcp", "client"):  # the SDK also logs, with tracebacks, the errors that it raises
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)

        async def connected() -> _T:
            async with self._connect() as client:
                return await work(client)

        try:
            return asyncio.run(connected())
        except Exception as error:
            causes = list(_causes(error))
            wrong = next((cause for cause in causes if isinstance(cause, ConfigError)), None)
            raise wrong or self._failure(causes) from error

    @asynccontextmanager
    async def _connect(self) -> AsyncIterator[Client]:
        key = os.environ.get(failures.API_KEY)
        async with httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx2.Timeout(None, connect=failures.CONNECT_S),  # the SDK limits the time of an answer
            verify=trust.trusted(),
            trust_env=False,  # like the admin client: a proxy from the environment cannot reach loopback
            event_hooks={"response": [self._look_at]},
        ) as http:
            url = f"{self._where.endpoint}?discovery=list"  # people look at tools, also where models search
            transport = streamable_http_client(url, http_client=http, max_sse_event_size=None)
            async with Client(
                transport,
                client_info=Implementation(name="gateway-cli", version=__version__),
                read_timeout_seconds=failures.LIMIT_S,
                cache=None,
                elicitation_callback=self._elicited if self._answer is not None else None,
            ) as client:
                yield client

    async def _elicited(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        """Answer a server of the handshake era, which asks by a request of its own."""
        assert self._answer is not None
        asked = params.model_dump(mode="json", by_alias=True, exclude_none=True)
        return ElicitResult.model_validate(await self._answer(asked))

    async def _look_at(self, response: httpx2.Response) -> None:
        """Remember an HTTP answer that is not MCP: the SDK's error has neither its status nor its content type."""
        if response.request.method != "POST":
            return
        self._oddity = None
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if response.status_code >= 400:
            body = await response.aread()
            if kind != "application/json" or not _is_error(body):
                self._oddity = failures.refused(
                    self._where.endpoint, response.status_code, body.decode(errors="replace")
                )
        elif response.status_code == 200 and kind not in ("application/json", "text/event-stream"):
            self._oddity = failures.not_gateway(self._where.endpoint, kind or "no Content-Type")

    # ---- failures

    def _failure(self, causes: list[BaseException]) -> CommandFailed:
        """Return the one failure to show for these errors.

        Errors of the HTTP client come first, because the SDK raises errors of its own in consequence of them.
        """
        base, endpoint = self._where.base, self._where.endpoint
        for cause in causes:
            if isinstance(cause, CommandFailed):
                return cause
            if isinstance(cause, httpx2.ConnectTimeout):
                return failures.no_connection(base)
            if isinstance(cause, httpx2.ConnectError):
                said = str(cause)
                if trouble := trust.certificate_trouble(said):
                    return failures.untrusted(base, trouble)
                return failures.nothing_answers(base, "" if said == "All connection attempts failed" else said)
            if isinstance(cause, httpx2.ProtocolError) and not str(cause).startswith(_CLOSED):
                return failures.not_gateway(endpoint, "no HTTP")
            if isinstance(cause, httpx2.TransportError):
                return trust.went_away(base)
        error = next((cause for cause in causes if isinstance(cause, MCPError)), causes[0])
        if isinstance(error, MCPError):
            return self._oddity or _from_sdk(error, self._where)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            return failures.broken(endpoint, f"{where}: {first['msg']}")
        return CommandFailed(f"{endpoint}: {' '.join(str(error).split()) or type(error).__name__}")


def _from_sdk(error: MCPError, where: Address) -> CommandFailed:
    """Return the failure for an ``MCPError``, which is the gateway's answer, or an error that the SDK itself found."""
    text = error.message
    if error.code == CONNECTION_CLOSED and text.startswith(("SSE stream", "Connection closed")):
        return trust.went_away(where.base)
    if error.code == REQUEST_TIMEOUT and text.endswith("timed out") and error.data is None:
        return failures.no_answer(where.endpoint)
    if error.code == PARSE_ERROR and text.startswith("Failed to parse"):
        return failures.not_gateway(where.endpoint, "JSON that is no JSON-RPC message")
    return RequestRefused(error.error.model_dump(mode="json", exclude_unset=True))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors in nested exception groups: the SDK's task groups wrap errors in groups, and these in others."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _causes(one)
    else:
        yield error


def _is_error(body: bytes) -> bool:
    try:
        return isinstance(jsonrpc_message_adapter.validate_json(body, by_name=False), JSONRPCError)
    except ValidationError:
        return False


# ---- requests


async def _schema(client: Client, tool: str) -> dict[str, Any]:
    """Return the ``inputSchema`` of a tool, or an empty one if the endpoint lists no such tool."""
    for one in await _tools(client):
        if one.get("name") == tool:
            schema = one.get("inputSchema")
            return schema if isinstance(schema, dict) else {}
    return {}


async def _tools(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    seen: set[str] = set()
    while True:
        request = ListToolsRequest(params=PaginatedRequestParams(cursor=cursor))
        page = (await client.session.send_request(request, Whole)).root
        found += page["tools"]
        cursor = page.get("nextCursor")
        if cursor is None or cursor in seen:
            return found
        seen.add(cursor)


async def _finished(
    client: Client, request: _Request, answer: ElicitationAnswers | None, on_progress: ProgressFnT | None
) -> dict[str, Any]:
    """Send a request, and send it again while its result asks for that, with what it asks for.

    Raises ``CommandFailed`` if it asks for what nobody here can give, or still asks after ``_TRIES`` requests.
    """
    for _ in range(_TRIES):
        result = await _send(client, request, on_progress)
        if result.get("resultType") != "input_required":
            return result
        state, needs = result.get("requestState"), result.get("inputRequests") or {}
        responses: dict[str, Any] | None = None
        if needs:
            responses = {key: await _input(need, answer) for key, need in needs.items()}
        elif state is None:
            break
        else:
            await asyncio.sleep(_BETWEEN_TRIES_S)
        params = request.params.model_copy(update={"request_state": state, "input_responses": responses})
        request = request.model_copy(update={"params": params})
    raise CommandFailed("the server asks for input again and again; call it from another client")


async def _input(need: dict[str, Any], answer: ElicitationAnswers | None) -> ElicitResult:
    if need.get("method") != "elicitation/create" or answer is None:
        raise CommandFailed(
            f"the server needs {need.get('method')}, which this command cannot give; use another client"
        )
    return ElicitResult.model_validate(await answer(need.get("params") or {}))


async def _send(client: Client, request: _Request, on_progress: ProgressFnT | None) -> dict[str, Any]:
    try:
        result = await client.session.send_request(request, Whole, progress_callback=on_progress)
    except MCPError as error:
        if error.code != HEADER_MISMATCH or not isinstance(request, CallToolRequest):
            raise
        await _read_annotations(client, request.params.name)
        result = await client.session.send_request(request, Whole, progress_callback=on_progress)
    return result.root


async def _read_annotations(client: Client, tool: str) -> None:
    """Let the SDK find out which arguments of ``tool`` go into ``Mcp-Param-*`` headers.

    The SDK reads that from the listed tool. The specification (2026-07-28, streamable-http) says to do so after a
    -32020.
    """
    cursor: str | None = None
    seen: set[str] = set()
    while True:
        page = await client.list_tools(cursor=cursor)
        cursor = page.next_cursor
        if cursor is None or cursor in seen or any(one.name == tool for one in page.tools):
            return
        seen.add(cursor)
