"""``worker.sessions.attribution``: in any mixture of calls, no client is asked or told what may be about another."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.mcp.methods import LISTEN
from shared.mcp.versions import Era
from tests.unit.worker.sessions.fake_calls import (
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
    attribution_of,
    expect,
    numbered,
)
from worker.bridge.inputs import ELICIT
from worker.sessions.attribution import ToCall, ToClient

MIXTURES = st.lists(
    st.builds(
        FakeCall,
        st.just("call"),
        st.sampled_from(["", "s1", "s2"]),
        st.sampled_from(["tools/call", "tools/call", LISTEN]),
        st.sampled_from([False, False, True]),
        st.sampled_from(["", "info"]),
    ),
    max_size=4,
)
GIVEN_UPS = st.dictionaries(st.sampled_from(["", "s1", "s2"]), st.sampled_from([NOW, LATER]))


def _may_be_about(calls: list[FakeCall], given_up: GivenUpCalls) -> list[str]:
    """The clients that something without a stream may be about; of one without a session each is another."""
    clients = {call.session or f"?{id(call)}" for call in calls if not call.ours and call.method != LISTEN}
    left = {session or "?given-up" for session, until in given_up.items() if until > NOW}
    return sorted(clients | left)


@pytest.mark.parametrize("kind", [SHARED, LENT])
@given(calls=MIXTURES, given_up=GIVEN_UPS, era=st.sampled_from(Era))
def test_where_it_may_be_about_two_clients_neither_is_asked_or_told(
    kind: str, calls: list[FakeCall], given_up: GivenUpCalls, era: Era
) -> None:
    attribution, clients = attribution_of(kind, given_up, era), _may_be_about(calls, given_up)
    found = [
        attribution.question(ELICIT, None, calls, NOW),
        attribution.notification(NEWS, b"{}", None, numbered(calls), NOW),
    ]
    if era is LEGACY:
        found.append(attribution.log_message(None, calls, NOW))
    for one in found:
        assert not isinstance(one, ToClient)
        if isinstance(one, ToCall):
            assert not one.call.ours and one.call.method != LISTEN
            assert len(clients) == 1


@given(calls=MIXTURES, given_up=GIVEN_UPS)
def test_where_two_modern_calls_asked_for_logs_neither_is_told(calls: list[FakeCall], given_up: GivenUpCalls) -> None:
    found = attribution_of(SHARED, given_up, MODERN).log_message(None, calls, NOW)
    asked = [call for call in calls if call.log_level and call.method != LISTEN]
    if isinstance(found, ToCall):
        assert asked == [found.call]
        assert all(session == found.call.session != "" for session, until in given_up.items() if until > NOW)
    else:
        assert found == NOBODY


@pytest.mark.parametrize("kind", [SHARED, LENT, OWN])
@given(calls=MIXTURES, given_up=GIVEN_UPS, era=st.sampled_from(Era), at=st.integers(0, 3))
def test_what_comes_on_a_calls_own_stream_is_about_that_call(
    kind: str, calls: list[FakeCall], given_up: GivenUpCalls, era: Era, at: int
) -> None:
    attribution, call = attribution_of(kind, given_up, era), FakeCall("the call", "s1")
    in_flight = [*calls[:at], call, *calls[at:]]
    expect(attribution.question(ELICIT, call, in_flight, NOW), call)
    expect(attribution.log_message(call, in_flight, NOW), call)
    expect(attribution.notification(NEWS, b"{}", call, numbered(in_flight), NOW), call)
