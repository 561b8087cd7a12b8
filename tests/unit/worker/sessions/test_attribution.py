"""``worker.sessions.attribution``: whose is what an upstream asks or says? It must never reach somebody else.

The tables go through every channel: a call's own stream, a session that clients share, one that a pool lends, one that
is a client's own. The properties at the end ask the same of any mixture of calls.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import Raw

from shared.mcp import jsonrpc
from shared.mcp.methods import ACKNOWLEDGED, INITIALIZED, LISTEN, NOT_FOR_CLIENTS, ROOTS_CHANGED, SUBSCRIPTION_META
from shared.mcp.versions import Era
from tests.unit.worker.sessions.fake_calls import (
    CLIENT,
    LATER,
    LEGACY,
    LENT,
    MODERN,
    NEWS,
    NOBODY,
    NOW,
    OWN,
    SHARED,
    FakeCall,
    GivenUpCalls,
    Who,
    attribution_of,
    expect,
    numbered,
)
from worker.bridge.inputs import ELICIT, ROOTS, SAMPLE
from worker.sessions.attribution import MAX_GIVEN_UP, GivenUp, integer

ADA, ADA_TOO, BOB = FakeCall("ada", "s1"), FakeCall("ada-too", "s1"), FakeCall("bob", "s2")
NO_SESSION = FakeCall("no-session")
"""A call of a modern client, or of one without a session: its session is not known."""
OURS = FakeCall("ours", method="tools/list", ours=True)
LISTENING = FakeCall("listen", method=LISTEN)
OUR_LISTEN = FakeCall("our-listen", method=LISTEN, ours=True)
ADA_LOGS, BOB_LOGS = FakeCall("ada-logs", "s1", log_level="info"), FakeCall("bob-logs", "s2", log_level="debug")
LISTEN_LOGS = FakeCall("listen-logs", method=LISTEN, log_level="debug")


def _row(name: str, *values: Any) -> Any:
    return pytest.param(*values, id=name.replace(" ", "-"))


# ---- questions

TWO, NONE = "cannot tell which of 2 calls", "cannot tell which of 0 calls"
GIVEN_UP = "cannot tell which of a call and one that was given up"
NO_ROOTS = "knows no roots"

QUESTIONS = [
    # on a call's own stream
    _row("stream alone shared", SHARED, ADA, [ADA], {}, ADA),
    _row("stream among others shared", SHARED, ADA, [ADA, BOB, OURS], {}, ADA),
    _row("stream among others lent", LENT, BOB, [ADA, BOB], {}, BOB),
    _row("stream among others own", OWN, ADA, [ADA, ADA_TOO], {}, ADA),
    _row("stream although another was given up", SHARED, ADA, [ADA], {"s2": LATER}, ADA),
    _row("stream although an unknown was given up", SHARED, ADA, [ADA], {"": LATER}, ADA),
    _row("stream of a call that is over", SHARED, ADA, [BOB], {}, ADA),
    _row("stream of our own request", SHARED, OURS, [OURS, ADA], {}, OURS),
    _row("stream of a listen", SHARED, LISTENING, [LISTENING, ADA], {}, LISTENING),
    _row("stream of our listen own", OWN, OUR_LISTEN, [OUR_LISTEN, ADA], {}, OUR_LISTEN),
    # nobody's stream, nothing of a client in flight
    _row("no call shared", SHARED, None, [], {}, NONE),
    _row("no call lent", LENT, None, [], {}, NONE),
    _row("no call own", OWN, None, [], {}, CLIENT),
    _row("our own requests only shared", SHARED, None, [OURS, OUR_LISTEN], {}, NONE),
    _row("our own requests only lent", LENT, None, [OURS], {}, NONE),
    _row("our own requests only own", OWN, None, [OURS, OUR_LISTEN], {}, CLIENT),
    _row("a listen only shared", SHARED, None, [LISTENING], {}, NONE),
    _row("a listen only own", OWN, None, [LISTENING], {}, CLIENT),
    # one call
    _row("one call shared", SHARED, None, [ADA], {}, ADA),
    _row("one call lent", LENT, None, [ADA], {}, ADA),
    _row("one call own", OWN, None, [ADA], {}, ADA),
    _row("one call without a session", SHARED, None, [NO_SESSION], {}, NO_SESSION),
    _row("one call beside our own", SHARED, None, [OURS, ADA, OUR_LISTEN], {}, ADA),
    _row("one call beside a listen", SHARED, None, [ADA, LISTENING], {}, ADA),
    _row("one call beside a listen own", OWN, None, [LISTENING, ADA], {}, ADA),
    # several calls
    _row("two clients shared", SHARED, None, [ADA, BOB], {}, TWO),
    _row("two clients lent", LENT, None, [ADA, BOB], {}, TWO),
    _row("two calls of one client shared", SHARED, None, [ADA, ADA_TOO], {}, TWO),
    _row("two without a session", SHARED, None, [NO_SESSION, ADA], {}, TWO),
    _row("two clients beside a listen", SHARED, None, [ADA, LISTENING, BOB], {}, TWO),
    _row("two calls own", OWN, None, [ADA, ADA_TOO], {}, ADA_TOO),
    # given up
    _row("another gave up shared", SHARED, None, [ADA], {"s2": LATER}, GIVEN_UP),
    _row("another gave up lent", LENT, None, [ADA], {"s2": LATER}, GIVEN_UP),
    _row("an unknown gave up", SHARED, None, [ADA], {"": LATER}, GIVEN_UP),
    _row("another gave up, ours is unknown", SHARED, None, [NO_SESSION], {"s1": LATER}, GIVEN_UP),
    _row("both are unknown and may differ", SHARED, None, [NO_SESSION], {"": LATER}, GIVEN_UP),
    _row("it gave up itself shared", SHARED, None, [ADA], {"s1": LATER}, ADA),
    _row("it gave up itself lent", LENT, None, [ADA], {"s1": LATER}, ADA),
    _row("it gave up itself own", OWN, None, [ADA], {"s1": LATER}, ADA),
    _row("it gave up itself own, two more", OWN, None, [ADA, ADA_TOO], {"s1": LATER}, ADA_TOO),
    _row("it and another gave up", SHARED, None, [ADA], {"s1": LATER, "s2": LATER}, GIVEN_UP),
    _row("another gave up, too long ago", SHARED, None, [ADA], {"s2": NOW}, ADA),
    _row("another too long ago, itself not", SHARED, None, [ADA], {"s2": NOW, "s1": LATER}, ADA),
    _row("all gave up shared", SHARED, None, [], {"s1": LATER}, NONE),
    _row("all gave up own", OWN, None, [], {"s1": LATER}, NONE),
    _row("all gave up own beside our own", OWN, None, [OURS], {"s1": LATER}, NONE),
    _row("all gave up own, too long ago", OWN, None, [], {"s1": NOW}, CLIENT),
]


@pytest.mark.parametrize("era", Era)
@pytest.mark.parametrize("method", [ELICIT, SAMPLE, "x/new"])
@pytest.mark.parametrize(("kind", "stream", "in_flight", "given_up", "whose"), QUESTIONS)
def test_a_question_is_about_the_only_call_that_it_can_be_about(
    kind: str, stream: FakeCall | None, in_flight: list[FakeCall], given_up: GivenUpCalls, whose: Who,
    method: str, era: Era,
) -> None:  # fmt: skip
    expect(attribution_of(kind, given_up, era).question(method, stream, in_flight, NOW), whose)


@pytest.mark.parametrize(
    ("kind", "stream", "in_flight", "given_up", "whose"),
    [
        _row("one call shared", SHARED, None, [ADA], {}, NO_ROOTS),
        _row("stream shared", SHARED, ADA, [ADA, BOB], {}, NO_ROOTS),
        _row("our own request shared", SHARED, OURS, [OURS], {}, NO_ROOTS),
        _row("no call shared", SHARED, None, [], {}, NONE),
        _row("two calls shared", SHARED, None, [ADA, BOB], {}, TWO),
        _row("one call lent", LENT, None, [ADA], {}, ADA),
        _row("stream lent", LENT, ADA, [ADA, BOB], {}, ADA),
        _row("no call lent", LENT, None, [], {}, NONE),
        _row("one call own", OWN, None, [ADA], {}, ADA),
        _row("no call own", OWN, None, [], {}, CLIENT),
        _row("given up own", OWN, None, [], {"s1": LATER}, NONE),
    ],
)
def test_roots_are_asked_only_where_a_client_stands_behind_the_session(
    kind: str, stream: FakeCall | None, in_flight: list[FakeCall], given_up: GivenUpCalls, whose: Who
) -> None:
    """A session that clients share would tell one client's folders to all of them."""
    expect(attribution_of(kind, given_up).question(ROOTS, stream, in_flight, NOW), whose)


