from __future__ import annotations

import gzip

import pytest

from worker.transports.content_coding import decoder_for


def test_a_body_of_several_gzip_members_is_decoded() -> None:
    decoder = decoder_for(b"gzip")
    assert decoder is not None
    data = b"".join(gzip.compress(b"%d," % number) for number in range(200))
    assert b"".join(part for at in range(0, len(data), 7) for part in decoder.feed(data[at : at + 7])) == b"".join(
        b"%d," % number for number in range(200)
    )
    assert decoder.finished


def test_a_body_of_empty_gzip_members_without_end_is_refused() -> None:
    """It never has a byte, so no limit of size ends it, and each read of it would take half a second."""
    decoder = decoder_for(b"gzip")
    assert decoder is not None
    with pytest.raises(ValueError, match="more than 256 members"):
        list(decoder.feed(gzip.compress(b"") * 10_000))
