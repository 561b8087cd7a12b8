"""Arguments in the audit log: what looks like a secret is not shown, and what does not is."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.telemetry.redaction import HIDDEN, read_pointer, redacted

NAMES = (
    "password userPassword api_key apiKey X-Api-Key access_token Authorization clientSecret cookie private_key pin CVV "
    "cardNumber"
)


@pytest.mark.parametrize("name", NAMES.split())
def test_values_of_names_that_mean_secrets_are_hidden(name: str) -> None:
    assert redacted({name: "x", "deep": [{name: {"any": "x"}}]}) == {name: HIDDEN, "deep": [{name: HIDDEN}]}


@pytest.mark.parametrize(
    "value", [{"max_tokens": 5}, {"pinned": True}, {"path": "/a"}, {"spinner": "x-ray"}, [1, None]]
)
def test_ordinary_values_are_shown(value: Any) -> None:
    assert redacted(value) == value


@pytest.mark.parametrize(
    "text",
    [
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.abc",
        "Bearer abcdefgh.ijkl",
        "gwk_" + "A" * 43,
        "ghp_" + "a" * 36,
        "AKIAABCDEFGHIJKLMNOP",
        "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_secrets_inside_of_texts_are_hidden_and_the_rest_is_shown(text: str) -> None:
    shown = redacted({"body": f"before {text} after"})["body"]
    assert shown == f"before {HIDDEN} after"


def test_passwords_in_urls_are_hidden() -> None:
    assert redacted("postgres://me:hush@db/x") == f"postgres://{HIDDEN}@db/x"


def test_pointers_hide_what_they_lead_to() -> None:
    pointers = [read_pointer("/patient/name"), read_pointer("/rows/*/mail"), read_pointer("/a~1b")]
    value = {"patient": {"name": "x", "age": 1}, "rows": [{"mail": "x", "n": 1}, {"n": 2}], "a/b": 1}
    assert redacted(value, pointers) == {
        "patient": {"name": HIDDEN, "age": 1}, "rows": [{"mail": HIDDEN, "n": 1}, {"n": 2}], "a/b": HIDDEN,
    }  # fmt: skip


def test_what_is_nested_too_deeply_is_hidden() -> None:
    value: Any = "x"
    for _ in range(100):
        value = [value]
    assert HIDDEN in str(redacted(value))


def test_a_pointer_begins_with_a_slash() -> None:
    with pytest.raises(ValueError, match="begins with /"):
        read_pointer("a")
