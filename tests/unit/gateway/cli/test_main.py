"""How the command line ends whatever happens: a line that says what to do, and never a traceback."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from gateway.cli.main import MODULES, _Group, cli
from shared.errors import ConfigError, StartError
from tests.fleet import ROOT


def _ends(error: BaseException) -> tuple[int, str]:
    @click.group(cls=_Group)
    def commands() -> None:
        """All of them."""

    @commands.command()
    def fails() -> None:
        """Fail."""
        raise error

    result = CliRunner().invoke(commands, ["fails"])
    return result.exit_code, result.output


def test_the_readme_names_every_command() -> None:
    section = (ROOT / "README.md").read_text().partition("## Commands\n")[2]
    named = section.partition("`gateway ")[2].partition("`")[0]
    assert sorted(named.replace("|", " ").split()) == sorted(word for words in MODULES.values() for word in words)


@pytest.mark.parametrize(
    ("error", "code", "output"),
    [
        (ConfigError([("a.b", "is wrong"), ("", "and this")]), 2, "error: a.b: is wrong\nerror: and this\n"),
        (StartError("it cannot"), 1, "error: it cannot\n"),
        (KeyboardInterrupt(), 130, ""),
        (click.UsageError("no such option"), 2, None),
        (OSError(28, "No space left on device"), 1, "error: No space left on device\n"),
        (PermissionError(13, "Permission denied", "/x"), 1, "error: /x: Permission denied\n"),
        (
            UnicodeEncodeError("utf-8", "a\udcff", 1, 2, "surrogates"),
            2,
            "error: 'a\\udcff' is no UTF-8 text; write it in UTF-8\n",
        ),
    ],
)
def test_each_error_has_its_code(error: BaseException, code: int, output: str | None) -> None:
    found = _ends(error)
    assert found[0] == code and (output is None or found[1] == output), found


def test_a_flaw_of_ours_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEWAY_TRACEBACK", raising=False)
    code, output = _ends(KeyError("of ours\nsecond line"))
    assert code == 1 and output.count("\n") == 1 and "KeyError" in output and "GATEWAY_TRACEBACK=1" in output
    monkeypatch.setenv("GATEWAY_TRACEBACK", "1")
    result = CliRunner().invoke(_failing(), ["fails"])
    assert isinstance(result.exception, ZeroDivisionError)


def test_what_a_terminal_s_encoding_has_not_is_written_as_an_escape(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_text('{"mcpServers": {"高德": {"command": "x"}}}', encoding="utf-8")
    command = [sys.executable, "-m", "gateway", "check", str(file)]
    ended = subprocess.run(command, env={"PYTHONIOENCODING": "latin-1"}, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "\\u9ad8\\u5fb7 (" in ended.stdout


def test_streams_may_be_closed(tmp_path: Path) -> None:
    file = tmp_path / "mcp.json"
    file.write_text("{}")
    command = f"{sys.executable} -m gateway check {file} >&- 2>&- <&-"
    assert subprocess.run(["/bin/sh", "-c", command], env={}, cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("staus", "no command 'staus' (did you mean 'status'?); '"),
        ("call", "missing argument 'TOOL'; '"),
        ("call x --text hi", "no such option '--text'; '"),
        ("up gw.json", "got unexpected extra argument (gw.json); a file is named with --config FILE"),
        ("servers sho x", "no such command 'sho'"),
        ("servers add x npx -y pkg", "no option -y; what belongs to a command stands behind --, as in 'gateway serv"),
        ("--url http://x status", "no option --url here; options stand behind the command"),
        ("import notepad", "invalid value for '{"),
    ],
)
def test_a_command_line_that_is_not_understood_is_told_in_one_line(words: str, said: str) -> None:
    result = CliRunner().invoke(cli, words.split())
    assert result.exit_code == 2
    assert result.output.startswith(f"error: {said}") and result.output.count("\n") == 1, result.output
    assert "Usage:" in CliRunner().invoke(cli, ["servers", "add", "--help"]).output


def _failing() -> click.Group:
    group = _Group()

    @group.command()
    def fails() -> None:
        """Fail."""
        raise ZeroDivisionError

    return group


def test_every_command_is_found_where_it_is_said_to_be() -> None:
    for name, commands in MODULES.items():
        here = click.Group()
        importlib.import_module(f"gateway.cli.{name}").add_to(here)
        assert sorted(here.commands) == sorted(commands), name
    of_package = {path.stem for path in (ROOT / "gateway/cli").glob("*.py") if "\ndef add_to(" in path.read_text()}
    assert of_package == set(MODULES)
    result = CliRunner().invoke(cli, ["--help"])
    assert all(f"\n  {command} " in result.output for commands in MODULES.values() for command in commands)


def test_what_runs_for_long_loads_no_other_commands() -> None:
    use = "cli(['up', '--help'], standalone_mode=False)"
    script = f"import sys; from gateway.cli.main import cli; {use}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "gateway.cli.up" in loaded
    assert not {"gateway.cli.calls", "gateway.cli.admin_client", "aiohttp", "mcp"} & set(loaded)
