"""A response body whose bytes cost more than to be kept: it is compressed, or has very many lines.

It is given to its exchange in small pieces, in turns of the loop (``turns``). Counterpart: ``http_client``, which
gives every other body to its exchange as it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from worker.transports.content_coding import Decoder
from worker.transports.turns import Turns, has_many_lines

_PIECE = 8 * 1024


class BodyInTurns:
    """One body. ``take`` takes each piece and returns whether it wants more; the others are those of ``Turns``."""

    __slots__ = ("_decoder", "_take", "_turns")

    def __init__(
        self,
        decoder: Decoder | None,
        take: Callable[[bytes], bool],
        hold: Callable[[], object],
        drained: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._decoder = decoder
        self._take = take
        self._turns = Turns(hold, drained, failed)

    @property
    def busy(self) -> bool:
        """Whether some of what came is not given to the exchange yet."""
        return self._turns.busy

    @property
    def whole(self) -> bool:
        """Whether what came is a whole body, if it is compressed."""
        return self._decoder is None or self._decoder.finished

    def add(self, data: bytes) -> None:
        """Take the bytes that came next. Raises ``ValueError`` if they are damaged."""
        self._turns.add(self._pieces(data), len(data))

    def drop(self) -> None:
        """Give nothing more to the exchange."""
        self._turns.drop()

    def _pieces(self, data: bytes) -> Iterator[None]:
        for part in self._decoder.feed(data) if self._decoder is not None else (data,):
            step = _PIECE if has_many_lines(part) else len(part)
            for at in range(0, len(part), step or 1):
                if not self._take(part[at : at + step]):
                    return
                yield
