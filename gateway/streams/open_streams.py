"""The standing streams that are open at this front end: all of them, and by client session."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from gateway.routing.view import ViewKey
from gateway.streams.standing_stream import StandingStream
from shared.errors import NotDelivered
from shared.settings import SessionSettings


class OpenStreams:
    """A collection of standing streams. Its length is their number."""

    def __init__(self, settings: SessionSettings) -> None:
        self._settings = settings
        self._by_session: dict[str, StandingStream] = {}
        self._open: set[StandingStream] = set()
        self.draining = False

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[StandingStream]:
        """Iterate over a copy, so that streams may come and go meanwhile."""
        return iter(list(self._open))

    @property
    def sessions(self) -> list[str]:
        """The ids of the client sessions whose streams are open here."""
        return list(self._by_session)

    def of(self, sid: str) -> StandingStream | None:
        """Return the stream of the client session ``sid``, or ``None`` if it is not open here."""
        return self._by_session.get(sid)

    def add(
        self,
        sid: str,
        view: ViewKey,
        changes: dict[str, bytes],
        tag: bytes = b"",
        wants_warnings: Callable[[], bool] = lambda: False,
    ) -> StandingStream:
        """Open a stream; ``sid`` is empty for a listen. Raises ``NotDelivered`` at the limit, and while draining.

        A client session has one stream: an older one is closed.
        """
        if self.draining:
            raise NotDelivered("draining", "this front end is shutting down; connect again, to another one")
        if len(self._open) >= self._settings.max_streams:
            raise NotDelivered("overloaded", f"{len(self._open)} standing streams are open here (maxStreams)")
        stream = StandingStream(sid, self._settings.stream_buffer, changes, tag, view, wants_warnings)
        if sid:
            older = self._by_session.get(sid)
            if older is not None:
                older.close()
            self._by_session[sid] = stream
        self._open.add(stream)
        return stream

    def end_expired(self, now_s: float) -> None:
        """Close the streams whose principals' credentials have ended by a Unix time."""
        for stream in self:
            if stream.principal is not None and not stream.principal.lasts(now_s) and not stream.closing:
                stream.close()

    def discard(self, stream: StandingStream) -> None:
        """Remove a stream whose client is gone."""
        stream.gone = True
        self._open.discard(stream)
        if self._by_session.get(stream.sid) is stream:
            del self._by_session[stream.sid]
