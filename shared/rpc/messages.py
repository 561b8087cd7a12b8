"""The heads of the frames between front ends and workers: small msgpack messages. Bodies travel outside of the heads.

Used by ``gateway.fleet.worker_link`` and ``worker.rpc_server``. Heads are arrays with an integer tag. New fields go to
the end and have a default, so that processes of two versions understand each other while a fleet is updated. ``size``
is the length of the whole body if the body comes in chunks, else 0. The chunks then carry the sender's number
``stream``.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from shared.rpc.framing import FrameError

PROTOCOL = 2
"""The version of the handshake. In version 1 only front ends proved anything."""


class Challenge(Struct, array_like=True, tag=1, gc=False):
    """Worker: the first frame on a link. The front end must prove that it knows the fleet's key.

    The nonce has 32 random bytes; ``worker`` is the worker's id. What is proved: ``shared.rpc.handshake``.
    """

    nonce: bytes
    worker: str
    protocol: int = PROTOCOL


class Hello(Struct, array_like=True, tag=2, gc=False):
    """Front end: the answer to ``Challenge``. ``proof`` is its own; for ``nonce`` (32 bytes) the worker owes one."""

    frontend: str
    proof: bytes
    protocol: int = PROTOCOL
    nonce: bytes = b""


class OpenSession(Struct, array_like=True, tag=3, gc=False):
    """Front end: facts about a client session, sent before its first call on a link and when its log level changes.

    ``alone``: the client is connected to ``/servers/{name}``, where methods that the gateway does not know are passed
    on.
    """

    session: str
    principal: str
    version: str
    capabilities: bytes = b"{}"
    client_info: bytes = b""
    log_level: str = ""
    alone: bool = False


class EndSession(Struct, array_like=True, tag=4, gc=False):
    """Front end: the client session is over; what was held for it can be closed. With ``over`` false, the session goes
    on and only this front end stops using it."""

    session: str
    over: bool = True


class Call(Struct, array_like=True, tag=5, gc=False):
    """Front end: one request for an upstream. Body: the JSON of ``params``.

    ``era`` is the client's (0 legacy, 1 modern). ``session`` is the client's session id, or empty. ``principal`` is the
    principal, for pools. ``name`` is the upstream's name of what is called, for ``Mcp-Name``. ``token`` is the JSON of
    the client's progress token. ``headers`` are the ``Mcp-Param-*`` headers. ``retry``: ``params`` carry a
    ``requestState`` that the gateway sealed. ``request`` is the JSON of the client's own request id, if the call
    belongs to a session. ``listed_name`` is the URI under which the client knows ``name``, if the two differ. ``trace``
    is the W3C ``traceparent``, if there is one; ``trace_state`` and ``baggage`` go with it. ``confirm`` is the client's
    name of a tool that may run only after a person has confirmed it, or empty. ``subject_token`` is the caller's own
    access token, for an upstream that is called in the caller's name by token exchange; for no other. ``passed`` are
    headers of the client that its entry lets through.
    """

    call: int
    upstream: str
    method: str
    era: int = 0
    session: str = ""
    principal: str = ""
    name: str = ""
    token: bytes = b""
    headers: dict[str, str] | None = None
    size: int = 0
    stream: int = 0
    retry: bool = False
    request: bytes = b""
    listed_name: str = ""
    trace: str = ""
    confirm: str = ""
    subject_token: str = ""
    passed: dict[str, str] | None = None
    trace_state: str = ""
    baggage: str = ""

    def __repr__(self) -> str:
        return f"Call({self.call}, {self.upstream!r}, {self.method!r})"


class Cancel(Struct, array_like=True, tag=6, gc=False):
    """Front end: the client gave up on a call. ``reason`` is for the upstream's log."""

    call: int
    reason: str = ""


class Interim(Struct, array_like=True, tag=7, gc=False):
    """Worker: a message before the answer. Body: a whole JSON-RPC notification, or a request that the upstream relays.

    ``sequence`` numbers the messages of a session's call from 1, so that the client's stream can be resumed.
    ``dropped`` is the number of messages that were dropped before this one, because the link was congested. A frame
    without a body carries only that number.
    """

    call: int
    size: int = 0
    stream: int = 0
    sequence: int = 0
    dropped: int = 0


class Answer(Struct, array_like=True, tag=8, gc=False):
    """Worker: the upstream's answer. Body: the JSON of ``result``, or of ``error`` if ``is_error``."""

    call: int
    is_error: bool = False
    size: int = 0
    stream: int = 0


class Failed(Struct, array_like=True, tag=9, gc=False):
    """Worker: the call failed in the gateway. If ``delivered`` is false, the call certainly never reached the
    upstream."""

    call: int
    code: str
    message: str
    delivered: bool
    data: dict[str, str] | None = None


class Chunk(Struct, array_like=True, tag=10, gc=False):
    """The next part of a chunked body."""

    stream: int


class Grant(Struct, array_like=True, tag=11, gc=False):
    """The receiver of a chunked body has room for ``chunks`` more."""

    stream: int
    chunks: int


