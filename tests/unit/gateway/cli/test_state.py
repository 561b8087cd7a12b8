"""``gateway.cli.state``: the private file by which commands find a gateway."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.cli import state


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "mcp-gateway"


def write() -> None:
    state.write(4000, "redis://:secret@127.0.0.1/0", "gw:", "token")


def test_the_file_is_private_also_where_another_one_was(run: Path) -> None:
    run.mkdir(mode=0o755)
    old = run / "4000.json"
    old.write_text("{}")
    old.chmod(0o644)
    write()
    assert (run.stat().st_mode & 0o777, old.stat().st_mode & 0o777) == (0o700, 0o600)
    assert "secret" in old.read_text()


def test_a_link_in_place_of_the_file_leads_nowhere(run: Path, tmp_path: Path) -> None:
    run.mkdir(mode=0o700)
    target = tmp_path / "precious"
    target.write_text("precious")
    (run / "4000.json").symlink_to(target)
    write()
    assert target.read_text() == "precious" and not (run / "4000.json").is_symlink()


def test_a_link_in_place_of_the_directory_is_not_followed(run: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o755)
    run.symlink_to(elsewhere)
    write()
    assert not list(elsewhere.iterdir()) and elsewhere.stat().st_mode & 0o777 == 0o755
