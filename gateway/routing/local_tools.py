"""Tools that the gateway itself answers. Pure: a tool is its listed document and a function.

A view shows local tools beside those of upstreams (``view.with_local_tools``); ``protocol.plans`` answers a call to one
without asking a worker.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Raw, Struct


class LocalTool(Struct, frozen=True):
    """One local tool. ``document`` is the JSON by which the tool is listed, in both eras; ``call`` takes the JSON of
    ``arguments`` and returns the JSON of a ``CallToolResult``, or raises ``CallError``."""

    name: str
    document: bytes
    call: Callable[[Raw], bytes]
