"""``shared.config.expand``: references in strings, wherever the strings are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.config import expand

ENVIRONMENT = {"USER": "ada", "EMPTY": "", "HOST": "h.test", "LOOP": "${USER}"}


def _expand(value: Any) -> tuple[Any, list[tuple[str, str]]]:
    problems: list[tuple[str, str]] = []
    return expand(value, ENVIRONMENT, "at", problems), problems


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("${USER}", "ada"),
        ("a-${USER}-${HOST}-b", "a-ada-h.test-b"),
        ("${env:USER}", "ada"),
        ("${USER:-bob}", "ada"),
        ("${MISSING:-bob}", "bob"),
        ("${MISSING:-}", ""),
        ("${MISSING:-http://x:80/a-b}", "http://x:80/a-b"),
        ("${MISSING:-a:-b}", "a:-b"),
        ("${EMPTY:-bob}", "bob"),
        ("${EMPTY}", ""),
        ("${env:MISSING:-bob}", "bob"),
        ("${LOOP}", "${USER}"),
        ("$USER $$ ${} ${1} {USER}", "$USER $$ ${} ${1} {USER}"),
    ],
)
def test_references_are_replaced_and_everything_else_is_kept(text: str, expected: str) -> None:
    assert _expand(text) == (expected, [])


@pytest.mark.parametrize("text", ["${MISSING}", "x${env:MISSING}y"])
def test_a_missing_variable_is_named_with_its_path_and_the_cure(text: str) -> None:
    _, problems = _expand(text)
    assert problems == [("at", "environment variable MISSING is not set; set it or write ${MISSING:-default}")]


def test_an_editors_input_cannot_be_asked_for() -> None:
    _, [(path, text)] = _expand("${input:api-key}")
    assert path == "at"
    assert "${input:api-key}" in text
    assert "use an environment variable" in text


def test_every_missing_variable_is_reported_with_its_own_path() -> None:
    value, problems = _expand({"a": ["${ONE}", "${USER}", {"b": "${TWO} ${THREE}"}], "c": "${FOUR}"})
    assert value["a"][1] == "ada"
    assert [path for path, _ in problems] == ["at.a[0]", "at.a[2].b", "at.a[2].b", "at.c"]
    for (_, text), name in zip(problems, ["ONE", "TWO", "THREE", "FOUR"], strict=True):
        assert f"variable {name} " in text


def test_the_top_of_a_document_has_no_path_of_its_own() -> None:
    problems: list[tuple[str, str]] = []
    expand({"a": "${ONE}"}, {}, "", problems)
    assert [path for path, _ in problems] == ["a"]


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text().filter(lambda text: "${" not in text),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    )
)
def test_a_document_without_references_is_unchanged(value: Any) -> None:
    assert _expand(value) == (value, [])


def test_keys_are_not_expanded() -> None:
    assert _expand({"${USER}": 1}) == ({"${USER}": 1}, [])
