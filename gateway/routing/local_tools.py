"""Tools that the gateway itself answers. Pure: a tool is its listed document and a function.

A view lists local tools before those of upstreams (``view.with_local_tools``). ``protocol.methods`` answers calls of
local tools, and no worker takes part.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Raw, Struct


class LocalTool(Struct, frozen=True):
    """One local tool.

    ``document`` is the JSON that lists the tool, in both eras. ``call`` takes the JSON of ``arguments`` and returns the
    JSON of a ``CallToolResult``, or raises ``CallError``. It is ``None`` for the tools by which others are found
    (``discovery``), which ``protocol.tool_discovery`` answers.
    """

    name: str
    document: bytes
    call: Callable[[Raw], bytes] | None
