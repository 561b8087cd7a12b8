"""``gateway.streams.standing_streams``: what is remembered of views, and for how long."""

from __future__ import annotations

from typing import cast

from gateway.sessions.session import ClientSession
from gateway.sessions.table import SessionTable
from gateway.streams.open_streams import OpenStreams
from gateway.streams.outbox import Outbox
from gateway.streams.standing_streams import StandingStreams
from gateway.streams.subscriptions import StreamSubscriptions
from shared.settings import SessionSettings
from tests.unit.builders import record
from tests.unit.gateway.fakes import Front


class NoSubscriptions:
    """``StreamSubscriptions`` of streams that subscribe to nothing."""

    def detach(self, stream: object) -> None:
        """Do nothing."""


async def test_endpoints_that_do_not_exist_are_watched_no_longer_than_their_streams() -> None:
    settings, front = SessionSettings(), Front(record("a", tools=["x"]))
    streams = StandingStreams(
        OpenStreams(settings),
        cast(Outbox, None),
        "A",
        front.registry,
        front.pool,
        cast(StreamSubscriptions, NoSubscriptions()),
        cast(SessionTable, None),
        settings,
    )
    views = front.registry.views
    for endpoint in ("nobody", "nobody", "a"):
        opened = [
            streams.attach(ClientSession(f"{endpoint}{n}", "2025-11-25", "", endpoint), views.of(endpoint, ""))
            for n in range(2)
        ]
        streams.detach(opened[0])
        assert (endpoint, "") in views.watched
        streams.detach(opened[1])
    assert views.watched == {("", ""), ("a", "")}, "a stream at an endpoint that exists may be resumed"
