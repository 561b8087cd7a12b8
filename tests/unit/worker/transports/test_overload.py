"""``worker.transports.overload``: what a ``Retry-After`` says."""

from __future__ import annotations

import pytest

from worker.transports.overload import overloaded, read_retry_after

NOW = 1_700_000_000.0  # Tue, 14 Nov 2023 22:13:20 GMT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"7", 7),
        (b" 120 ", 120),
        (b"0", 1),
        (b"Tue, 14 Nov 2023 22:13:50 GMT", 30),
        (b"Tue, 14 Nov 2023 22:00:00 GMT", 1),
        (b"99999999999999999999", 86400),
        (b"", None),
        (b"soon", None),
        (b"-5", None),
        (b"1.5", None),
        ("\u00b2".encode("latin-1"), None),
    ],
)
def test_seconds_and_dates_are_read_within_bounds(value: bytes, seconds: int | None) -> None:
    assert read_retry_after(value, NOW) == seconds


def test_the_error_carries_status_and_time_or_the_default() -> None:
    error = overloaded("up.test", 429, b"9")
    assert (error.code, error.wire.http, error.retry_after_s) == ("overloaded", 429, 9)
    error = overloaded("up.test", 503, b"")
    assert (error.wire.http, error.retry_after_s, "retryAfter" in error.data) == (503, 1, False)
