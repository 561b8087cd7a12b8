"""``gateway.supervisor.start_checks``: what must be there before any process starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.supervisor.start_checks import check_key_sets
from shared.config import parse
from shared.errors import ConfigError
from shared.settings import build

ACCESS = {
    "authentication": [{"type": "apiKey"}, {"type": "jwt", "issuer": "https://idp.test", "jwksFile": "keys.json"}],
    "audit": {"file": "audit.jsonl"},
}


def test_paths_of_access_start_at_the_folder_of_the_file(tmp_path: Path) -> None:
    """Processes that read them have another working directory."""
    settings = build(parse({"access": ACCESS}, {}, tmp_path).settings)
    written = json.loads(settings.access.access_rules)
    assert written["authentication"] == [
        {"type": "apiKey"},
        {"type": "jwt", "issuer": "https://idp.test", "jwksFile": str(tmp_path / "keys.json")},
    ]
    assert written["audit"] == {"file": str(tmp_path / "audit.jsonl")}


def test_keys_of_an_issuer_that_are_not_there_are_named(tmp_path: Path) -> None:
    settings = build(parse({"access": ACCESS}, {}, tmp_path).settings)
    with pytest.raises(ConfigError) as caught:
        check_key_sets(settings)
    assert caught.value.problems == [
        ("access.authentication[1].jwksFile", f"cannot read {tmp_path}/keys.json: No such file or directory")
    ]
    (tmp_path / "keys.json").write_text('{"keys": []}')
    check_key_sets(settings)
