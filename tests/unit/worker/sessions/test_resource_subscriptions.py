"""``worker.sessions.resource_subscriptions``: what watchers want and upstreams are told, whatever is lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from shared.errors import CallError, NotDelivered
from shared.mcp.methods import ACKNOWLEDGED, LISTEN, SUBSCRIBE, SUBSCRIPTION_META, UNSUBSCRIBE
from shared.mcp.versions import Era
from tests.unit.worker.worker_harness import JumpingLoop, NotedEvents, Wire, make_context, run_ready, timeless
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


async def _watching(era: Era, *uris: str) -> tuple[Upstream, Ear]:
    up, ear = Upstream(era), Ear()
    await asyncio.gather(*(up.watch(ear, uri) for uri in uris))
    up.told()
    return up, ear


async def _failure(task: asyncio.Task[None]) -> CallError:
    with pytest.raises(CallError) as caught:
        await asyncio.wait_for(task, 1000)
    return caught.value


# ---- one upstream subscription however many watch


@pytest.mark.parametrize("era", Era)
@timeless
async def test_the_upstream_is_told_once_and_again_when_the_last_one_leaves(era: Era) -> None:
    up, one, two = Upstream(era), Ear(), Ear()
    await up.watch(one, "r:/a")
    assert up.told() == [(SUBSCRIBE, "r:/a") if era is LEGACY else (LISTEN, ["r:/a"])]
    await up.watch(two, "r:/a")
    await up.watch(one, "r:/a")
    assert up.told() == []
    up.subscriptions.unwatch(one, "r:/a", "")
    await asyncio.sleep(1)
    assert up.active_uris() == {"r:/a"}
    up.subscriptions.unwatch(one, "r:/a", "")
    up.subscriptions.unwatch(two, "r:/a", "")
    await asyncio.sleep(1)
    assert up.active_uris() == set()
    assert up.told() == ([(UNSUBSCRIBE, "r:/a")] if era is LEGACY else [])
    assert len(up.subscriptions) == 0


@pytest.mark.parametrize("era", Era)
@timeless
async def test_watchers_that_come_at_once_share_one_answer(era: Era) -> None:
    up, ears = Upstream(era), [Ear() for _ in range(5)]
    await asyncio.gather(*(up.watch(ear, "r:/a") for ear in ears))
    assert len(up.told()) == 1
    up.subscriptions.updated("", b'{"uri":"r:/a"}')
    assert [ear.take() for ear in ears] == [["r:/a"]] * 5


@pytest.mark.parametrize("era", Era)
@timeless
async def test_a_refusal_reaches_everybody_who_asked_and_leaves_nothing(era: Era) -> None:
    up = Upstream(era)
    up.refused = {"r:/no"}
    tasks = [up.watch(Ear(), "r:/no") for _ in range(3)]
    for task in tasks:
        await _failure(task)
    assert len(up.subscriptions) == 0
    await asyncio.sleep(1)
    assert [method for method, _ in up.told()].count(UNSUBSCRIBE) == 0
    assert up.active_uris() == set()
    up.refused = set()
    await up.watch(Ear(), "r:/no")
    assert up.active_uris() == {"r:/no"}


@pytest.mark.parametrize("era", Era)
@timeless
async def test_one_refusal_costs_no_other_its_subscription(era: Era) -> None:
    up, ear = Upstream(era), Ear()
    up.refused = {"r:/no"}
    good, bad = up.watch(ear, "r:/a"), up.watch(ear, "r:/no")
    await good
    await _failure(bad)
    await asyncio.sleep(1)
    assert up.active_uris() == {"r:/a"}


@timeless
async def test_an_upstream_that_cannot_be_reached_is_a_refusal_and_is_not_tried_again() -> None:
    up = Upstream(LEGACY)
    up.refuses_to_open = GONE
    assert (await _failure(up.watch(Ear(), "r:/a"))).code == "upstream_unavailable"
    await asyncio.sleep(100)
    assert len(up.subscriptions) == 0
    assert len(up.sessions) == 1


@timeless
async def test_what_is_watched_is_bounded() -> None:
    up = Upstream(LEGACY, limit=2)
    await up.watch(Ear(), "r:/1")
    await up.watch(Ear(), "r:/2")
    assert (await _failure(up.watch(Ear(), "r:/3"))).code == "overloaded"
    await up.watch(Ear(), "r:/2")
    assert len(up.subscriptions) == 2


@timeless
async def test_a_watcher_that_is_gone_watches_nothing() -> None:
    up, ear = await _watching(LEGACY, "r:/a", "r:/b")
    other = Ear()
    await up.watch(other, "r:/b")
    up.subscriptions.forget(ear)
    await asyncio.sleep(1)
    assert up.active_uris() == {"r:/b"}
    assert len(up.subscriptions) == 1


# ---- races


@pytest.mark.parametrize("era", Era)
@timeless
async def test_who_leaves_while_subscribing_leaves_nothing_behind(era: Era) -> None:
    up, ear = Upstream(era), Ear()
    up.holds = True
    task = up.watch(ear, "r:/a")
    await asyncio.sleep(0.05)
    up.subscriptions.unwatch(ear, "r:/a", "")
    up.holds = False
    up.current[""].answer()
    await task
    await asyncio.sleep(1)
    assert up.active_uris() == set()
    assert len(up.subscriptions) == 0


@pytest.mark.parametrize("era", Era)
@timeless
async def test_who_leaves_while_subscribing_and_comes_back_is_subscribed(era: Era) -> None:
    up, ear = Upstream(era), Ear()
    up.holds = True
    first = up.watch(ear, "r:/a")
    await asyncio.sleep(0.05)
    up.subscriptions.unwatch(ear, "r:/a", "")
    again = up.watch(ear, "r:/a")
    await asyncio.sleep(0.05)
    up.holds = False
    while up.current[""].held:
        up.current[""].answer()
    await asyncio.gather(first, again)
    await asyncio.sleep(1)
    assert up.active_uris() == {"r:/a"}
    up.subscriptions.updated("", b'{"uri":"r:/a"}')
    assert ear.take() == ["r:/a"]


@timeless
async def test_an_upstream_that_subscribes_too_late_is_told_that_nobody_wants_it_any_more() -> None:
    up = Upstream(LEGACY)
    up.holds = True
    assert (await _failure(up.watch(Ear(), "r:/a"))).code == "timeout"
    up.holds = False
    await run_ready()
    up.current[""].answer()
    up.current[""].answer()
    assert up.active_uris() == set()


@timeless
async def test_an_earlier_refusal_does_not_end_a_later_subscription() -> None:
    up, ear = Upstream(LEGACY), Ear()
    up.holds, up.refused = True, {"r:/a"}
    first = up.watch(ear, "r:/a")
    await asyncio.sleep(0.05)
    up.subscriptions.unwatch(ear, "r:/a", "")
    again = up.watch(ear, "r:/a")
    await asyncio.sleep(0.05)
    up.current[""].answer()
    up.holds, up.refused = False, set()
    await _failure(first)
    while up.current[""].held:
        up.current[""].answer()
    await again
    up.subscriptions.updated("", b'{"uri":"r:/a"}')
    assert ear.take() == ["r:/a"]


@pytest.mark.parametrize("era", Era)
@timeless
async def test_closing_while_subscribing_is_said(era: Era) -> None:
    up = Upstream(era)
    up.holds = True
    task = up.watch(Ear(), "r:/a")
    await asyncio.sleep(0.05)
    await up.subscriptions.close()
    assert isinstance(await _failure(task), NotDelivered)
    assert len(up.subscriptions) == 0


@timeless
async def test_closing_the_session_while_it_opens_is_said() -> None:
    up = Upstream(LEGACY)
    up.session_for("", NOBODY)
    up.current[""].opens = asyncio.get_running_loop().create_future()
    task = up.watch(Ear(), "r:/a")
    await asyncio.sleep(0.05)
    await up.current[""].close()
    assert isinstance(await _failure(task), NotDelivered)
    assert len(up.subscriptions) == 0


# ---- what the upstream says


@pytest.mark.parametrize(
    ("updated", "heard"),
    [
        ("r:/a", ["r:/a"]),
        ("r:/a/b", ["r:/a/b"]),
        ("r:/a/b/c", ["r:/a/b"]),
        ("r:/a/x", ["r:/a"]),
        ("r:/z", ["r:/a", "r:/a/b", "s:/q"]),
        ("s:/q?x", ["s:/q"]),
        ("", ["r:/a", "r:/a/b", "s:/q"]),
    ],
)
@timeless
async def test_an_update_is_for_the_exact_uri_else_the_longest_prefix_else_everybody(
    updated: str, heard: list[str]
) -> None:
    up, ear = await _watching(LEGACY, "r:/a", "r:/a/b", "s:/q")
    up.subscriptions.updated("", json.dumps({"uri": updated, "_meta": {"x": 1}}).encode())
    await asyncio.sleep(1.0)  # what is not watched as such is looked up a little later
    assert sorted(ear.take()) == heard
    assert ear.params[0] == {"uri": updated, "_meta": {"x": 1}}


@timeless
async def test_an_update_on_one_clients_session_is_for_that_client() -> None:
    up, ear = Upstream(LEGACY), Ear()
    for sid in ("", "s1", "s2"):
        await up.watch(ear, "r:/a", sid)
    assert up.active_uris("s1") == {"r:/a"}
    up.subscriptions.updated("s1", b'{"uri":"r:/other"}')
    await asyncio.sleep(1.0)
    assert ear.heard == [("s1", "r:/a")]
    assert up.subscriptions.uses("s1")
    assert not up.subscriptions.uses("s3")
    up.subscriptions.end_client("s1")
    up.subscriptions.end_client("")
    assert len(up.subscriptions) == 2
    up.subscriptions.updated("s1", b'{"uri":"r:/a"}')
    assert len(ear.heard) == 1


@pytest.mark.parametrize("params", [b"", b"[]", b"{}", b'{"uri":5}', b'{"uri":null}'])
@timeless
async def test_an_update_that_names_nothing_is_nothing(params: bytes) -> None:
    up, ear = await _watching(LEGACY, "r:/a")
    up.subscriptions.updated("", params)
    assert ear.take() == []


# ---- legacy sessions that come and go


@timeless
async def test_what_was_subscribed_on_a_lost_session_is_subscribed_again_and_everybody_hears() -> None:
    up, ear = await _watching(LEGACY, "r:/a", "r:/b")
    own = Ear()
    await up.watch(own, "r:/a", "s1")
    up.current[""].lost(GONE)
    await asyncio.sleep(5)
    assert up.active_uris() == {"r:/a", "r:/b"}
    assert sorted(ear.take()) == ["r:/a", "r:/b"]
    assert own.take() == []
    assert up.subscriptions.live_on(up.current[""])


@timeless
async def test_a_session_that_is_lost_in_the_moment_of_its_answer_is_no_subscription() -> None:
    up, ear = Upstream(LEGACY), Ear()
    up.holds = True
    task = up.watch(ear, "r:/a")
    await asyncio.sleep(0.05)
    up.holds = False
    up.current[""].answer()
    up.current[""].lost(GONE)
    await _failure(task)
    assert len(up.subscriptions) == 0


@timeless
async def test_a_session_that_was_opened_anew_is_subscribed_again() -> None:
    up, ear = await _watching(LEGACY, "r:/a")
    session = up.current[""]
    session.reset()
    session.subscribed.clear()
    await session.open()
    await asyncio.sleep(5)
    assert up.active_uris() == {"r:/a"}
    assert ear.take() == ["r:/a"]


@timeless
async def test_an_upstream_that_stays_away_is_not_hammered_and_found_again() -> None:
    up, ear = await _watching(LEGACY, "r:/a", "r:/b")
    up.refuses_to_open = GONE
    before = len(up.sessions)
    up.current[""].lost(GONE)
    await asyncio.sleep(10)
    assert len(up.sessions) - before < 25
    assert ear.take() == [], "it is not back"
    up.refuses_to_open = None
    await asyncio.sleep(60)
    assert up.active_uris() == {"r:/a", "r:/b"}
    assert sorted(ear.take()) == ["r:/a", "r:/b"]


@timeless
async def test_one_that_cannot_be_renewed_does_not_keep_the_others_from_it() -> None:
    up, ear = await _watching(LEGACY, "r:/a", "r:/b", "r:/c")
    up.refused = {"r:/b"}
    up.current[""].lost(GONE)
    await asyncio.sleep(5)
    assert up.active_uris() == {"r:/a", "r:/c"}
    assert sorted(ear.take()) == ["r:/a", "r:/c"]
    up.refused = set()
    await asyncio.sleep(60)
    assert ear.take() == ["r:/b"]
    assert up.active_uris() == {"r:/a", "r:/b", "r:/c"}


@timeless
async def test_who_leaves_during_the_renewal_leaves_nothing_behind_and_the_others_are_renewed() -> None:
    up, ear = await _watching(LEGACY, "r:/a", "r:/b")
    up.holds = True
    up.current[""].lost(GONE)
    await asyncio.sleep(1)
    up.subscriptions.unwatch(ear, "r:/a", "")
    up.holds = False
    while up.current[""].held:
        up.current[""].answer()
        await run_ready()
    await asyncio.sleep(5)
    assert up.active_uris() == {"r:/b"}
    assert ear.take() == ["r:/b"]


# ---- the modern listen stream


@timeless
async def test_a_stream_for_nothing_is_closed() -> None:
    up = Upstream(MODERN)
    up.refused = {"r:/no"}
    await _failure(up.watch(Ear(), "r:/no"))
    await asyncio.sleep(1)
    assert up.current[""].correlation.calls == {}


@timeless
async def test_uris_of_one_moment_are_one_stream_and_a_change_replaces_it() -> None:
    up, ear = Upstream(MODERN), Ear()
    await asyncio.gather(*(up.watch(ear, f"r:/{n}") for n in range(3)))
    assert up.told() == [(LISTEN, ["r:/0", "r:/1", "r:/2"])]
    await up.watch(ear, "r:/3")
    await asyncio.sleep(1)
    assert up.told() == [(LISTEN, ["r:/0", "r:/1", "r:/2", "r:/3"])]
    assert len(up.current[""].streams) == 1, "the old one is closed"
    assert len(up.current[""].correlation.calls) == 1


@pytest.mark.parametrize("how", ["ended", "failed"])
@timeless
async def test_a_lost_stream_is_opened_again_and_everybody_hears_once(how: str) -> None:
    up, ear = await _watching(MODERN, "r:/a", "r:/b")
    session = up.current[""]
    if how == "ended":
        session.end_streams()
    else:
        session.streams.clear()
        for call in session.correlation.drain():
            call.fail(GONE)
    await asyncio.sleep(5)
    assert up.active_uris() == {"r:/a", "r:/b"}
    assert sorted(ear.take()) == ["r:/a", "r:/b"]


@timeless
async def test_while_the_stream_cannot_be_opened_nobody_hears_that_it_is_back() -> None:
    up, ear = await _watching(MODERN, "r:/a")
    up.refuses_to_listen = True
    up.current[""].end_streams()
    await asyncio.sleep(40)
    assert ear.take() == []
    assert len(up.told()) < 12, "and the upstream is not hammered"
    up.refuses_to_listen = False
    await asyncio.sleep(40)
    assert ear.take() == ["r:/a"]
    assert up.active_uris() == {"r:/a"}
    up.current[""].end_streams()
    await asyncio.sleep(1)
    assert ear.take() == ["r:/a"], "the next loss is a new one"


@timeless
async def test_a_stream_that_is_not_acknowledged_after_a_loss_is_tried_again() -> None:
    up, ear = await _watching(MODERN, "r:/a")
    up.silent = True
    up.current[""].end_streams()
    await asyncio.sleep(35)
    up.silent = False
    await asyncio.sleep(70)
    assert up.active_uris() == {"r:/a"}
    assert ear.take() == ["r:/a"]


@timeless
async def test_one_that_is_not_honoured_any_more_when_the_stream_changes_is_asked_for_again() -> None:
    up, ear = await _watching(MODERN, "r:/a")
    up.refused = {"r:/a"}
    await up.watch(ear, "r:/b")
    await asyncio.sleep(60)
    assert up.active_uris() == {"r:/b"}
    assert len(up.told()) < 15
    up.refused = set()
    await asyncio.sleep(60)
    assert up.active_uris() == {"r:/a", "r:/b"}
    assert "r:/a" in ear.take()


@timeless
async def test_without_an_acknowledgement_the_watcher_is_refused() -> None:
    up = Upstream(MODERN)
    up.silent = True
    assert (await _failure(up.watch(Ear(), "r:/a"))).code == "timeout"
    assert len(up.subscriptions) == 0


@timeless
async def test_streams_that_end_now_and_then_come_back_as_quickly_each_time() -> None:
    up, ear = await _watching(MODERN, "r:/a")
    for _ in range(10):
        await asyncio.sleep(300)
        up.current[""].end_streams()
        await asyncio.sleep(1)
        assert ear.take() == ["r:/a"]


@timeless
async def test_when_the_modern_session_is_another_one_the_stream_moves_there() -> None:
    up, ear = await _watching(MODERN, "r:/a")
    tasks = len(asyncio.all_tasks())
    up.current[""].lost(GONE)
    await up.watch(ear, "r:/b")
    await asyncio.sleep(5)
    assert up.active_uris() == {"r:/a", "r:/b"}
    await asyncio.sleep(100)
    assert len(asyncio.all_tasks()) <= tasks, "nobody keeps trying on the old one"
    up.subscriptions.unwatch(ear, "r:/a", "")
    await asyncio.sleep(1)
    assert up.active_uris() == {"r:/b"}


@timeless
async def test_a_lost_modern_session_is_followed_without_anybody_asking() -> None:
    up, ear = await _watching(MODERN, "r:/a")
    up.current[""].lost(GONE)
    await asyncio.sleep(60)
    assert up.active_uris() == {"r:/a"}
    assert ear.take() == ["r:/a"]


@pytest.mark.parametrize("era", Era)
@timeless
async def test_after_closing_nothing_runs(era: Era) -> None:
    before = len(asyncio.all_tasks())
    up, _ = await _watching(era, "r:/a", "r:/b")
    up.refuses_to_open, up.refuses_to_listen = GONE, True
    up.current[""].lost(GONE)
    await asyncio.sleep(1)
    await up.subscriptions.close()
    assert len(asyncio.all_tasks()) <= before
    assert len(up.subscriptions) == 0


# ---- in any order


URIS = st.sampled_from(["r:/1", "r:/2", "r:/3"])
EARS = st.sampled_from([0, 1, 2])


class AnyOrder(RuleBasedStateMachine):
    """Watchers come and go while the upstream answers late, refuses, ends streams and loses its session.

    When it is well again and time has passed, exactly what is watched is subscribed, and everybody hears of it.
    """

    @initialize(era=st.sampled_from(Era))
    def begin(self, era: Era) -> None:
        """An upstream that is well."""
        self.loop = JumpingLoop()
        self.up = self._run(self._make(era))
        self.ears = [Ear() for _ in range(3)]
        self.wanted: dict[tuple[int, str], asyncio.Task[None]] = {}
        self.tasks: list[asyncio.Task[None]] = []

    async def _make(self, era: Era) -> Upstream:
        return Upstream(era)

    def _run(self, what: Any) -> Any:
        return self.loop.run_until_complete(what)

    async def _do(self, act: Any, pass_s: float = 0.0) -> None:
        act()
        await run_ready()
        await asyncio.sleep(pass_s)

    def _wanted(self) -> Iterable[tuple[int, str]]:
        """What is watched: a watch that failed is none."""
        return [key for key, task in self.wanted.items() if not task.done() or task.exception() is None]

    @rule(ear=EARS, uri=URIS)
    def watch(self, ear: int, uri: str) -> None:
        def act() -> None:
            if (ear, uri) in self._wanted():
                return
            self.wanted[ear, uri] = task = self.up.watch(self.ears[ear], uri)
            self.tasks.append(task)

        self._run(self._do(act))

    @rule(ear=EARS, uri=URIS)
    def unwatch(self, ear: int, uri: str) -> None:
        def act() -> None:
            self.wanted.pop((ear, uri), None)
            self.up.subscriptions.unwatch(self.ears[ear], uri, "")

        self._run(self._do(act))

    @rule(ear=EARS, uri=URIS)
    def unwatch_and_watch(self, ear: int, uri: str) -> None:
        """In one breath, as a client does that connects again."""
        self.unwatch(ear, uri)
        self.watch(ear, uri)

    @rule(ear=EARS)
    def forget(self, ear: int) -> None:
        def act() -> None:
            self.wanted = {key: task for key, task in self.wanted.items() if key[0] != ear}
            self.up.subscriptions.forget(self.ears[ear])

        self._run(self._do(act))

    @rule(holds=st.booleans())
    def slow(self, holds: bool) -> None:
        self.up.holds = holds

    @precondition(lambda self: self.up.current)
    @rule()
    def answer(self) -> None:
        self._run(self._do(self.up.current[""].answer))

    @rule(refused=st.sets(URIS, max_size=1), silent=st.booleans(), listen=st.booleans())
    def mood(self, refused: set[str], silent: bool, listen: bool) -> None:
        """The upstream refuses, or does not say that it agreed."""
        self.up.refused, self.up.silent, self.up.refuses_to_listen = refused, silent, listen

    @rule(opens=st.booleans())
    def reachable(self, opens: bool) -> None:
        self.up.refuses_to_open = None if opens else GONE

    @precondition(lambda self: self.up.current)
    @rule(how=st.sampled_from(["lost", "ends"]))
    def trouble(self, how: str) -> None:
        session = self.up.current[""]
        self._run(self._do(session.end_streams if how == "ends" else lambda: session.lost(GONE)))

    @rule(seconds=st.sampled_from([0.02, 0.3, 5.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self._run(self._do(lambda: None, seconds))

    def teardown(self) -> None:
        """The upstream is well again."""
        if not hasattr(self, "up"):
            return
        try:
            self._run(self._recover())
        finally:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self._run(asyncio.sleep(0))
            self.loop.close()

    async def _recover(self) -> None:
        up = self.up
        up.refuses_to_open, up.refuses_to_listen, up.silent, up.holds, up.refused = None, False, False, False, set()
        for session in up.sessions:
            while session.held and not session.closed:
                session.answer()
                await run_ready()
        await asyncio.sleep(200)
        assert all(task.done() for task in self.tasks), "a watcher was never told"
        wanted = set(self._wanted())
        assert up.active_uris() == {uri for _, uri in wanted}
        assert len(up.subscriptions) == len({uri for _, uri in wanted})
        for ear in self.ears:
            ear.take()
        for uri in {uri for _, uri in wanted}:
            up.subscriptions.updated("", json.dumps({"uri": uri}).encode())
        for number, ear in enumerate(self.ears):
            assert sorted(ear.take()) == sorted(uri for other, uri in wanted if other == number)
        current = up.current.get("")
        listening = 1 if up.era is MODERN and wanted else 0
        assert current is None or current.closed or len(current.correlation.calls) == listening


class TestAnyOrder(AnyOrder.TestCase):  # type: ignore[misc,valid-type]
    """Runs the machine."""

    settings = settings(derandomize=True, max_examples=100, stateful_step_count=25)
