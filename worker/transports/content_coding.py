"""Decoding of compressed response bodies (RFC 9110 section 8.4.1), in parts of bounded size.

The gateway asks for no compression, but some servers and networks compress whatever is asked.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Protocol

import brotli  # type: ignore[import-untyped]

_PART = 64 * 1024
"""The most bytes that one part of decoded data has, so that a small body cannot grow unseen to any size."""
_MAX_CODINGS = 2
_MAX_MEMBERS = 256
"""The most parts that a gzip body may have. Empty ones would take time without end, and never reach a limit of size."""
_NO_CODING = frozenset((b"", b"identity", b"none", b"binary", b"utf-8", b"utf8"))
"""Names of no coding: ``identity``, and what some servers write there, charsets included."""


class Decoder(Protocol):
    """Decodes one body, part by part."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what ``data`` decodes to. Raises ``ValueError`` if it is damaged."""

    @property
    def finished(self) -> bool:
        """Whether the body is complete."""


class _Zlib:
    """gzip and deflate. The latter comes with a zlib header (RFC 1950), and from some servers without one."""

    def __init__(self, gzip: bool) -> None:
        self._gzip = gzip
        self._members = 1
        self._inflate: zlib._Decompress | None = None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what ``data`` decodes to."""
        if self._inflate is None:
            if not data:
                return
            bare = not self._gzip and (data[0] & 0x0F) != 8  # no zlib header: CM is 8 there (RFC 1950 section 2.2)
            self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16 if self._gzip else (-15 if bare else 15))
        rest = data
        try:
            while rest or self._inflate.unconsumed_tail:
                part = self._inflate.decompress(rest, _PART)
                if part:
                    yield part
                rest = self._inflate.unconsumed_tail
                if self._inflate.eof:
                    rest = self._inflate.unused_data
                    if not (self._gzip and rest.lstrip(b"\0")):
                        return
                    self._members += 1
                    if self._members > _MAX_MEMBERS:
                        raise ValueError(f"it has more than {_MAX_MEMBERS} members of gzip")
                    self._inflate = zlib.decompressobj(zlib.MAX_WBITS | 16)  # another member (RFC 1952 section 2.2)
                elif not part and not rest:
                    return
        except zlib.error as error:
            raise ValueError(f"it is no {'gzip' if self._gzip else 'deflate'}: {error}") from None

    @property
    def finished(self) -> bool:
        """Whether the body is complete."""
        return self._inflate is None or self._inflate.eof


class _Brotli:
    def __init__(self) -> None:
        self._decoder = brotli.Decompressor()
        self._fed = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what ``data`` decodes to."""
        self._fed = self._fed or bool(data)
        try:
            part = self._decoder.process(data, output_buffer_limit=_PART)
            while part:
                yield part
                if self._decoder.is_finished():
                    return
                part = self._decoder.process(b"", output_buffer_limit=_PART)
        except brotli.error as error:
            raise ValueError(f"it is no br: {error}") from None

    @property
    def finished(self) -> bool:
        """Whether the body is complete."""
        return not self._fed or self._decoder.is_finished()


class _Chain:
    """Several codings, the one that was applied last first."""

    def __init__(self, decoders: list[Decoder]) -> None:
        self._decoders = decoders

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what ``data`` decodes to."""
        return self._through(0, data)

    def _through(self, at: int, data: bytes) -> Iterator[bytes]:
        if at == len(self._decoders):
            yield data
            return
        for part in self._decoders[at].feed(data):
            yield from self._through(at + 1, part)

    @property
    def finished(self) -> bool:
        """Whether the body is complete."""
        return all(one.finished for one in self._decoders)


def decoder_for(coding: bytes) -> Decoder | None:
    """Return a decoder for the value of ``Content-Encoding``, or ``None`` if the body is not coded. Raises
    ``ValueError`` for a coding that is not known."""
    names = [name.strip().lower() for name in coding.split(b",")]
    names = [name for name in names if name not in _NO_CODING]
    if not names:
        return None
    if len(names) > _MAX_CODINGS:
        raise ValueError(f"{len(names)} content codings, one over the other")
    decoders: list[Decoder] = []
    for name in reversed(names):
        if name in (b"gzip", b"x-gzip", b"deflate"):
            decoders.append(_Zlib(name != b"deflate"))
        elif name == b"br":
            decoders.append(_Brotli())
        else:
            raise ValueError(f"the content coding {name[:32].decode('latin-1')!r}, which is not understood")
    return decoders[0] if len(decoders) == 1 else _Chain(decoders)
