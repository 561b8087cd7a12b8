"""What is known of one API once its document was read. Written by the process that reads it, read by the worker."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct


class Asked(Struct, frozen=True):
    """What the reading of a document depends on beside the document itself.

    ``operations`` are the entry's patterns. ``taken`` are the headers that the entry or the client sets, in lower case,
    ``taken_query`` the members of the query of the entry's URL: arguments cannot set them. ``origin`` is the API's.
    ``most_bytes`` is what all tools together may have.
    """

    operations: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    taken_query: tuple[str, ...] = ()
    origin: str = ""
    most_bytes: int = 16 * 1024 * 1024


class Parameter(Struct, frozen=True, omit_defaults=True):
    """One parameter of an operation. ``argument`` is its name for the model, ``name`` on the wire, ``where`` is
    ``path``, ``query``, ``header`` or ``cookie``. ``is_json``: the value is written as JSON (``content``)."""

    argument: str
    name: str
    where: str
    style: str
    explode: bool
    required: bool = False
    is_json: bool = False


class Body(Struct, frozen=True, omit_defaults=True):
    """The body of an operation: the argument that has it, and its media type. ``binary`` are the members of a form
    that are given in Base64; ``*`` stands for the whole body."""

    argument: str
    media: str
    required: bool = False
    binary: tuple[str, ...] = ()


class Operation(Struct, frozen=True, omit_defaults=True):
    """How a tool is called. ``path`` has the names of parameters in braces. ``from_root``: it is below the API's
    origin, not below the entry's URL."""

    method: str
    path: str
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    from_root: bool = False


class Api(Struct, frozen=True):
    """An API: its tools as JSON, and the operation behind each. ``flaws`` say what was left out, one sentence each.
    ``problem`` says why the document cannot be used at all."""

    instructions: str = ""
    tools: tuple[Raw, ...] = ()
    operations: dict[str, Operation] = {}
    flaws: tuple[str, ...] = ()
    problem: str = ""


def read(data: bytes) -> Api:
    """Return what the reading process wrote. Raises ``msgspec.DecodeError``."""
    return msgspec.json.decode(data, type=Api)
