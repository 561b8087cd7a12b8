"""What front ends and workers say to each other: small msgpack heads; bodies travel beside them.

Heads are arrays with an integer tag. New fields go to the end with a default, so that processes of two
versions understand each other while a fleet is rolled. ``size`` is the whole body's length when it comes in
chunks, else 0; the chunks then carry the sender's number ``stream``.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

PROTOCOL = 1


class Challenge(Struct, array_like=True, tag=1, gc=False):
    """Worker's first frame: prove that you know the fleet's key."""

    nonce: bytes
    worker: str
    protocol: int = PROTOCOL


class Hello(Struct, array_like=True, tag=2, gc=False):
    """Front end's answer: HMAC-SHA256 of the nonce under the fleet's key."""

    frontend: str
    proof: bytes
    protocol: int = PROTOCOL


class OpenSession(Struct, array_like=True, tag=3, gc=False):
    """Facts about a client session, sent before its first call on a link and when its log level changes. ``alone``: it
    is on ``/servers/{name}``, where methods that we do not know pass."""

    session: str
    principal: str
    version: str
    capabilities: bytes = b"{}"
    client_info: bytes = b""
    log_level: str = ""
    alone: bool = False


class EndSession(Struct, array_like=True, tag=4, gc=False):
    """The client session is over; close what was held for it. Not ``over``: this front end only stops using it."""

    session: str
    over: bool = True


class Call(Struct, array_like=True, tag=5, gc=False):
    """One request for an upstream. Body: the JSON of ``params``.

    ``era`` is the client's (0 legacy, 1 modern); ``session`` its session id or empty; ``principal`` who it is, for
    pools; ``name`` the upstream's own name of what is called, for ``Mcp-Name``; ``token`` the JSON of the client's
    progress token; ``headers`` the ``Mcp-Param-*`` headers; ``retry``: ``params`` carry a ``requestState`` of ours;
    ``request`` the JSON of a session's own request id; ``listed_name`` the URI under which the client knows ``name``,
    where that is another; ``trace`` the W3C trace context, if the call is traced.
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


class Cancel(Struct, array_like=True, tag=6, gc=False):
    """The client gave up on a call; ``reason`` is for the upstream's log."""

    call: int
    reason: str = ""


class Interim(Struct, array_like=True, tag=7, gc=False):
    """A message before the answer. Body: a whole JSON-RPC notification, or a request that the upstream relays.

    ``sequence`` numbers those of a session's call from 1: with it the client's stream can be resumed. ``dropped``:
    so many before it were dropped, because this link was congested; without a body it says only that.
    """

    call: int
    size: int = 0
    stream: int = 0
    sequence: int = 0
    dropped: int = 0


class Answer(Struct, array_like=True, tag=8, gc=False):
    """The upstream's answer. Body: the JSON of ``result``, or of ``error`` when ``is_error``."""

    call: int
    is_error: bool = False
    size: int = 0
    stream: int = 0


class Failed(Struct, array_like=True, tag=9, gc=False):
    """The call failed in the gateway. ``delivered`` False: it certainly never reached the upstream."""

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
    """Are you there?"""

    number: int


class Pong(Struct, array_like=True, tag=13, gc=False):
    """Yes."""

    number: int


class Welcome(Struct, array_like=True, tag=15, gc=False):
    """The proof was right; calls may come."""


class Reply(Struct, array_like=True, tag=16, gc=False):
    """A client's answer to what an upstream asked it. Body: the JSON of ``result``, or of ``error`` when ``is_error``.

    ``question_id`` is the id that the worker gave the request; it counts only from the ``session`` that was asked.
    """

    question_id: str
    session: str
    is_error: bool = False
    size: int = 0
    stream: int = 0


class Watch(Struct, array_like=True, tag=17, gc=False):
    """Front end: some of my clients want to hear of this resource (``on``), or none does any more.

    ``session``: the client session whose own upstream session it is about, empty where clients share one. The end of
    the link is the end of its watches. Answered by ``Watched`` when ``on``.
    """

    number: int
    upstream: str
    uri: str
    session: str = ""
    on: bool = True


class Watched(Struct, array_like=True, tag=18, gc=False):
    """The upstream agreed, or not; then the body is the JSON-RPC error."""

    number: int
    agreed: bool = True


class Updated(Struct, array_like=True, tag=19, gc=False):
    """A watched resource changed. Body: ``params`` of ``notifications/resources/updated``."""

    upstream: str
    uri: str
    session: str = ""


class Detach(Struct, array_like=True, tag=20, gc=False):
    """The client of a session's call may come back for its answer, here or elsewhere: keep what comes from now on."""

    call: int


class CancelRequest(Struct, array_like=True, tag=21, gc=False):
    """A session cancelled its request, whichever front end it was sent to."""

    session: str
    request: bytes


class Resume(Struct, array_like=True, tag=22, gc=False):
    """A session is back for the stream of a call that ``frontend`` knew as ``before``: go on after ``sequence``, to
    ``call`` on this link. Answered by ``Resumed``, or ``Failed``."""

    call: int
    session: str
    frontend: str
    before: int
    sequence: int


class Resumed(Struct, array_like=True, tag=23, gc=False):
    """What was missed follows. ``request`` is the JSON of the client's request id; ``name`` and
    ``listed_name`` are those of the ``Call``."""

    call: int
    request: bytes
    name: str = ""
    listed_name: str = ""


class RootsChanged(Struct, array_like=True, tag=24, gc=False):
    """A client's roots changed: told to the upstream sessions that are its own."""

    session: str


class Unsolicited(Struct, array_like=True, tag=25, gc=False):
    """Worker: for the standing stream of a client session, of which no call is in flight. Body: a whole JSON-RPC
    message. It goes to one front end, whichever holds the stream. ``dropped``: so many before it were dropped."""

    session: str
    size: int = 0
    stream: int = 0
    dropped: int = 0


class QuestionNews(Struct, array_like=True, tag=26, gc=False):
    """Front end: the question ``question_id`` was put on a stream that the client has open; with a body (``params`` of
    ``notifications/progress``), how far the client is with answering it."""

    question_id: str
    session: str


class Notice(Struct, array_like=True, tag=27, gc=False):
    """Front end: a notification of a client session for the upstream. Body: a whole JSON-RPC message."""

    upstream: str
    session: str
    size: int = 0
    stream: int = 0


class Alive(Struct, array_like=True, tag=28, gc=False):
    """Worker: does this client session have a stream open there? Front end: it does."""

    session: str


class GoAway(Struct, array_like=True, tag=14, gc=False):
    """The worker drains: calls numbered above ``last_call`` were not taken."""

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
