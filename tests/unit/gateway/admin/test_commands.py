"""``gateway.admin.commands``: what a change leaves alone."""

from __future__ import annotations

from typing import Any, cast

from msgspec.structs import replace

from gateway.admin.commands import Commands
from gateway.admin.schemas import Change, Registration
from tests.unit.builders import spec

COMMANDS = Commands(cast(Any, None), cast(Any, None))


def test_a_change_keeps_the_tools_that_are_hidden_unless_it_says_others() -> None:
    before = spec("a", include_tools=["x"], exclude_tools=["y"])
    after = COMMANDS.changed(before, Change(weight=2))
    assert (after.include_tools, after.exclude_tools) == (("x",), ("y",))
    after = COMMANDS.changed(before, Change(exclude_tools=["z"]))
    assert (after.include_tools, after.exclude_tools) == (("x",), ("z",))


def test_an_entry_that_cannot_be_run_can_only_with_another_connection() -> None:
    flawed = replace(spec("a"), problem="variable K is not set")
    assert COMMANDS.changed(flawed, Change(weight=2)).problem == "variable K is not set"
    assert COMMANDS.changed(flawed, Change(connection={"url": "http://other.test/mcp"})).problem == ""


def test_tools_are_hidden_by_a_registration_too() -> None:
    made = COMMANDS.registration(Registration("a", {"command": "x"}, include_tools=["x"]))
    assert (made.include_tools, made.exclude_tools) == (("x",), ())
