"""Arguments of tools that travel as ``Mcp-Param-*`` headers too (2026-07-28, basic/transports). Pure."""

from __future__ import annotations

from typing import Any

import orjson
from msgspec import Raw

from gateway.admission.caller import Caller
from gateway.admission.request_head import RequestHead
from gateway.routing.discovery import SearchView
from gateway.routing.routes import Route
from shared.errors import Refused
from shared.mcp import headers as mcp_headers
from shared.mcp import jsonrpc


def parameter_headers(route: Route, params: Raw, sent: Raw, caller: Caller, head: RequestHead) -> dict[str, str]:
    """Return the ``Mcp-Param-*`` headers for the upstream of an annotated tool, made from the arguments that are
    ``sent``; ``params`` are the client's.

    Raises ``Refused`` (-32020) if a modern client's own headers do not agree with the arguments.
    """
    arguments = _decoded_arguments(params)
    annotated = list(route.entry.annotated)
    mcp_headers.check_once(annotated, jsonrpc.arguments_of(params))
    if caller.era:
        given = dict(head.headers.parameters)
        checked = annotated
        if isinstance(caller.view, SearchView):  # whoever has found a tool need not have listed its annotations
            checked = [one for one in annotated if f"mcp-param-{one[1]}".lower() in given]
        wrong = mcp_headers.mismatch(checked, arguments, given)
        if wrong is not None:
            raise Refused("header_mismatch", wrong)
    return mcp_headers.parameter_headers(annotated, arguments if sent is params else _decoded_arguments(sent))


def _decoded_arguments(params: Raw) -> Any:
    try:
        return orjson.loads(jsonrpc.arguments_of(params) or b"{}")
    except orjson.JSONDecodeError:
        return {}