class Ping(Struct, array_like=True, tag=12, gc=False):
    """A test whether the other end answers."""

    number: int


class Pong(Struct, array_like=True, tag=13, gc=False):
    """The answer to the ``Ping`` of the same number."""

    number: int


class Welcome(Struct, array_like=True, tag=15, gc=False):
    """Worker: the front end's proof was right, and this is the worker's. If it is right too, calls may be sent."""

    proof: bytes = b""


class Reply(Struct, array_like=True, tag=16, gc=False):
    """Front end: a client's answer to an upstream's question. Body: the JSON of ``result``, or of ``error`` if
    ``is_error``.

    ``question_id`` is the id that the worker gave to the question. The answer is ignored unless it comes from the
    ``session`` that was asked.
    """

    question_id: str
    session: str
    is_error: bool = False
    size: int = 0
    stream: int = 0


class Watch(Struct, array_like=True, tag=17, gc=False):
    """Front end: some of its clients have subscribed to this resource (``on``), or none has any more.

    ``session`` is the client session whose own upstream session is concerned, and empty if clients share one. The end
    of the link ends its watches. A frame with ``on`` is answered by ``Watched``.
    """

    number: int
    upstream: str
    uri: str
    session: str = ""
    on: bool = True


class Watched(Struct, array_like=True, tag=18, gc=False):
    """Worker: whether the upstream agreed to a ``Watch``. If not, the body is the JSON-RPC error."""

    number: int
    agreed: bool = True


class Updated(Struct, array_like=True, tag=19, gc=False):
    """Worker: a watched resource changed. Body: ``params`` of ``notifications/resources/updated``.

    With a ``kind`` of list, and without ``uri`` and body: what the upstream lists for this session alone may have
    changed.
    """

    upstream: str
    uri: str
    session: str = ""
    kind: str = ""


class Detach(Struct, array_like=True, tag=20, gc=False):
    """Front end: the client of a session's call may resume its stream, at this front end or another; messages from now
    on must be kept."""

    call: int


class CancelRequest(Struct, array_like=True, tag=21, gc=False):
    """Front end: a session cancelled its request, whichever front end the request was sent to."""

    session: str
    request: bytes


class Resume(Struct, array_like=True, tag=22, gc=False):
    """Front end: a client resumes the stream of a call that ``frontend`` knew as ``before``.

    The stream goes on after ``sequence``, as ``call`` on this link. Answered by ``Resumed`` or ``Failed``.
    """

    call: int
    session: str
    frontend: str
    before: int
    sequence: int


class Resumed(Struct, array_like=True, tag=23, gc=False):
    """Worker: the messages that the client missed follow. ``request`` is the JSON of the client's request id; ``name``
    and ``listed_name`` are those of the ``Call``."""

    call: int
    request: bytes
    name: str = ""
    listed_name: str = ""


class RootsChanged(Struct, array_like=True, tag=24, gc=False):
    """Front end: a client's roots changed. The upstream sessions that belong to the client alone are notified."""

    session: str


class Unsolicited(Struct, array_like=True, tag=25, gc=False):
    """Worker: a message for the standing stream of a client session that has no call in flight. Body: a whole JSON-RPC
    message.

    The frame goes to one front end, whichever holds the stream. ``dropped`` is the number of messages that were dropped
    before this one.
    """

    session: str
    size: int = 0
    stream: int = 0
    dropped: int = 0


class QuestionNews(Struct, array_like=True, tag=26, gc=False):
    """Front end: the question ``question_id`` was sent on a stream that the client has open. With a body (``params`` of
    ``notifications/progress``): the client's progress with the answer."""

    question_id: str
    session: str


class Notice(Struct, array_like=True, tag=27, gc=False):
    """Front end: a notification from a client session for the upstream. Body: a whole JSON-RPC message."""

    upstream: str
    session: str
    size: int = 0
    stream: int = 0


class Alive(Struct, array_like=True, tag=28, gc=False):
    """Worker: the question whether this client session has a stream open there. Front end: the answer that it has."""

    session: str


class GoAway(Struct, array_like=True, tag=14, gc=False):
    """Worker: the worker drains. Calls numbered above ``last_call`` were not taken."""

    last_call: int


Chunked = Call | Interim | Answer | Reply | Unsolicited | Notice
"""Heads whose bodies may come in chunks."""

Head = (
    Challenge
    | Hello
    | OpenSession
    | EndSession
    | Call
    | Cancel
    | Interim
    | Answer
    | Failed
    | Chunk
    | Grant
    | Ping
    | Pong
    | GoAway
    | Welcome
    | Reply
    | Watch
    | Watched
    | Updated
    | Detach
    | CancelRequest
    | Resume
    | Resumed
    | RootsChanged
    | Unsolicited
    | QuestionNews
    | Notice
    | Alive
)

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Head).decode
UNREADABLE = (FrameError, msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What reading the frames of somebody who does not speak this protocol raises."""
