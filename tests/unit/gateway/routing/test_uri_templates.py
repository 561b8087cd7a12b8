"""``gateway.routing.uri_templates``: whether a URI can have been made of a template, and how specific that is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.uri_templates import matches


@pytest.mark.parametrize(
    ("template", "uri", "literal"),
    [
        ("file:///{name}", "file:///a", 8),
        ("file:///{name}", "file:///", 8),
        ("file:///{name}", "file:///a/b", None),
        ("file:///{+path}", "file:///a/b", 8),
        ("file:///{name}.txt", "file:///a.txt", 12),
        ("file:///{name}.txt", "file:///a.md", None),
        ("file:///{name}.txt", "file:///axtxt", None),
        ("db://{table}/{id}", "db://users/7", 6),
        ("db://{table}/{id}", "db://users", None),
        ("db://users{/id,part}", "db://users/7/x", 10),
        ("find://all{?q,limit}", "find://all?q=a/b&limit=5", 10),
        ("find://all{?q,limit}", "find://all", 10),
        ("page://x{#part}", "page://x#y", 8),
        ("pic://x{.kind}", "pic://x.png", 7),
        ("exact://x", "exact://x", 9),
        ("exact://x", "exact://x/", None),
        ("a+b://(x)[{y}", "a+b://(x)[1", 10),
        ("a+b://(x)[{y}", "aab://x[1", None),
        ("{+all}", "anything://at/all", 0),
        ("open://{x", "open://{x", 9),
        ("", "", 0),
        ("", "x", None),
    ],
)
def test_a_template_matches_what_can_be_made_of_it(template: str, uri: str, literal: int | None) -> None:
    assert matches(template, uri) == literal


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_template_makes_matching_fail(template: str, uri: str) -> None:
    found = matches(template, uri)
    assert found is None or 0 <= found <= len(template)
