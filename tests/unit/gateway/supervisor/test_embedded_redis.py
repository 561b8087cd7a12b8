"""Where the redis-server comes from, and what is said when there is none."""

from __future__ import annotations

import importlib.util
import shutil

import pytest

from gateway.supervisor.embedded_redis import find_server
from shared.errors import StartError


def test_the_one_on_path_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: f"/somewhere/{name}")
    assert find_server() == "/somewhere/redis-server"


def test_without_any_the_error_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(StartError, match=r"apt-get install redis-server.*--redis-url"):
        find_server()
