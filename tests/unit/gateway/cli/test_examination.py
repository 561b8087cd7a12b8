"""``gateway.cli.examination``: what ``gateway doctor`` finds."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.cli.examination import examined

NOW = 1_000_000.0


def _overview(**changes: Any) -> dict[str, Any]:
    process = {"id": "p", "host": "h", "version": "1", "startedAt": NOW - 60, "workers": 1, "draining": False}
    return {"redis": True, "frontends": [process], "workers": [process], "restarts": {}, **changes}


def _server(id: str = "a", status: str = "connected", error: str | None = None, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "id": id,
        "transport": "stdio",
        "status": status,
        "error": error,
        "notes": [],
        "lastHealthCheck": None,
    }
    return {**made, **more}


def _levels(overview: dict[str, Any], servers: list[dict[str, Any]]) -> dict[str, str]:
    return {one.what: one.level for one in examined(overview, servers, NOW)}


def test_a_gateway_that_is_well_is_fine() -> None:
    assert set(_levels(_overview(), [_server()]).values()) == {"fine"}


@pytest.mark.parametrize(
    ("changes", "servers", "level", "said"),
    [
        ({"redis": False}, [_server()], "wrong", "Redis does not answer"),
        ({"workers": []}, [_server()], "wrong", "Redis has no record of the workers that answer calls"),
        ({"workers": [], "frontends": []}, [_server()], "wrong", "no worker is running"),
        ({"restarts": {"worker 1": 1}}, [_server()], "look", "worker 1 was replaced 1 times"),
        ({"restarts": {"worker 1": 9}}, [_server()], "wrong", "worker 1 was replaced 9 times"),
        ({}, [], "look", "no upstream is registered"),
        ({}, [_server(status="error", error="boom")], "wrong", "upstream a: boom"),
        ({}, [_server(status="connecting")], "look", "upstream a is connecting"),
        ({}, [_server(notes=["mended"])], "look", "upstream a: mended"),
        ({}, [_server(lastHealthCheck={"latencyMs": 2500.0})], "look", "2500 ms"),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], servers: list[dict[str, Any]], level: str, said: str) -> None:
    found = _levels(_overview(**changes), servers)
    assert level in {how for what, how in found.items() if said in what}, found


@pytest.mark.parametrize(
    ("change", "said"),
    [({"version": "2"}, "several versions run"), ({"startedAt": NOW + 90}, "90 s ahead"), ({"workers": 0}, "0 of 1")],
)
def test_front_ends_that_differ_are_found(change: dict[str, Any], said: str) -> None:
    overview = _overview()
    overview["frontends"] = [{**overview["frontends"][0], **change}]
    assert any(said in what for what in _levels(overview, [_server()]))


def test_what_helps_is_said_with_the_error() -> None:
    servers = [
        _server("a", "error", "why", advice="do this"),
        _server("b", "error", "new"),
        _server("c", "error", "new", transport="http"),
    ]
    assert [one.do for one in examined(_overview(), servers, NOW) if "upstream" in one.what] == [
        "do this",
        "'gateway servers show b' and 'gateway servers logs b' say more",
        "'gateway servers show c' says more",
    ]


def test_an_audit_log_that_cannot_be_written_is_found() -> None:
    diagnosis: dict[str, Any] = {"redis": None, "files": [], "audit": "[Errno 28] No space left on device"}
    (found,) = [one for one in examined(_overview(), [_server()], NOW, diagnosis) if one.do]
    assert found.level == "wrong" and "No space left" in found.what and "access.audit.file" in found.do


def test_an_authorization_server_that_cannot_be_asked_is_found() -> None:
    troubles = {"https://login.example": "HTTP 503"}
    diagnosis: dict[str, Any] = {"redis": None, "files": [], "authorizationServers": troubles}
    (found,) = [one for one in examined(_overview(), [_server()], NOW, diagnosis) if one.do]
    assert found.level == "wrong" and "https://login.example" in found.what and "HTTP 503" in found.what


def test_tools_that_are_held_back_are_found() -> None:
    held = {"upstream": "bank", "group": "bank", "tool": "pay", "state": "changed", "heldBack": True}
    (found,) = [
        one for one in examined(_overview(), [_server()], NOW, None, [held, {**held, "heldBack": False}]) if one.do
    ]
    assert found.what.startswith("upstream bank holds back 1 tool ") and "gateway tools diff bank" in found.do


def test_while_redis_is_away_workers_are_not_said_to_be_gone() -> None:
    """The front end that was asked knows its own links, and nothing else of the fleet."""
    found = _levels(_overview(redis=False, workers=[]), [_server()])
    assert not any("no worker is running" in what for what in found)
    assert any("links to workers" in what for what in found)
    overview = _overview(redis=False, workers=[])
    overview["frontends"] = [{**overview["frontends"][0], "workers": 0}]
    assert any("no worker is running" in what for what in _levels(overview, [_server()]))


def test_what_somebody_switched_off_is_no_fault() -> None:
    found = examined(_overview(), [_server("a", "stopped", duty="disabled"), _server("b", duty="draining")], NOW)
    assert [(one.level, one.what.partition(",")[0]) for one in found[-3:]] == [
        ("look", "upstream a is disabled"),
        ("look", "upstream b is draining"),
        ("fine", "1 of 2 upstreams are connected and answer"),
    ]


@pytest.mark.parametrize(
    ("redis", "level", "said"),
    [
        ({"persistent": False}, "look", "keeps nothing on disk"),
        ({"saved": False}, "wrong", "could not write"),
        ({"mostBytes": 100, "usedBytes": 1, "eviction": "allkeys-lru"}, "wrong", "drops keys"),
        ({"mostBytes": 100, "usedBytes": 90, "eviction": "noeviction"}, "wrong", "90%"),
        ({"aheadS": -30.0}, "look", "-30 s off"),
    ],
)
def test_what_will_go_wrong_with_redis_is_said(redis: dict[str, Any], level: str, said: str) -> None:
    (found,) = [one for one in examined(_overview(), [_server()], NOW, {"redis": redis, "files": []}) if one.do]
    assert found.level == level and said in found.what


def test_a_process_that_has_nearly_all_its_descriptors_open_is_named() -> None:
    files = [{"process": "worker", "pid": number, "open": 10 * number, "most": 100} for number in (1, 9)]
    well = {"persistent": True, "saved": True, "mostBytes": 0, "usedBytes": 10, "eviction": "noeviction", "aheadS": 0.1}
    (found,) = [one for one in examined(_overview(), [_server()], NOW, {"redis": well, "files": files}) if one.do]
    assert found.level == "wrong" and "worker 9 has 90 of 100" in found.what
    assert examined(_overview(), [_server()], NOW, {"redis": None, "files": []})
