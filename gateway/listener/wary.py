"""Heads of a connection whose peer has sent wrong credentials lately: requests with unknown ones may not be read.

Such a request is answered with the bytes of one refusal: nothing of it is decoded but where it ends. Counterpart:
``admission.suspects``, which counts; the ordinary lane asks it through ``admission.authentication``.
"""

from __future__ import annotations

import re
from typing import Protocol

from msgspec import structs

from gateway.admission.request_head import RequestHead
from gateway.admission.suspects import Suspects
from gateway.listener.heads import FramedHead, KnownHeads
from gateway.protocol import answers

_BEARER = b"\r\nAuthorization: Bearer "
_LOWER = b"\r\nauthorization: Bearer "
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/=-]+")
"""What bearer tokens are made of (RFC 6750 section 2.1)."""
_MAX_SHAPES = 200
"""How many heads are remembered without their token, to know others by them."""


class Knowing(Protocol):
    """Who remembers verified credentials; ``admission.authentication`` implements it."""

    def knows(self, head: RequestHead) -> bool:
        """Return whether the credentials of a head are verified already, or there are none."""


class Wariness:
    """What the connections of a front end share: the suspects, and what they are told (``answer``)."""

    def __init__(self, suspects: Suspects, knowing: Knowing) -> None:
        self.suspects = suspects
        self.knowing = knowing
        self.shapes: dict[bytes, FramedHead] = {}
        self.answer = answers.failure(suspects.error, b"null")

    def heads_for(self, heads: KnownHeads, peer: str) -> KnownHeads:
        """Return ``heads``, or heads that are read with care if the peer is suspect."""
        if peer not in self.suspects or type(heads) is WaryHeads:
            return heads
        return WaryHeads(heads, peer, self)


class WaryHeads:
    """The heads of one connection."""

    def __init__(self, heads: KnownHeads, peer: str, wariness: Wariness) -> None:
        self._heads = heads
        self._peer = peer
        self._wariness = wariness

    def read(self, raw: bytes) -> FramedHead | None:
        """Return what ``read_head`` returns for these bytes, marked as ``refused`` if the request is not to be looked
        at. A head that leaves the express lane anyway is not marked: the other lane may find that a proxy vouches."""
        suspects = self._wariness.suspects
        found = self._by_shape(raw) or self._heads.glance(raw)
        if found is None or not found.plain or self._wariness.knowing.knows(found.head):
            return self._heads.read(raw)
        if suspects.may(self._peer, grant=True):
            return self._heads.read(raw)
        suspects.unread(self._peer)
        return structs.replace(found, plain=False, refused=True)

    def _by_shape(self, raw: bytes) -> FramedHead | None:
        """Return what is to be known of a head like an earlier one but for its token, or ``None``. No bearer token
        changes what the rest of a head says."""
        at = raw.find(_BEARER)
        at = raw.find(_LOWER) if at < 0 else at
        if at < 0:
            return None
        begin = at + len(_BEARER)
        end = raw.find(b"\r\n", begin)
        token = raw[begin:end]
        if not _TOKEN.fullmatch(token):
            return None
        shape = raw[:begin] + raw[end:]
        shapes = self._wariness.shapes
        like = shapes.get(shape)
        if like is None:
            like = self._heads.glance(raw)
            if like is not None:
                if len(shapes) >= _MAX_SHAPES:
                    shapes.clear()
                shapes[shape] = like
            return like
        head = RequestHead(like.head.headers, authorization=f"Bearer {token.decode()}", resource=like.head.resource)
        return FramedHead(len(raw), like.length, like.keep_alive, like.plain, head)

    def glance(self, raw: bytes) -> FramedHead | None:
        """Return what ``read_head`` returns for these bytes, without remembering it."""
        return self._heads.glance(raw)
