"""``shared.logs``."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from shared.logs import configure


@pytest.fixture(autouse=True)
def unchanged() -> Iterator[None]:
    root, watching = logging.getLogger(), logging.getLogger("watchfiles")
    before = root.handlers[:], root.level, watching.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    watching.setLevel(before[2])


def test_following_files_is_not_logged_as_a_log_may_be_one_of_them() -> None:
    configure("supervisor", "debug")
    assert logging.getLogger("gateway").isEnabledFor(logging.DEBUG)
    assert not logging.getLogger("watchfiles.main").isEnabledFor(logging.DEBUG)


def test_what_is_asked_for_is_not_exceeded() -> None:
    configure("supervisor", "error")
    assert not logging.getLogger("watchfiles.main").isEnabledFor(logging.WARNING)
