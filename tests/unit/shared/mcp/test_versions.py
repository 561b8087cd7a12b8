"""``shared.mcp.versions``: an enumerated set of versions in two eras."""

from __future__ import annotations

from typing import Any

import pytest

from shared.mcp import versions
from shared.mcp.versions import Era


def test_the_eras_share_no_version() -> None:
    assert not set(versions.LEGACY_VERSIONS) & set(versions.MODERN_VERSIONS)
    assert versions.LATEST_LEGACY == "2025-11-25"
    assert versions.LATEST_MODERN == "2026-07-28"
    assert versions.DEFAULT_WITHOUT_HEADER in versions.LEGACY_VERSIONS


@pytest.mark.parametrize("version", versions.LEGACY_VERSIONS)
def test_a_version_we_speak_is_agreed_to(version: str) -> None:
    assert versions.negotiate_legacy(version) == version


@pytest.mark.parametrize("version", ["", "2026-07-28", "2099-01-01", "2025-06-18 ", "1.0"])
def test_any_other_is_answered_with_our_latest(version: str) -> None:
    assert versions.negotiate_legacy(version) == versions.LATEST_LEGACY


@pytest.mark.parametrize(
    ("version", "minimum", "expected"),
    [
        ("2025-03-26", "2025-03-26", True),
        ("2025-06-18", "2025-03-26", True),
        ("2024-11-05", "2025-03-26", False),
        ("2099-01-01", "2025-03-26", False),
        ("", "2024-11-05", False),
        ("2026-07-28", "2024-11-05", False),
    ],
)
def test_unknown_versions_are_older_than_everything(version: str, minimum: str, expected: bool) -> None:
    assert versions.at_least(version, minimum) is expected


def test_eras_have_words_for_users() -> None:
    assert [Era(number).word for number in (0, 1)] == ["legacy", "modern"]


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (
            {"code": -32602, "message": "no", "data": {"supported": ["2024-11-05", "2025-03-26", "2099-01-01"]}},
            "2025-03-26",
        ),
        ({"code": -32602, "message": "Unsupported protocol version", "data": {"supported": ["2099-01-01"]}}, None),
        ({"code": -32602, "message": "Unsupported protocol version: 2025-11-25"}, "2024-11-05"),
        ({"code": -32603, "message": "Internal error"}, None),
        ({"code": -32603, "message": None, "data": "x"}, None),
    ],
)
def test_an_error_may_say_in_which_version_to_begin(error: dict[str, Any], again: str | None) -> None:
    assert versions.other_version(error) == again
