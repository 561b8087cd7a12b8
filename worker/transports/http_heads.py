"""Heads of upstreams' responses, parsed once for each distinct run of bytes.

A server sends the same head for each answer of the same length within a second (``Date`` has seconds). Looking
a head up costs a fraction of a parser for one response. Only what the parser has accepted is remembered: a head that
is one read together with its body, of known length, on a connection that stays open. The same bytes mean the same.
"""

from __future__ import annotations

from typing import NamedTuple

END = b"\r\n\r\n"
LENIENT = {
    "lenient_headers": True,  # folded lines, control characters
    "lenient_optional_cr_before_lf": True,
    "lenient_chunked_length": True,  # a length beside chunks
    "lenient_spaces_after_chunk_size": True,
    "lenient_version": True,
}
"""What small and old servers write, and clients take. None of it can be mistaken for another answer here: a connection
carries one response at a time, all of one upstream."""
_MAX_HEADS = 256
_ONCE = frozenset((b"transfer-encoding", b"content-encoding", b"mcp-session-id", b"set-cookie"))
"""Headers of responses that the parser reads, or that do not come again."""
_MAX_HEAD_BYTES = 1024
"""At most so many heads of so many bytes are remembered for an endpoint, until it forgets them (once a second). Servers
of the field send 150 to 600 bytes."""


class KnownHead(NamedTuple):
    """What the parser found in a head: the status, the headers that matter, and the bytes of the body."""

    status: int
    headers: dict[bytes, bytes]
    length: int


class ResponseHeads(dict[bytes, KnownHead]):
    """The heads of one endpoint's responses by their bytes, the empty line included."""

    __slots__ = ()

    def learn(self, data: bytes, status: int, headers: dict[bytes, bytes]) -> None:
        """Remember the head of ``data``, which is one whole response, if its length says where its body ends."""
        if len(self) >= _MAX_HEADS:
            return
        end = data.find(END) + len(END)
        length = headers.get(b"content-length", b"")
        if end > _MAX_HEAD_BYTES or not length.isdigit() or int(length) != len(data) - end:
            return  # another length: an interim response came before, or the body is coded in chunks
        if not _ONCE.isdisjoint(headers):
            return
        self[data[:end]] = KnownHead(status, headers, int(length))
