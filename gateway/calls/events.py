"""What can happen to a call under way: interim messages, then exactly one ``Answered`` or ``Failure``. Pure values.

``fleet.worker_link`` makes events of a worker's frames; ``protocol.call_stream`` shows them to the client.
"""

from __future__ import annotations

from msgspec import Struct

from shared.rpc.connection import BodyStream


class Interim(Struct, gc=False):
    """A JSON-RPC message before the call's answer. ``sequence`` numbers the messages of a session's call from 1."""

    message: bytes
    sequence: int = 0

    @property
    def asks(self) -> bool:
        """Whether the message is a question of the upstream. The call waits for the answer, so it is never dropped."""
        return self.message.startswith(b'{"jsonrpc":"2.0","id":')


class Resumed(Struct, gc=False):
    """A call that its client resumes goes on over this link.

    ``request`` is the JSON of the client's request id. ``upstream_name`` is the upstream's name of what is called;
    ``listed_name`` is the URI by which clients know a resource, if that differs, else empty.
    """

    request: bytes
    upstream_name: str = ""
    listed_name: str = ""


class Answered(Struct, gc=False):
    """The upstream's answer: ``body`` is the JSON of ``result`` or ``error``. A large answer comes as ``stream``."""

    is_error: bool
    body: bytes
    stream: BodyStream | None = None


class Failure(Struct, gc=False):
    """The call failed in the gateway. ``delivered`` is False if the call certainly did not reach the upstream."""

    code: str
    message: str
    delivered: bool
    data: dict[str, str]


class Silent(Struct, gc=False):
    """Nothing came for a while, so that the client should be shown a sign of life."""


CallEvent = Interim | Answered | Failure | Silent | Resumed
SILENT = Silent()
