"""``worker.sessions.resource_subscriptions``: what watchers want and upstreams are told, whatever is lost."""

from __future__ import annotations

import asyncio
import json

import pytest

from shared.errors import NotDelivered
from shared.mcp.methods import LISTEN, SUBSCRIBE, UNSUBSCRIBE
from shared.mcp.versions import Era
from tests.unit.worker.sessions.resource_server import GONE, LEGACY, Ear, Upstream, failure_of, watching
from tests.unit.worker.worker_harness import run_ready, timeless
from worker.calls.client_facts import NOBODY

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
        await failure_of(task)
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
    await failure_of(bad)
    await asyncio.sleep(1)
    assert up.active_uris() == {"r:/a"}


@timeless
async def test_an_upstream_that_cannot_be_reached_is_a_refusal_and_is_not_tried_again() -> None:
    up = Upstream(LEGACY)
    up.refuses_to_open = GONE
    assert (await failure_of(up.watch(Ear(), "r:/a"))).code == "upstream_unavailable"
    await asyncio.sleep(100)
    assert len(up.subscriptions) == 0
    assert len(up.sessions) == 1


@timeless
async def test_what_is_watched_is_bounded() -> None:
    up = Upstream(LEGACY, limit=2)
    await up.watch(Ear(), "r:/1")
    await up.watch(Ear(), "r:/2")
    assert (await failure_of(up.watch(Ear(), "r:/3"))).code == "overloaded"
    await up.watch(Ear(), "r:/2")
    assert len(up.subscriptions) == 2


@timeless
async def test_a_watcher_that_is_gone_watches_nothing() -> None:
    up, ear = await watching(LEGACY, "r:/a", "r:/b")
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
    assert (await failure_of(up.watch(Ear(), "r:/a"))).code == "timeout"
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
    await failure_of(first)
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
    assert isinstance(await failure_of(task), NotDelivered)
    assert len(up.subscriptions) == 0


@timeless
async def test_closing_the_session_while_it_opens_is_said() -> None:
    up = Upstream(LEGACY)
    up.session_for("", NOBODY)
    up.current[""].opens = asyncio.get_running_loop().create_future()
    task = up.watch(Ear(), "r:/a")
    await asyncio.sleep(0.05)
    await up.current[""].close()
    assert isinstance(await failure_of(task), NotDelivered)
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
    up, ear = await watching(LEGACY, "r:/a", "r:/a/b", "s:/q")
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
    up, ear = await watching(LEGACY, "r:/a")
    up.subscriptions.updated("", params)
    assert ear.take() == []