def test_the_reason_says_what_the_administrator_can_do() -> None:
    for refused in (
        attribution_of(SHARED, {}).question(ELICIT, None, [ADA, BOB], NOW),
        attribution_of(SHARED, {}).question(ROOTS, ADA, [ADA], NOW),
    ):
        expect(refused, "set isolation: client")


# ---- log messages

LEGACY_LOGS = [
    _row("stream shared", SHARED, ADA, [ADA, BOB], {}, ADA),
    _row("stream although another gave up", SHARED, ADA, [ADA], {"s2": LATER}, ADA),
    _row("stream of our own request", SHARED, OURS, [OURS, ADA], {}, OURS),
    _row("no call shared", SHARED, None, [], {}, NOBODY),
    _row("no call lent", LENT, None, [], {}, NOBODY),
    _row("no call own", OWN, None, [], {}, CLIENT),
    _row("our own requests only shared", SHARED, None, [OURS, LISTENING], {}, NOBODY),
    _row("our own requests only own", OWN, None, [OURS, LISTENING], {}, CLIENT),
    _row("one call shared", SHARED, None, [ADA], {}, ADA),
    _row("one call lent", LENT, None, [ADA], {}, ADA),
    _row("one call own", OWN, None, [ADA], {}, ADA),
    _row("one call beside our own", SHARED, None, [OURS, ADA, LISTENING], {}, ADA),
    _row("two calls shared", SHARED, None, [ADA, BOB], {}, NOBODY),
    _row("two calls of one client shared", SHARED, None, [ADA, ADA_TOO], {}, NOBODY),
    _row("two calls lent", LENT, None, [ADA, BOB], {}, NOBODY),
    _row("two calls own", OWN, None, [ADA, ADA_TOO], {}, ADA_TOO),
    _row("who asked for logs is not told more", SHARED, None, [ADA_LOGS, BOB], {}, NOBODY),
    _row("another gave up shared", SHARED, None, [ADA], {"s2": LATER}, NOBODY),
    _row("an unknown gave up shared", SHARED, None, [NO_SESSION], {"": LATER}, NOBODY),
    _row("another gave up, too long ago", SHARED, None, [ADA], {"s2": NOW}, ADA),
    _row("it gave up itself shared", SHARED, None, [ADA], {"s1": LATER}, ADA),
    _row("it gave up itself own", OWN, None, [ADA], {"s1": LATER}, ADA),
    _row("all gave up shared", SHARED, None, [], {"s1": LATER}, NOBODY),
    _row("all gave up own", OWN, None, [], {"s1": LATER}, CLIENT),
]


