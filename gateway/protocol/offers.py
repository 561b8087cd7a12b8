"""What the gateway says of itself in ``server/discover`` and ``initialize``, for one view.

It offers the capabilities of the view's upstreams together, and their instructions, or those of a virtual server.
"""

from __future__ import annotations

from typing import Any

import orjson

from gateway.protocol.extensions import carried
from gateway.routing.view import View
from shared.mcp import tasks
from shared.mcp.methods import SERVER_INFO_META
from shared.mcp.versions import MODERN_VERSIONS

_OFFERED = ("tools", "prompts", "resources")
"""Capabilities that the gateway always offers: an empty list is legal, and an upstream may connect later."""
_INSTRUCTIONS_CHARS = 2048
_INSTRUCTIONS_CHARS_TOTAL = 16 * 1024


class Offers:
    """Makes the results of ``server/discover`` and ``initialize``. ``name`` and ``version`` are the gateway's."""

    def __init__(self, name: str, version: str) -> None:
        self._server_info = {"name": name, "version": version}

    def discover(self, view: View) -> bytes:
        """Return the JSON of the ``DiscoverResult`` for a view."""
        return orjson.dumps(
            {
                "resultType": "complete",
                "supportedVersions": list(MODERN_VERSIONS),
                **_offer(view, modern=True),
                "ttlMs": 60_000,
                "cacheScope": "private",
                "_meta": {SERVER_INFO_META: self._server_info},
            }
        )

    def initialize(self, view: View, version: str) -> bytes:
        """Return the JSON of the ``InitializeResult`` for a view; ``version`` is the negotiated protocol version."""
        return orjson.dumps({"protocolVersion": version, "serverInfo": self._server_info, **_offer(view, modern=False)})


def _offer(view: View, modern: bool) -> dict[str, Any]:
    """Return ``capabilities``, and ``instructions`` of the upstreams by group if there are any.

    Completions, logging and subscriptions are offered if any upstream of the view offers them.
    """
    records = [replica.record for group in view.groups.values() for replica in group.replicas]
    alone = view.scope.group is not None
    capabilities: dict[str, Any] = {name: {"listChanged": True} for name in _OFFERED}
    for name in ("completions", "logging"):
        if any(name in record.capabilities for record in records):
            capabilities[name] = {}
    if any((record.capabilities.get("resources") or {}).get("subscribe") for record in records):
        capabilities["resources"]["subscribe"] = True
    extensions: dict[str, Any] = {}
    for record in records:
        offered = record.capabilities.get("extensions")
        for name, what in offered.items() if isinstance(offered, dict) else ():
            if carried(name, alone, modern):
                extensions.setdefault(name, what)
    if modern and any(tasks.runs_calls(record.capabilities) for record in records):
        extensions.setdefault(tasks.EXTENSION, {})  # their tasks of 2025-11-25 are shown as the extension's
    if extensions:
        capabilities["extensions"] = extensions
    offer: dict[str, Any] = {"capabilities": capabilities}
    if view.scope.instructions:
        return {**offer, "instructions": view.scope.instructions}
    by_group: dict[str, str] = {}
    for record in records:
        if record.instructions:
            by_group.setdefault(record.spec.name, record.instructions[:_INSTRUCTIONS_CHARS])
    if by_group:
        texts = [text if alone else f"## {group}\n{text}" for group, text in by_group.items()]
        offer["instructions"] = "\n\n".join(texts)[:_INSTRUCTIONS_CHARS_TOTAL]
    return offer
