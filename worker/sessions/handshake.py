"""What a session says in ``initialize``, and what it learns from the answer (2025-11-25, lifecycle). Pure."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from shared.errors import OutcomeUnknown
from shared.mcp import tasks, values
from shared.mcp.versions import DRAFT_OF_THE_FIRST, LATEST_LEGACY, LEGACY_VERSIONS
from shared.version import VERSION
from worker.calls.client_facts import NOBODY, ClientFacts

_SHARED_CAPABILITIES = b'{"sampling":{},"elicitation":{"form":{},"url":{}}}'
"""The capabilities that a session declares which several clients share. A question that a client cannot answer is
refused per call. Roots are never declared, because one client's folders would be shown to all."""

_MOST_CAPABILITIES, _MOST_INSTRUCTIONS = 64 * 1024, 64 * 1024
"""Bytes of capabilities, and characters of instructions. Servers of the field have a hundredth of that at most."""
_SPECIFIED = ("completions", "experimental", "extensions", "logging", "prompts", "resources", "tasks", "tools")


class Greeting(Struct, frozen=True):
    """A server's answer: what is remembered of it, the protocol version, and whether its log level can be set."""

    server: dict[str, Any]
    version: str
    logs: bool


def offer(client: ClientFacts, name: str) -> dict[str, Any]:
    """Return the ``params`` of ``initialize`` for a session of ``client``, by a gateway called ``name``."""
    shared = client is NOBODY
    offered: dict[str, Any] = {
        "protocolVersion": LATEST_LEGACY,
        "capabilities": Raw(_SHARED_CAPABILITIES if shared else tasks.without(client.capabilities)),
        "clientInfo": {"name": name, "version": VERSION},
    }
    if not shared and client.client_info:
        offered["clientInfo"] = Raw(client.client_info)
    return offered


def read_answer(result: bytes) -> Greeting:
    """Return what the answer says. Raises ``OutcomeUnknown`` if the gateway cannot go on with such a server."""
    try:
        server = values.loads(result)
        version = str(server["protocolVersion"])
    except (ValueError, KeyError, TypeError) as error:
        raise OutcomeUnknown("upstream_protocol", "the answer to initialize names no protocolVersion") from error
    if version not in (*LEGACY_VERSIONS, DRAFT_OF_THE_FIRST):
        raise OutcomeUnknown(
            "upstream_protocol", f"the upstream wants protocol version {version!r}, which we do not speak"
        )
    capabilities = server.get("capabilities")
    return Greeting(
        {"protocolVersion": version, **kept(server)},
        version,
        isinstance(capabilities, dict) and "logging" in capabilities,
    )


def kept(said: dict[str, Any]) -> dict[str, Any]:
    """Return what is remembered of an upstream's answer to ``initialize`` or ``server/discover``: its capabilities and
    its instructions, as far as they are no longer than any that make sense. Each session remembers them, and each front
    end."""
    capabilities, instructions = said.get("capabilities"), said.get("instructions")
    found: dict[str, Any] = {}
    if isinstance(capabilities, dict):
        fits = len(msgspec.json.encode(capabilities)) <= _MOST_CAPABILITIES
        found["capabilities"] = capabilities if fits else {one: {} for one in _SPECIFIED if one in capabilities}
    if isinstance(instructions, str):
        found["instructions"] = instructions[:_MOST_INSTRUCTIONS]
    return found