@pytest.mark.parametrize(("kind", "stream", "in_flight", "given_up", "whose"), LEGACY_LOGS)
def test_a_legacy_log_message_is_about_the_only_call_that_it_can_be_about(
    kind: str, stream: FakeCall | None, in_flight: list[FakeCall], given_up: GivenUpCalls, whose: Who
) -> None:
    expect(attribution_of(kind, given_up).log_message(stream, in_flight, NOW), whose)


MODERN_LOGS = [
    _row("stream", SHARED, ADA, [ADA, BOB_LOGS], {}, ADA),
    _row("nobody asked shared", SHARED, None, [ADA], {}, NOBODY),
    _row("nobody asked, two calls", SHARED, None, [ADA, BOB], {}, NOBODY),
    _row("nobody asked lent", LENT, None, [ADA], {}, NOBODY),
    _row("nobody asked own", OWN, None, [ADA], {}, CLIENT),
    _row("no call shared", SHARED, None, [], {}, NOBODY),
    _row("no call own", OWN, None, [], {}, CLIENT),
    _row("one asked", SHARED, None, [ADA_LOGS], {}, ADA_LOGS),
    _row("one asked among others", SHARED, None, [BOB, ADA_LOGS, OURS, NO_SESSION], {}, ADA_LOGS),
    _row("one asked lent", LENT, None, [ADA_LOGS, BOB], {}, ADA_LOGS),
    _row("one asked own", OWN, None, [ADA_LOGS, ADA], {}, ADA_LOGS),
    _row("two asked shared", SHARED, None, [ADA_LOGS, BOB_LOGS], {}, NOBODY),
    _row("two asked among others", SHARED, None, [BOB, ADA_LOGS, BOB_LOGS], {}, NOBODY),
    _row("two asked lent", LENT, None, [ADA_LOGS, BOB_LOGS], {}, NOBODY),
    _row("two asked own", OWN, None, [ADA_LOGS, ADA_LOGS], {}, CLIENT),
    _row("a listen never asks", SHARED, None, [LISTEN_LOGS], {}, NOBODY),
    _row("one asked beside a listen", SHARED, None, [LISTEN_LOGS, ADA_LOGS], {}, ADA_LOGS),
    _row("another gave up", SHARED, None, [ADA_LOGS], {"s2": LATER}, NOBODY),
    _row("an unknown gave up", SHARED, None, [ADA_LOGS], {"": LATER}, NOBODY),
    _row("another gave up, too long ago", SHARED, None, [ADA_LOGS], {"s2": NOW}, ADA_LOGS),
    _row("it gave up itself", SHARED, None, [ADA_LOGS], {"s1": LATER}, ADA_LOGS),
]


