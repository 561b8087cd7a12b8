"""What can happen to a call under way: interim messages, then exactly one ``Answered`` or ``Failure``. Pure values."""

from __future__ import annotations

from msgspec import Struct

from shared.rpc.connection import BodyStream


class Interim(Struct, gc=False):
    """A JSON-RPC message before the call's answer; ``sequence`` numbers those of a session's call from 1."""

    message: bytes
    sequence: int = 0

    @property
    def asks(self) -> bool:
        """Whether the message is a request of the upstream, which the call waits for: never dropped."""
        return self.message.startswith(b'{"jsonrpc":"2.0","id":')


class Resumed(Struct, gc=False):
    """The call's stream goes on here.

    ``request`` is the JSON of the client's request id; ``upstream_name`` and ``listed_name`` are the URI of a resource
    at its upstream and for clients, where these differ.
    """

    request: bytes
    upstream_name: str = ""
    listed_name: str = ""


class Answered(Struct, gc=False):
    """The upstream's answer: the JSON of ``result`` or ``error``; a large answer comes as a stream."""

    is_error: bool
    body: bytes
    stream: BodyStream | None = None


class Failure(Struct, gc=False):
    """The call failed on the way; ``delivered`` False: the call certainly did not reach the upstream."""

    code: str
    message: str
    delivered: bool
    data: dict[str, str]


class Silent(Struct, gc=False):
    """Nothing came for a while; whoever shows the call may want to show a sign of life."""


Event = Interim | Answered | Failure | Silent | Resumed
SILENT = Silent()
