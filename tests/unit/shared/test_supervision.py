"""Asking a supervisor for a restart, over the socket that its front ends inherit."""

from __future__ import annotations

import os

import pytest

from shared import supervision
from shared.errors import RestartRefused


def test_each_request_arrives_once_with_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = supervision.pair()
    with ours, theirs:
        monkeypatch.setenv(supervision.VARIABLE, str(theirs.fileno()))
        assert supervision.asked(ours) == []
        supervision.ask("one")
        supervision.ask("two")
        assert supervision.asked(ours) == ["one", "two"]
        assert supervision.asked(ours) == []


def test_who_has_no_supervisor_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(supervision.VARIABLE, raising=False)
    with pytest.raises(RestartRefused, match="not started by 'gateway up'"):
        supervision.ask("one")
    ours, theirs = supervision.pair()
    with theirs:
        ours.close()
        monkeypatch.setenv(supervision.VARIABLE, str(theirs.fileno()))
        with pytest.raises(RestartRefused):
            supervision.ask("one")
        assert os.fstat(theirs.fileno()), "the descriptor stays open"
