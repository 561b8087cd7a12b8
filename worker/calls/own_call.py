"""The worker's own requests (listing, probing, subscribing), and the error with which upstreams refuse them."""

from __future__ import annotations

import asyncio
from typing import Any

from shared.errors import CallError
from shared.mcp import values
from shared.mcp.rope import Body
from shared.mcp.versions import Era
from worker.calls.call import Call


class OwnCall(Call):
    """The worker's own request. ``await call.future`` returns the JSON of the result or raises ``CallError``."""

    __slots__ = ("future",)
    ours = True

    def __init__(self, method: str, params: bytes, era: int = Era.LEGACY, timeout_s: float = 30.0) -> None:
        super().__init__(method, params, era, timeout_s)
        self.future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def _answered(self, is_error: bool, raw: Body) -> None:
        if self.future.done():
            return
        if is_error:
            self.future.set_exception(UpstreamError(bytes(raw)))
        else:
            self.future.set_result(bytes(raw))

    def _failed(self, error: CallError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class UpstreamError(CallError):
    """The upstream answered one of the worker's own requests with a JSON-RPC error. ``raw`` is the JSON of the
    error."""

    def __init__(self, raw: bytes) -> None:
        self.raw = raw

        try:
            detail: Any = values.loads(raw)
        except ValueError:
            detail = {}
        self.detail: dict[str, Any] = detail if isinstance(detail, dict) else {}
        self.rpc_code = self.detail.get("code")
        super().__init__(
            "upstream_protocol", f"the upstream answered error {self.rpc_code}: {self.detail.get('message')}"
        )
