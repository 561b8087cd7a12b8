"""What the reading of an entry without flaws found, for the tests of ``shared.config.entries``."""

from __future__ import annotations

from shared.config.readings import Reading
from shared.connections import HttpConnection, StdioConnection


def stdio_in(reading: Reading) -> StdioConnection:
    assert not reading.problems
    assert reading.spec is not None
    assert isinstance(reading.spec.connection, StdioConnection)
    return reading.spec.connection


def http_in(reading: Reading) -> HttpConnection:
    assert not reading.problems
    assert reading.spec is not None
    assert isinstance(reading.spec.connection, HttpConnection)
    return reading.spec.connection
