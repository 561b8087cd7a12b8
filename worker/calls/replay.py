"""The messages of a call's stream, kept for a client that lost its connection.

Legacy Streamable HTTP, "Resumability and Redelivery". A call of a client session is kept from its first interim
message, or from the moment its client or its front end is gone, until ``replay_s`` seconds after its answer. The bytes
are bounded for each call and for all together; the oldest go first. The front end at which the client resumes asks by
the name that the first front end gave to the call.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from shared.settings import SessionSettings

Name = tuple[str, int]
"""(front end, number of the call on its link)."""


class KeptOutcome:
    """The end of a kept call. ``send`` writes it to a link under a call number."""

    __slots__ = ("send", "size")

    def __init__(self, send: Callable[[object, int], None], size: int) -> None:
        self.send = send
        self.size = size


class Replay:
    """The messages of one call. ``sequence`` numbers them from 1."""

    __slots__ = (
        "call",
        "ended_at",
        "listed_name",
        "messages",
        "name",
        "names",
        "outcome",
        "request",
        "sequence",
        "session",
        "size",
    )

    def __init__(self, session: str, request: bytes, call: object) -> None:
        self.session = session
        self.request = request
        self.call: object | None = call
        self.name = self.listed_name = ""  # the name of what is called, at the upstream and for the client
        self.names: list[Name] = []
        self.sequence = 0
        self.messages: deque[tuple[int, bytes]] = deque()
        self.outcome: KeptOutcome | None = None
        self.size = 0
        self.ended_at = 0.0

    def after(self, sequence: int) -> list[tuple[int, bytes]]:
        """Return the messages after number ``sequence``."""
        return [one for one in self.messages if one[0] > sequence]


class Replays:
    """The kept calls of one worker."""

    def __init__(self, clock: Callable[[], float], settings: SessionSettings) -> None:
        self._clock = clock
        self._settings = settings
        self._by_name: dict[Name, Replay] = {}
        self._ended: deque[Replay] = deque()
        self._size = 0

    def __len__(self) -> int:
        return len(self._by_name)

    @property
    def limit_bytes(self) -> int:
        """The bytes kept for one call. Older messages make room; an answer that is larger by itself is not kept."""
        return self._settings.replay_bytes

    @property
    def size(self) -> int:
        """The bytes kept for all calls."""
        return self._size

    def open(self, name: Name, session: str, request: bytes, call: object) -> Replay:
        """Keep a call's messages from now on."""
        replay = Replay(session, request, call)
        self.name(replay, name)
        return replay

    def name(self, replay: Replay, name: Name) -> None:
        """Let a front end find the call by this name as well."""
        replay.names.append(name)
        self._by_name[name] = replay

    def find(self, name: Name, session: str) -> Replay | None:
        """Return the call, or ``None`` if it is not kept or belongs to another session."""
        self.trim()
        replay = self._by_name.get(name)
        return replay if replay is not None and replay.session == session else None

    def add(self, replay: Replay, message: bytes) -> int:
        """Keep a message and return its number."""
        replay.sequence += 1
        replay.messages.append((replay.sequence, message))
        self._grow(replay, len(message))
        self._make_room()
        total = self._settings.replay_total_bytes
        while replay.messages and (replay.size > self.limit_bytes or self._size > total):
            self._grow(replay, -len(replay.messages.popleft()[1]))
        return replay.sequence

    def end(self, replay: Replay, outcome: KeptOutcome) -> None:
        """Keep the call's outcome, and start the time after which the call is forgotten."""
        replay.call = None
        replay.outcome = outcome
        replay.ended_at = self._clock()
        self._grow(replay, outcome.size)
        self._ended.append(replay)
        self._make_room()

    def end_session(self, sid: str) -> None:
        """Forget the calls of a client session that is over."""
        for replay in {id(one): one for one in self._by_name.values() if one.session == sid}.values():
            self._forget(replay)

    def trim(self) -> None:
        """Forget calls that ended more than ``replay_s`` seconds ago."""
        while self._ended and self._ended[0].ended_at <= self._clock() - self._settings.replay_s:
            self._forget(self._ended.popleft())

    def _make_room(self) -> None:
        while self._size > self._settings.replay_total_bytes and self._ended:
            self._forget(self._ended.popleft())

    def _grow(self, replay: Replay, size: int) -> None:
        replay.size += size
        self._size += size

    def _forget(self, replay: Replay) -> None:
        for name in replay.names:
            self._by_name.pop(name, None)
        replay.names = []
        self._size -= replay.size
        replay.size = 0
        replay.messages.clear()
        replay.outcome = None
