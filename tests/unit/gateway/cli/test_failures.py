"""Hints name the gateway that they are about."""

from __future__ import annotations

import pytest

from gateway.cli.failures import RequestRefused, command, nothing_answers, with_url

OTHER = "http://127.0.0.1:4555"


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEWAY_URL", raising=False)


def test_a_hint_has_the_url_that_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    assert command("status", "http://127.0.0.1:4000") == "gateway status"
    assert command("status", OTHER) == f"gateway status --url {OTHER}"
    monkeypatch.setenv("GATEWAY_URL", OTHER + "/")
    assert command("status", OTHER) == "gateway status"
    assert command("status", "http://127.0.0.1:4000") == "gateway status --url http://127.0.0.1:4000"


def test_hints_of_the_gateway_get_it_too() -> None:
    said = "no upstream 'x'; see 'gateway servers list'"
    assert with_url(said, OTHER) == f"no upstream 'x'; see 'gateway servers list --url {OTHER}'"
    assert with_url("start it with 'gateway up'", OTHER) == "start it with 'gateway up'"


@pytest.mark.parametrize(
    ("base", "start"),
    [
        ("http://127.0.0.1:4000", "'gateway up'"),
        (OTHER, "'gateway up --port 4555'"),
        ("http://localhost:81", "'gateway up --port 81'"),
        ("https://gateway.example", "'gateway up'"),
        ("http://10.0.0.1:4555", "'gateway up'"),
    ],
)
def test_how_to_start_one_that_answers_there(base: str, start: str) -> None:
    assert f"start one with {start}," in str(nothing_answers(base))


def test_who_is_not_known_is_told_where_commands_take_their_key() -> None:
    error = {"code": -31022, "message": "authentication is needed", "data": {"code": "unauthenticated"}}
    assert "GATEWAY_API_KEY" in str(RequestRefused(error))
    assert "(code -32602)" in str(RequestRefused({"code": -32602, "message": "no", "data": None}))
