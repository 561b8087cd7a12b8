"""An upstream with resources, over sessions that come and go, and who watches them: for the tests of
``worker.sessions.resource_subscriptions``."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from shared.errors import CallError, NotDelivered
from shared.mcp.methods import ACKNOWLEDGED, LISTEN, SUBSCRIBE, SUBSCRIPTION_META
from shared.mcp.versions import Era
from tests.unit.worker.worker_harness import NotedEvents, Wire, make_context
from worker.calls.call import Call
from worker.calls.client_facts import NOBODY, ClientFacts
from worker.sessions.context import UpstreamSession
from worker.sessions.resource_subscriptions import ResourceSubscriptions
from worker.sessions.session import Session

LEGACY, MODERN = Era.LEGACY, Era.MODERN
GONE = NotDelivered("upstream_unavailable", "gone")


class Ear:
    """``sessions.resource_subscriptions.Watcher``: notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []
        self.params: list[dict[str, Any]] = []

    def updated(self, upstream: str, uri: str, session: str, params: bytes) -> None:
        """As the worker tells it."""
        assert upstream == "up"
        self.heard.append((session, uri))
        self.params.append(json.loads(params))

    def take(self) -> list[str]:
        """URIs it heard of since last asked."""
        heard, self.heard = self.heard, []
        return [uri for _, uri in heard]


class ResourceServer(Wire):
    """An upstream session that remembers what is subscribed there. ``holds`` keeps its answers back."""

    def __init__(self, upstream: Upstream, sid: str) -> None:
        super().__init__(upstream.context, upstream.era, NOBODY, sid)
        self.upstream = upstream
        self.subscribed: set[str] = set()
        self.streams: dict[int, set[str]] = {}
        self.held: list[tuple[int, str, dict[str, Any]]] = []

    async def connect(self) -> None:
        await super().connect()
        if self.upstream.refuses_to_open is not None:
            raise self.upstream.refuses_to_open

    def send_request(self, id: int, call: Call, message: bytes) -> None:
        super().send_request(id, call, message)
        self.held.append((id, call.method, self.sent[-1].get("params", {})))
        if not self.upstream.holds:
            self.loop.call_soon(self.answer)

    def answer(self) -> None:
        """Answer what has waited longest."""
        if not self.held or self.closed:
            return
        id, method, params = self.held.pop(0)
        if method == LISTEN:
            wanted = set(params["notifications"]["resourceSubscriptions"])
            if id not in self.correlation.calls:
                return  # cancelled meanwhile
            if self.upstream.refuses_to_listen:
                self.receives(id=id, error={"code": -32000, "message": "too many streams"})
                return
            self.streams[id] = wanted - self.upstream.refused
            told = {"_meta": {SUBSCRIPTION_META: id}, "notifications": {"resourceSubscriptions": [*self.streams[id]]}}
            if not self.upstream.silent:
                self.receives(method=ACKNOWLEDGED, params=told)
            return
        if method == SUBSCRIBE and params["uri"] in self.upstream.refused:
            self.receives(id=id, error={"code": -32002, "message": "no such resource"})
            return
        (self.subscribed.add if method == SUBSCRIBE else self.subscribed.discard)(params["uri"])
        self.receives(id=id, result={})

    def cancel_request(self, id: int, call: Call, reason: str) -> None:
        self.streams.pop(id, None)

    @property
    def active_uris(self) -> set[str]:
        """What this upstream would announce."""
        return self.subscribed.union(*self.streams.values())

    def end_streams(self) -> None:
        """The upstream ends its streams in good order."""
        for id in list(self.streams):
            del self.streams[id]
            self.receives(id=id, result={"resultType": "complete"})


class Renewing(NotedEvents):
    """``sessions.context.SessionEvents``: what was subscribed on a session that was lost or reopened is renewed."""

    def __init__(self, upstream: Upstream) -> None:
        super().__init__()
        self.upstream = upstream

    def lost(self, session: UpstreamSession, error: CallError) -> None:
        super().lost(session, error)
        self.upstream.subscriptions.renew(session)

    def reopened(self, session: UpstreamSession) -> None:
        super().reopened(session)
        self.upstream.subscriptions.renew(session)


class Upstream:
    """``ResourceSubscriptions`` over sessions that come and go, one for everybody and one for each client session."""

    def __init__(self, era: Era, limit: int = 100) -> None:
        self.era = era
        self.context = make_context(events=Renewing(self))
        self.refuses_to_open: CallError | None = None
        self.refuses_to_listen = self.holds = self.silent = False
        self.refused: set[str] = set()
        self.sessions: list[ResourceServer] = []
        self.current: dict[str, ResourceServer] = {}
        self.subscriptions = ResourceSubscriptions("up", limit, self.session_for)

    def session_for(self, sid: str, client: ClientFacts) -> Session:
        """As ``Upstream`` chooses it."""
        session = self.current.get(sid)
        if session is None or session.closed:
            session = self.current[sid] = ResourceServer(self, sid)
            self.sessions.append(session)
            if self.era is MODERN:
                session.ready = True
        return session

    def watch(self, ear: Ear, uri: str, sid: str = "") -> asyncio.Task[None]:
        """Begin to watch."""
        task = asyncio.get_running_loop().create_task(self.subscriptions.watch(ear, uri, sid, NOBODY))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # not every test looks at it
        return task

    def told(self, sid: str = "") -> list[tuple[str, Any]]:
        """Methods and URIs that the current session was sent since last asked."""
        return [
            (one["method"], one["params"].get("uri") or sorted(one["params"]["notifications"]["resourceSubscriptions"]))
            for one in self.current[sid].take()
        ]

    def active_uris(self, sid: str = "") -> set[str]:
        """What is really subscribed now."""
        session = self.current.get(sid)
        return set() if session is None or session.closed else session.active_uris


async def watching(era: Era, *uris: str) -> tuple[Upstream, Ear]:
    up, ear = Upstream(era), Ear()
    await asyncio.gather(*(up.watch(ear, uri) for uri in uris))
    up.told()
    return up, ear


async def failure_of(task: asyncio.Task[None]) -> CallError:
    with pytest.raises(CallError) as caught:
        await asyncio.wait_for(task, 1000)
    return caught.value
