"""``worker.sessions.resource_subscriptions``: what was subscribed on sessions and streams that are lost is subscribed
again."""

from __future__ import annotations

import asyncio

import pytest

from shared.mcp.methods import LISTEN
from shared.mcp.versions import Era
from tests.unit.worker.sessions.resource_server import GONE, LEGACY, MODERN, Ear, Upstream, failure_of, watching
from tests.unit.worker.worker_harness import run_ready, timeless

# ---- legacy sessions that come and go


@timeless
async def test_what_was_subscribed_on_a_lost_session_is_subscribed_again_and_everybody_hears() -> None:
    up, ear = await watching(LEGACY, "r:/a", "r:/b")
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
    await failure_of(task)
    assert len(up.subscriptions) == 0


@timeless
async def test_a_session_that_was_opened_anew_is_subscribed_again() -> None:
    up, ear = await watching(LEGACY, "r:/a")
    session = up.current[""]
    session.reset()
    session.subscribed.clear()
    await session.open()
    await asyncio.sleep(5)
    assert up.active_uris() == {"r:/a"}
    assert ear.take() == ["r:/a"]


@timeless
async def test_an_upstream_that_stays_away_is_not_hammered_and_found_again() -> None:
    up, ear = await watching(LEGACY, "r:/a", "r:/b")
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
    up, ear = await watching(LEGACY, "r:/a", "r:/b", "r:/c")
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
    up, ear = await watching(LEGACY, "r:/a", "r:/b")
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
    await failure_of(up.watch(Ear(), "r:/no"))
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
    up, ear = await watching(MODERN, "r:/a", "r:/b")
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
    up, ear = await watching(MODERN, "r:/a")
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
    up, ear = await watching(MODERN, "r:/a")
    up.silent = True
    up.current[""].end_streams()
    await asyncio.sleep(35)
    up.silent = False
    await asyncio.sleep(70)
    assert up.active_uris() == {"r:/a"}
    assert ear.take() == ["r:/a"]


@timeless
async def test_one_that_is_not_honoured_any_more_when_the_stream_changes_is_asked_for_again() -> None:
    up, ear = await watching(MODERN, "r:/a")
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
    assert (await failure_of(up.watch(Ear(), "r:/a"))).code == "timeout"
    assert len(up.subscriptions) == 0


@timeless
async def test_streams_that_end_now_and_then_come_back_as_quickly_each_time() -> None:
    up, ear = await watching(MODERN, "r:/a")
    for _ in range(10):
        await asyncio.sleep(300)
        up.current[""].end_streams()
        await asyncio.sleep(1)
        assert ear.take() == ["r:/a"]


@timeless
async def test_when_the_modern_session_is_another_one_the_stream_moves_there() -> None:
    up, ear = await watching(MODERN, "r:/a")
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
    up, ear = await watching(MODERN, "r:/a")
    up.current[""].lost(GONE)
    await asyncio.sleep(60)
    assert up.active_uris() == {"r:/a"}
    assert ear.take() == ["r:/a"]


@pytest.mark.parametrize("era", Era)
@timeless
async def test_after_closing_nothing_runs(era: Era) -> None:
    before = len(asyncio.all_tasks())
    up, _ = await watching(era, "r:/a", "r:/b")
    up.refuses_to_open, up.refuses_to_listen = GONE, True
    up.current[""].lost(GONE)
    await asyncio.sleep(1)
    await up.subscriptions.close()
    assert len(asyncio.all_tasks()) <= before
    assert len(up.subscriptions) == 0
