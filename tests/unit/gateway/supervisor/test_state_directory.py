"""Where a gateway keeps its state, who may use it, and what is refused."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

from gateway.supervisor.state_directory import StateDirectory, default_path, with_default
from shared.errors import StartError
from shared.settings import Settings, build


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "mcp-gateway"


def test_a_file_identifies_its_gateway_and_without_one_name_and_port_do(base: Path, tmp_path: Path) -> None:
    one, two = (default_path(tmp_path / folder / "my file.json", "n", 0) for folder in ("a", "b"))
    assert one is not None and two is not None and one != two
    assert one.parent == base and one.name.startswith("my-file-")
    assert one == default_path(tmp_path / "b" / ".." / "a" / "my file.json", "other", 4000)
    assert default_path(None, "my gateway", 4000) == base / "my-gateway-4000"
    assert default_path(None, "../..", 4000) == base / "gateway-4000"
    assert default_path(None, "any free port identifies nothing", 0) is None


def test_a_relative_base_does_not_count(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_path(None, "n", 1) == tmp_path / ".local/state/mcp-gateway/n-1"


def _chosen(settings: Settings) -> str:
    return with_default(settings, Path("/somewhere/gateway.json")).service.state_dir


def test_what_is_set_is_not_replaced(base: Path) -> None:
    assert _chosen(build()).startswith(str(base))
    assert _chosen(build(overrides={"state_dir": "/here"})) == "/here"
    assert _chosen(build(overrides={"ephemeral": True})) == ""
    assert _chosen(build(overrides={"redis_url": "redis://elsewhere"})) == ""


def test_a_default_that_cannot_be_made_costs_the_memory_and_not_the_start(
    base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base.parent.write_text("a file is in the way")
    assert _chosen(build()) == ""
    assert "nothing is kept for the next start, --state-dir" in caplog.text


async def test_the_directory_is_private_and_used_by_one(tmp_path: Path) -> None:
    path = tmp_path / "made" / "here"
    first, second = StateDirectory(path), StateDirectory(path)
    await first.open()
    assert path.stat().st_mode & 0o777 == 0o700 and first.redis.stat().st_mode & 0o777 == 0o700
    with pytest.raises(StartError, match=rf"another gateway \(pid {os.getpid()}\) uses .*{path}.*--ephemeral"):
        await second.open()
    first.close()
    await second.open()
    second.close()


async def test_the_redis_of_a_killed_gateway_is_waited_for(tmp_path: Path) -> None:
    """It holds the lock too, for as long as it still writes."""
    first = StateDirectory(tmp_path / "state")
    await first.open()
    dead = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await dead.wait()
    (tmp_path / "state" / "lock").write_text(json.dumps({"pid": dead.pid}))
    second = StateDirectory(tmp_path / "state")
    opening = asyncio.ensure_future(second.open())
    await asyncio.sleep(0.2)
    assert not opening.done()
    first.close()
    await opening
    second.close()


async def test_a_folder_with_other_files_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    tmp_path.chmod(0o755)
    with pytest.raises(StartError, match=r"has other files in it \(precious"):
        await StateDirectory(tmp_path).open()
    assert tmp_path.stat().st_mode & 0o777 == 0o755


async def test_what_cannot_be_a_directory_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match=r"cannot be used .*--state-dir"):
        await StateDirectory(tmp_path / "file" / "state").open()
