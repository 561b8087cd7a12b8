"""Calls in flight, and to whom a message belongs: for the tests of ``worker.sessions.attribution``."""

from __future__ import annotations

from shared.mcp.versions import Era
from worker.sessions.attribution import Attribution, ToCall, ToClient, ToNobody

LEGACY, MODERN = Era.LEGACY, Era.MODERN
NOW, LATER = 100.0, 100.5
NEWS = "notifications/x/news"
CLIENT, NOBODY = ToClient(), ToNobody()


class FakeCall:
    """``sessions.attribution.CallInFlight``: a call of which nothing is known but what attribution looks at."""

    def __init__(
        self, name: str, session: str = "", method: str = "tools/call", ours: bool = False, log_level: str = ""
    ) -> None:
        self.name = name
        self.session = session
        self.method = method
        self.ours = ours
        self.log_level = log_level

    def __repr__(self) -> str:
        return self.name


SHARED, LENT, OWN = "shared", "lent", "own"
"""Sessions: clients share it and no client stands behind it; a pool lends it to one client after the other; it is one
client's own (that of ``s1`` here)."""
Who = FakeCall | ToClient | ToNobody | str
"""Whom it is about; a text is part of the reason why it is about nobody."""
GivenUpCalls = dict[str, float]
"""Until when a call of a client session that was given up may still be at it."""


def attribution_of(kind: str, given_up: GivenUpCalls, era: Era = LEGACY) -> Attribution[FakeCall]:
    attribution: Attribution[FakeCall] = Attribution(era, own=kind == OWN, without_client=kind == SHARED)
    for number, (session, until) in enumerate(given_up.items()):
        attribution.given_up.add(1000 + number, session, until)
    return attribution


def expect(found: ToCall[FakeCall] | ToClient | ToNobody, expected: Who) -> None:
    if isinstance(expected, FakeCall):
        assert isinstance(found, ToCall) and found.call is expected
    elif isinstance(expected, str):
        assert isinstance(found, ToNobody) and expected in found.reason
    else:
        assert found == expected


def numbered(calls: list[FakeCall]) -> dict[int, FakeCall]:
    return {10 + number: call for number, call in enumerate(calls)}