@pytest.mark.parametrize(("kind", "stream", "in_flight", "given_up", "whose"), MODERN_LOGS)
def test_a_modern_log_message_is_for_the_only_call_that_asked_for_some(
    kind: str, stream: FakeCall | None, in_flight: list[FakeCall], given_up: GivenUpCalls, whose: Who
) -> None:
    """A modern server logs only for requests that asked for it (2026-07-28, logging)."""
    expect(attribution_of(kind, given_up, MODERN).log_message(stream, in_flight, NOW), whose)


# ---- other notifications

NOTIFICATIONS = [
    _row("stream shared", SHARED, ADA, [ADA, BOB], {}, ADA),
    _row("stream although another gave up", SHARED, ADA, [ADA], {"s2": LATER}, ADA),
    _row("stream of a listen", SHARED, LISTENING, [LISTENING, ADA], {}, LISTENING),
    _row("stream of our listen", SHARED, OUR_LISTEN, [OUR_LISTEN, ADA], {}, OUR_LISTEN),
    _row("no call shared", SHARED, None, [], {}, NOBODY),
    _row("no call lent", LENT, None, [], {}, NOBODY),
    _row("no call own", OWN, None, [], {}, CLIENT),
    _row("our own requests only shared", SHARED, None, [OURS, OUR_LISTEN], {}, NOBODY),
    _row("our own requests only own", OWN, None, [OURS, OUR_LISTEN], {}, CLIENT),
    _row("a listen only shared", SHARED, None, [LISTENING], {}, NOBODY),
    _row("one call shared", SHARED, None, [ADA], {}, ADA),
    _row("one call lent", LENT, None, [ADA], {}, ADA),
    _row("one call own", OWN, None, [ADA], {}, ADA),
    _row("one call beside our own", SHARED, None, [OURS, ADA, LISTENING], {}, ADA),
    _row("two calls shared", SHARED, None, [ADA, BOB], {}, NOBODY),
    _row("two calls of one client shared", SHARED, None, [ADA, ADA_TOO], {}, NOBODY),
    _row("two calls lent", LENT, None, [ADA, BOB], {}, NOBODY),
    _row("two calls own", OWN, None, [ADA, ADA_TOO], {}, ADA_TOO),
    _row("another gave up shared", SHARED, None, [ADA], {"s2": LATER}, NOBODY),
    _row("an unknown gave up", SHARED, None, [NO_SESSION], {"": LATER}, NOBODY),
    _row("another gave up, too long ago", SHARED, None, [ADA], {"s2": NOW}, ADA),
    _row("it gave up itself shared", SHARED, None, [ADA], {"s1": LATER}, ADA),
    _row("it gave up itself own", OWN, None, [ADA], {"s1": LATER}, ADA),
    _row("all gave up shared", SHARED, None, [], {"s1": LATER}, NOBODY),
    _row("all gave up own", OWN, None, [], {"s1": LATER}, CLIENT),
]


