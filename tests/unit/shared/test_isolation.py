"""``shared.isolation``: which upstream session a call uses; front ends and workers must agree."""

from __future__ import annotations

from itertools import product

import pytest

from shared.choices import Isolation
from shared.isolation import SessionUse, era_for, session_use
from shared.mcp.versions import Era

BOTH = ("legacy", "modern")


@pytest.mark.parametrize(
    ("client", "eras", "expected"),
    [
        (Era.LEGACY, BOTH, Era.LEGACY),
        (Era.MODERN, BOTH, Era.MODERN),
        (Era.LEGACY, ("modern",), Era.MODERN),
        (Era.MODERN, ("legacy",), Era.LEGACY),
        (Era.LEGACY, ("legacy",), Era.LEGACY),
        (Era.MODERN, ("modern",), Era.MODERN),
        (Era.LEGACY, (), Era.LEGACY),
        (Era.MODERN, (), Era.MODERN),
    ],
)
def test_a_client_is_served_in_its_own_era_where_the_upstream_speaks_it(
    client: Era, eras: tuple[str, ...], expected: Era
) -> None:
    assert era_for(client, eras) is expected


AUTO, SHARED, CLIENT = Isolation.AUTO, Isolation.SHARED, Isolation.CLIENT


@pytest.mark.parametrize(
    ("isolation", "transport", "eras", "sessionful", "era", "has_session", "expected"),
    [
        # stdio: one child, shared unless clients are to be kept apart
        (AUTO, "stdio", ("legacy",), False, 0, True, SessionUse.SHARED),
        (SHARED, "stdio", ("legacy",), False, 0, True, SessionUse.SHARED),
        (CLIENT, "stdio", ("legacy",), False, 0, True, SessionUse.CLIENT),
        (CLIENT, "stdio", ("legacy",), False, 0, False, SessionUse.LEASE),
        (CLIENT, "stdio", ("modern",), False, 1, False, SessionUse.LEASE),
        # http, modern: no session at all, whatever is asked
        (AUTO, "http", ("modern",), False, 1, False, SessionUse.STATELESS),
        (CLIENT, "http", ("modern",), False, 0, True, SessionUse.STATELESS),
        (SHARED, "http", BOTH, True, 1, False, SessionUse.STATELESS),
        # http, legacy without session ids
        (CLIENT, "http", ("legacy",), False, 0, True, SessionUse.STATELESS),
        # http, legacy with sessions
        (AUTO, "http", ("legacy",), True, 0, True, SessionUse.CLIENT),
        (AUTO, "http", ("legacy",), True, 0, False, SessionUse.LEASE),
        (AUTO, "http", ("legacy",), True, 1, False, SessionUse.LEASE),
        (SHARED, "http", ("legacy",), True, 0, True, SessionUse.SHARED),
        (AUTO, "http", BOTH, True, 0, True, SessionUse.CLIENT),
        # sse: always a session
        (AUTO, "sse", ("legacy",), True, 0, True, SessionUse.CLIENT),
        (AUTO, "sse", ("legacy",), True, 1, False, SessionUse.LEASE),
        (CLIENT, "sse", ("legacy",), True, 0, True, SessionUse.CLIENT),
        (SHARED, "sse", ("legacy",), True, 0, True, SessionUse.SHARED),
    ],
)
def test_the_session_a_call_uses(
    isolation: Isolation,
    transport: str,
    eras: tuple[str, ...],
    sessionful: bool,
    era: int,
    has_session: bool,
    expected: SessionUse,
) -> None:
    assert session_use(isolation, transport, eras, sessionful, era, has_session) is expected


ALL = list(product(Isolation, ("stdio", "http", "sse"), (("legacy",), ("modern",), BOTH), (False, True), (0, 1)))


@pytest.mark.parametrize(("isolation", "transport", "eras", "sessionful", "era"), ALL)
def test_a_call_without_a_client_session_never_binds_to_one(
    isolation: Isolation, transport: str, eras: tuple[str, ...], sessionful: bool, era: int
) -> None:
    without = session_use(isolation, transport, eras, sessionful, era, False)
    having = session_use(isolation, transport, eras, sessionful, era, True)
    assert without is not SessionUse.CLIENT
    assert having is not SessionUse.LEASE
    assert (without is SessionUse.LEASE) == (having is SessionUse.CLIENT)
    if isolation is SHARED:
        assert having in (SessionUse.SHARED, SessionUse.STATELESS)
    if isolation is CLIENT:
        assert having is not SessionUse.SHARED
