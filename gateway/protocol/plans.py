"""What is to be done for a request: the possible outcomes of planning it. ``methods`` makes plans."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from msgspec import Struct

from gateway.admission.caller import Waits
from gateway.fleet.outgoing import Outgoing
from gateway.protocol.answers import Answer
from shared.mcp.listings import Kind


class OneOf(Struct, gc=False):
    """Requests for several upstreams, of which one may know the resource.

    They are sent one after another until an upstream knows the resource. ``unknown`` is the answer if none does.
    ``calls`` is a function because a search in all templates of all groups can take milliseconds. It raises
    ``CallError``.
    """

    calls: Callable[[], list[Outgoing]]
    unknown: Answer


class Effect(Struct, gc=False):
    """Work in this front end that has to be awaited and ends with an answer. ``run`` raises ``CallError``."""

    run: Callable[[], Awaitable[Answer]]


class Listen(Struct, gc=False):
    """The answer is a stream that stays open (``subscriptions/listen``)."""


class Widen(Struct, frozen=True, gc=False):
    """The plan depends on what the client's own upstream sessions list (``fleet.own_lists``), which has to be asked
    first."""

    kind: Kind


Plan = Answer | Outgoing | OneOf | Effect | Listen | Waits | Widen
