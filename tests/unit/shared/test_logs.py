"""``shared.logs``."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import watchfiles

from shared import logs
from shared.errors import ConfigError
from shared.logs import AT_ONCE, ConsoleFormatter, JsonFormatter, Lines, configure
from shared.settings import build
from tests.machine import scaled


@pytest.fixture(autouse=True)
def unchanged() -> Iterator[None]:
    root, watching = logging.getLogger(), logging.getLogger("watchfiles")
    before = root.handlers[:], root.level, watching.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    watching.setLevel(before[2])


@pytest.mark.parametrize("level", ["debug", "info"])
async def test_a_log_in_a_folder_that_is_followed_does_not_feed_itself(tmp_path: Path, level: str) -> None:
    configure("supervisor", level)
    with (tmp_path / "log").open("w") as log:
        handler = logging.StreamHandler(log)
        handler.setFormatter(logging.Formatter("%(name)s %(message)s"))
        logging.getLogger().handlers[:] = [handler]
        async with asyncio.timeout(scaled(20.0)), asyncio.TaskGroup() as tasks:
            touching = tasks.create_task(_touch(tmp_path / "config"))
            async for _ in watchfiles.awatch(tmp_path, step=5, debounce=20):
                break
            touching.cancel()
        logging.getLogger("gateway").warning("ours")
    lines = (tmp_path / "log").read_text().splitlines()  # what other tests left behind may speak up too
    assert "gateway ours" in lines and not any(line.startswith("watchfiles") for line in lines)


async def _touch(path: Path) -> None:
    while True:
        path.touch()
        await asyncio.sleep(0.02)


def test_what_is_asked_for_is_not_exceeded() -> None:
    configure("supervisor", "error")
    assert not logging.getLogger("watchfiles.main").isEnabledFor(logging.WARNING)


EVIL = "\x7f\x1b[2Jgone\x07\r\n10:00:00 INFO fake: \x9b31m\u202eevil\u2066\u200b\x00\ud83d caf\u00e9"


def _record(message: str, *arguments: object, error: bool = False, **fields: object) -> logging.LogRecord:
    info = None
    if error:
        try:
            raise ValueError(EVIL)
        except ValueError:
            info = sys.exc_info()
    record = logging.LogRecord("gateway.x", logging.WARNING, __file__, 1, message, arguments, info)
    if fields:
        setattr(record, logs.FIELDS, fields)
    return record


def _harmless(text: str) -> bool:
    return all(one.isprintable() or one in "\n\t" for one in text) and "\u202e" not in text


def test_what_comes_from_outside_stays_on_its_line_and_steers_no_terminal() -> None:
    line = ConsoleFormatter("worker").format(_record("upstream said %s", EVIL))
    assert "\n" not in line and _harmless(line)
    assert r"\x1b[2Jgone\x07\r\n10:00:00" in line and r"\x9b31m\u202eevil\u2066" in line and "caf\u00e9" in line
    line.encode()


def test_a_traceback_has_lines_and_nothing_else_that_steers() -> None:
    lines = ConsoleFormatter("worker").format(_record("failed", error=True))
    assert lines.count("\n") >= 3 and _harmless(lines) and r"\x1b[2Jgone" in lines


def test_fields_are_words_on_the_console_and_members_in_json() -> None:
    record = _record("over", name="a b", ms=1.5, evil=EVIL)
    assert 'over name="a b" ms=1.5' in ConsoleFormatter("worker").format(record)
    line = JsonFormatter("worker").format(record)
    assert "\n" not in line and line.isascii()
    read = json.loads(line)
    assert (read["level"], read["process"], read["logger"], read["name"]) == ("warning", "worker", "gateway.x", "a b")
    assert read["evil"] == EVIL and read["time"].endswith("+00:00")
    assert "ValueError" in json.loads(JsonFormatter("worker").format(_record("failed", error=True)))["traceback"]


@pytest.mark.parametrize("form", ["console", "json"])
async def test_access_lines_are_written_whatever_the_level_and_together(
    form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configure("worker", "error", form)
    lines = Lines("worker.access", "name", "attempts")
    for number in range(3):
        _add(lines, f"{number:x}", 0.00125 * number, EVIL, number // 2)
    assert capsys.readouterr().err == ""
    found: list[str] = []
    while not found:
        await asyncio.sleep(0.001)
        found = capsys.readouterr().err.splitlines()
    assert len(found) == 3 and all(_harmless(line) for line in found)
    if form == "json":
        read = [json.loads(line) for line in found]
        assert [(one["request"], one["ms"], one["attempts"]) for one in read] == [
            ("0", 0, 0),
            ("1", 1.2, 0),
            ("2", 2.5, 1),
        ]
        assert {one["name"] for one in read} == {EVIL}
        assert {one["logger"] for one in read} == {"worker.access"} and read[0]["time"].endswith("+00:00")
    else:
        assert "worker.access: request=0 ms=0.0 name=" in found[0] and found[2].endswith("attempts=1")


def _add(lines: Lines, request: str, seconds: float, *values: Any) -> None:
    lines.waiting.append((time.time(), f"00-{request}", seconds, values))
    if len(lines.waiting) in (1, AT_ONCE):
        lines.grew()


async def test_access_lines_do_not_wait_for_more_than_a_pipe_holds(capsys: pytest.CaptureFixture[str]) -> None:
    configure("worker", "error")
    lines = Lines("worker.access", "name")
    for number in range(450):
        _add(lines, "0", 0.001, f"tool-{number}")
    assert len(capsys.readouterr().err.splitlines()) == 400
    lines.flush()
    assert len(capsys.readouterr().err.splitlines()) == 50


def test_a_level_is_changed_and_an_unknown_one_changes_nothing() -> None:
    configure("worker", "info")
    for wanted, then in (("debug", "debug"), ("loud", "debug"), ("error", "error")):
        logs.set_level(wanted)
        assert logs.level() == then
    with pytest.raises(ConfigError, match="not one of debug, info"):
        build({"logLevel": "loud"})
    assert build({"logLevel": "WARNING"}).service.log_level == "warning"
