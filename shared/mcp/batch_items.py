"""The elements of a JSON-RPC batch, of which no more are kept than a batch may have. Pure.

An upstream may send 64 MiB: of ``[1,1,…]`` a list of all elements would take 3 GB.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

MAX_BATCH = 1000
"""The largest number of messages in a batch. A batch is handled in one go, while all other clients wait."""
_ABSENT = Raw()
_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
    # Elements of an array beyond the members of such a struct are read over, and nothing is made of them.
    msgspec.defstruct("_Elements", [(f"n{n}", Raw, _ABSENT) for n in range(MAX_BATCH + 1)], array_like=True, gc=False)
)


def batch_items(body: bytes) -> list[Raw]:
    """Return the elements of the array ``body``, and of one that is too long ``MAX_BATCH`` and one more. Raises
    ``msgspec.DecodeError``, ``RecursionError``."""
    found = _decoder.decode(body)
    return [one for name in found.__struct_fields__ if (one := getattr(found, name))]
