"""What a session says in ``initialize``, and what it learns from the answer (2025-11-25, lifecycle). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from shared.errors import OutcomeUnknown
from shared.mcp import tasks, values
from shared.mcp.versions import DRAFT_OF_THE_FIRST, LATEST_LEGACY, LEGACY_VERSIONS, MODERN_VERSIONS
from shared.version import VERSION
from worker.calls.client_facts import NOBODY, ClientFacts

_VERSION = re.compile(r"[A-Za-z0-9._-]{1,64}")
"""What can be in a header as a version."""
_SHARED_CAPABILITIES = b'{"sampling":{},"elicitation":{"form":{},"url":{}}}'
"""The capabilities that a session declares which several clients share. A question that a client cannot answer is
refused per call. Roots are never declared, because one client's folders would be shown to all."""

_FIRST_CAPABILITIES = ("roots", "sampling", "elicitation")
"""The capabilities of clients that had no members, or need none, when they came."""
_MOST_CAPABILITIES, _MOST_INSTRUCTIONS = 64 * 1024, 64 * 1024
"""Bytes of capabilities, and characters of instructions. Servers of the field have a hundredth of that at most."""
_SPECIFIED = ("completions", "experimental", "extensions", "logging", "prompts", "resources", "tasks", "tools")


class Greeting(Struct, frozen=True):
    """A server's answer: what is remembered of it, the protocol version, and whether its log level can be set.

    Tools are called alike in all versions of the era. So a server is served whose version nobody knows (``1.0``, a
    draft's), with ``flaws`` that say so; it is told its own version in each request, or none.
    """

    server: dict[str, Any]
    version: str
    logs: bool
    flaws: tuple[str, ...] = ()


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


def plainer(offered: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what can be offered instead to a server that refuses ``offered``: less and less of the capabilities, and
    nothing of the client but its name and version."""
    declared, client = (values.loads(msgspec.json.encode(offered[name])) for name in ("capabilities", "clientInfo"))
    info = {name: client[name] for name in ("name", "version") if name in client}
    few: dict[str, Any] = {name: {} for name in _FIRST_CAPABILITIES if name in declared}
    before = declared, client
    for fewer in (few, {}):
        if (fewer, info) != before:
            yield {**offered, "capabilities": fewer, "clientInfo": info}
        before = fewer, info


def read_answer(result: bytes) -> Greeting:
    """Return what the answer says. Raises ``OutcomeUnknown`` if the gateway cannot go on with such a server."""
    try:
        server = values.loads(result)
    except ValueError as error:
        raise OutcomeUnknown("upstream_protocol", "the answer to initialize cannot be read") from error
    if not isinstance(server, dict):
        raise OutcomeUnknown("upstream_protocol", "the answer to initialize is no object")
    version = str(server.get("protocolVersion") or "")
    if version in MODERN_VERSIONS:
        raise OutcomeUnknown(
            "upstream_protocol", f"the upstream answers initialize with version {version}, which has no such method"
        )
    flaws: tuple[str, ...] = ()
    if version not in (*LEGACY_VERSIONS, DRAFT_OF_THE_FIRST):
        version = version if _VERSION.fullmatch(version) else ""
        flaws = (f"initialize: its protocol version {version!r} is none that is known",)
    capabilities = server.get("capabilities")
    return Greeting(
        {"protocolVersion": version, **kept(server)},
        version,
        isinstance(capabilities, dict) and "logging" in capabilities,
        flaws,
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
