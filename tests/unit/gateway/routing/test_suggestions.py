from __future__ import annotations

import difflib

import pytest

from gateway.routing.suggestions import close_to


@pytest.mark.parametrize(
    ("name", "close"),
    [
        ("serch_issues", "search_issues"),
        ("searchIssues", "search_issues"),
        ("search_isues", "search_issues"),
        ("greeet", "greet"),
        ("list-issue", "list_issues"),
    ],
)
def test_the_closest_of_thousands_comes_first(name: str, close: str) -> None:
    known = [f"other_{number}" for number in range(1900)] + ["search_issues", "search_code", "greet", "list_issues"]
    assert close_to(name, known)[0] == close and len(close_to(name, known)) <= 3


def test_nothing_is_close_to_what_is_like_nothing() -> None:
    assert close_to("zzz", ["search", "fetch"]) == close_to("", ["a"]) == close_to("a", []) == []


def test_few_names_are_compared_and_not_to_their_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []

    class Counting(difflib.SequenceMatcher[str]):
        def __init__(self, junk: None, a: str, b: str) -> None:
            compared.append(len(a) * len(b))
            super().__init__(junk, a, b)

    monkeypatch.setattr(difflib, "SequenceMatcher", Counting)
    assert close_to("a" * 5000, ("a" * 2000 + str(number) for number in range(5000)))
    assert len(compared) <= 20 and max(compared) <= 64 * 64
