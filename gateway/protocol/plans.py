"""What is to be done for a request: the possible outcomes of planning it. ``methods`` makes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import Struct

from gateway.admission.caller import Waits
from gateway.fleet.outgoing import Outgoing
from gateway.protocol.answers import Answer


class OneOf(Struct, gc=False):
    """Requests for several upstreams, which are asked one after another until one knows what is asked for;
    ``unknown`` is the answer when none does."""

    calls: list[Outgoing]
    unknown: Answer


class Effect(Struct, gc=False):
    """Something to be done here that takes time and ends with an answer. ``run`` raises ``CallError``."""

    run: Callable[[], Awaitable[Answer]]


class Listen(Struct, gc=False):
    """The answer is a stream that stays open (``subscriptions/listen``)."""


Plan = Answer | Outgoing | OneOf | Effect | Listen | Waits
