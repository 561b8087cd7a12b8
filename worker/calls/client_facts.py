"""The facts about the client behind a call."""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from shared.mcp import jsonrpc
from worker.bridge.params import MAX_REMEMBERED_BYTES


class ClientFacts:
    """One client: a session of the handshake era, or the sender of a modern request.

    ``alone``: the client is connected to one group only, where methods that the gateway does not know are passed on.
    """

    __slots__ = ("_declared", "alone", "capabilities", "client_info", "log_level", "principal", "version")

    def __init__(
        self,
        principal: str = "",
        version: str = "",
        capabilities: bytes = b"{}",
        info: bytes = b"",
        log_level: str = "",
    ) -> None:
        self.principal = principal
        self.version = version
        self.capabilities = capabilities
        self.client_info = info
        self.log_level = log_level
        self.alone = False
        self._declared: dict[str, Any] | None = None

    @property
    def declared(self) -> dict[str, Any]:
        """The client's capabilities (2025-11-25, lifecycle, "Capability Negotiation")."""
        if self._declared is None:
            try:
                self._declared = msgspec.json.decode(self.capabilities, type=dict[str, Any])
            except msgspec.DecodeError:
                self._declared = {}
        return self._declared


NOBODY = ClientFacts()
"""Stands for no client: the facts of sessions that clients share."""


def facts_in(principal: str, meta: bytes) -> ClientFacts:
    """Return the facts about the client in a modern request's ``_meta`` (2026-07-28, basic, ``_meta``)."""
    found = msgspec.json.decode(meta, type=jsonrpc.Meta)
    version, level = (bytes(raw).strip(b'"').decode() for raw in (found.version, found.log_level))
    return ClientFacts(principal, version, bytes(found.capabilities) or b"{}", bytes(found.client_info), level)


_remembered = functools.lru_cache(256)(facts_in)


def client_in(principal: str, meta: bytes) -> ClientFacts:
    """Return what ``facts_in`` returns, from a cache if ``meta`` is small."""
    return (_remembered if len(meta) <= MAX_REMEMBERED_BYTES else facts_in)(principal, meta)
