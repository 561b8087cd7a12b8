"""Bytes of a head that are no text come back in no answer, and break none."""

from __future__ import annotations

import pytest

from gateway.admission.challenges import challenge
from gateway.admission.dns_rebinding import RebindingGuard
from shared.settings import build


def test_a_challenge_names_a_path_of_any_bytes() -> None:
    said = challenge('http://localhost/mcp\udcff\u00e9\r\n"')
    assert said.isascii() and said.isprintable() and "%FF" in said


@pytest.mark.parametrize("origin", ["http://a\udcff", "http://\u00e9.example", "http://a\x7f", "http://a\tb", "null"])
def test_where_all_origins_are_allowed_one_that_is_no_text_is_not(origin: str) -> None:
    guard = RebindingGuard(build(overrides={"allowed_origins": ("*",)}))
    assert guard.refusal("localhost", "http://any.example") is None
    assert guard.refusal("localhost", origin)