@pytest.mark.parametrize("era", Era)
@pytest.mark.parametrize("method", [NEWS, "notifications/elicitation/complete"])
@pytest.mark.parametrize(("kind", "stream", "in_flight", "given_up", "whose"), NOTIFICATIONS)
def test_a_notification_is_about_the_only_call_that_it_can_be_about(
    kind: str, stream: FakeCall | None, in_flight: list[FakeCall], given_up: GivenUpCalls, whose: Who,
    method: str, era: Era,
) -> None:  # fmt: skip
    attribution = attribution_of(kind, given_up, era)
    expect(attribution.notification(method, b'{"n":1}', stream, numbered(in_flight), NOW), whose)


@pytest.mark.parametrize("era", Era)
@pytest.mark.parametrize("method", sorted(NOT_FOR_CLIENTS))
@pytest.mark.parametrize("kind", [SHARED, LENT, OWN])
@pytest.mark.parametrize(
    ("stream", "in_flight", "whose"),
    [
        _row("no call", None, [], NOBODY),
        _row("one call", None, [ADA], NOBODY),
        _row("stream of a call", ADA, [ADA], NOBODY),
        _row("stream of our own request", OURS, [OURS], NOBODY),
        _row("a listen in flight", None, [OUR_LISTEN], NOBODY),
        _row("stream of our listen", OUR_LISTEN, [OUR_LISTEN, ADA], OUR_LISTEN),
        _row("stream of a client's listen", LISTENING, [LISTENING, ADA], LISTENING),
    ],
)
def test_what_is_not_for_clients_reaches_listens_only(
    stream: FakeCall | None, in_flight: list[FakeCall], whose: Who, kind: str, method: str, era: Era
) -> None:
    expect(attribution_of(kind, {}, era).notification(method, b"{}", stream, numbered(in_flight), NOW), whose)


def test_these_are_not_for_clients() -> None:
    assert {INITIALIZED, ROOTS_CHANGED, ACKNOWLEDGED} <= NOT_FOR_CLIENTS


IN_FLIGHT = {7: LISTENING, 8: OUR_LISTEN, 9: ADA, 10: BOB}


def _tagged(id: Any) -> bytes:
    return json.dumps({"_meta": {SUBSCRIPTION_META: id}, "x": 1}).encode()


@pytest.mark.parametrize("kind", [SHARED, OWN])
@pytest.mark.parametrize(
    ("era", "method", "params", "stream", "whose"),
    [
        _row("a client's listen", MODERN, NEWS, _tagged(7), None, LISTENING),
        _row("our listen", MODERN, NEWS, _tagged(8), None, OUR_LISTEN),
        _row("a call, which the upstream names itself", MODERN, NEWS, _tagged(9), None, ADA),
        _row("acknowledged", MODERN, ACKNOWLEDGED, _tagged(7), None, LISTENING),
        _row("ours acknowledged", MODERN, ACKNOWLEDGED, _tagged(8), None, OUR_LISTEN),
        _row("a call, by what is not for clients", MODERN, ACKNOWLEDGED, _tagged(9), None, NOBODY),
        _row("nothing, by what is not for clients", MODERN, ACKNOWLEDGED, _tagged(11), None, NOBODY),
        _row("roots, by a listen", MODERN, ROOTS_CHANGED, _tagged(7), None, LISTENING),
        _row("the stream counts first", MODERN, NEWS, _tagged(7), BOB, BOB),
        _row("another listen's stream", MODERN, ACKNOWLEDGED, _tagged(7), OUR_LISTEN, OUR_LISTEN),
        _row("no tags in the legacy era", LEGACY, ACKNOWLEDGED, _tagged(7), None, NOBODY),
    ],
)
def test_a_subscription_id_names_a_listen_where_all_share_one_channel(
    era: Era, method: str, params: bytes, stream: FakeCall | None, whose: Who, kind: str
) -> None:
    expect(attribution_of(kind, {}, era).notification(method, params, stream, IN_FLIGHT, NOW), whose)


@pytest.mark.parametrize(
    "params",
    [
        b"",
        _tagged(11),
        _tagged("x"),
        _tagged(""),
        _tagged(None),
        _tagged(7.0),
        _tagged([7]),
        _tagged({"id": 7}),
        _tagged(True),
        b'{"_meta":{"%b":%b}}' % (SUBSCRIPTION_META.encode(), b"7" * 5000),
        json.dumps({SUBSCRIPTION_META: 7}).encode(),
        json.dumps({"_meta": SUBSCRIPTION_META, "x": 7}).encode(),
        json.dumps({"_meta": {"x": {SUBSCRIPTION_META: 7}}}).encode(),
        json.dumps([{"_meta": {SUBSCRIPTION_META: 7}}]).encode(),
        json.dumps(SUBSCRIPTION_META).encode(),
    ],
)
def test_a_tag_that_names_no_listen_names_nobody(params: bytes) -> None:
    attribution = attribution_of(SHARED, {}, MODERN)
    expect(attribution.notification(NEWS, params, None, IN_FLIGHT, NOW), NOBODY)
    expect(attribution.notification(ACKNOWLEDGED, params, None, IN_FLIGHT, NOW), NOBODY)


# ---- calls that were given up


def test_a_call_that_was_given_up_counts_until_it_is_done_or_its_time_is_over() -> None:
    given_up = GivenUp()
    assert not given_up.any(NOW) and not given_up.concerns("s1", NOW)
    given_up.add(1, "s1", LATER)
    given_up.add(2, "s2", LATER)
    assert given_up.any(NOW) and given_up.concerns("s1", NOW) and given_up.concerns("s3", NOW)
    given_up.done(2)
    assert given_up.any(NOW) and not given_up.concerns("s1", NOW) and given_up.concerns("s2", NOW)
    given_up.done(2)
    assert given_up.any(NOW), "what is done twice costs no other"
    assert not given_up.any(LATER) and not given_up.concerns("s2", LATER)


def test_time_that_is_over_stays_over() -> None:
    given_up = GivenUp()
    given_up.add(1, "s1", LATER)
    assert not given_up.concerns("s2", LATER + 1)
    assert not given_up.any(NOW)


@pytest.mark.parametrize(
    ("message", "still"),
    [
        ({"id": 5, "result": {}}, False),
        ({"id": "5", "result": {}}, False),
        ({"id": 5, "error": {"code": -1}}, False),
        ({"id": 6, "result": {}}, True),
        ({"id": None, "error": {"code": -1}}, True),
        ({"result": {}}, True),
        ({"id": "x", "result": {}}, True),
        ({"id": 5, "method": ELICIT}, True),
        ({"method": NEWS}, True),
    ],
)
def test_an_answer_after_all_ends_it_and_nothing_else_does(message: dict[str, Any], still: bool) -> None:
    given_up = GivenUp()
    given_up.add(5, "s1", LATER)
    given_up.answered(jsonrpc.decode(json.dumps({"jsonrpc": "2.0", **message}).encode()))
    assert given_up.any(NOW) is still


def test_the_newest_are_remembered() -> None:
    given_up = GivenUp()
    given_up.add(0, "s2", LATER)
    for id in range(1, MAX_GIVEN_UP):
        given_up.add(id, "s1", LATER)
    assert given_up.concerns("s1", NOW)
    given_up.add(MAX_GIVEN_UP, "s1", LATER)
    assert not given_up.concerns("s1", NOW) and given_up.any(NOW)


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b"7", 7),
        (b'"7"', 7),
        (b"0", 0),
        (b"", None),
        (b"null", None),
        (b'""', None),
        (b"-7", None),
        (b"7.0", 7),
        (b"7e1", None),
        (b'"7x"', None),
        (b'" 7"', None),
        (b"[7]", None),
        (b"9" * 18, 10**18 - 1),
        (b"9" * 19, None),
        (b"9" * 5000, None),
    ],
)
def test_an_id_of_ours_is_an_integer_or_its_text(raw: bytes, found: int | None) -> None:
    assert integer(Raw(raw)) == found
