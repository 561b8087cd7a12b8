"""``${exec:PROGRAM}``: who may have programs run, and what comes of them."""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from shared.config import commands
from shared.config.load import parse
from shared.errors import ConfigError
from tests.fleet import eventually
from tests.machine import scaled

ALLOWED = {**os.environ, "GATEWAY_ALLOW_EXEC": "true", "GATEWAY_ADMIN_TOKEN": "secret", "VAULT": "vault"}


def command(code: str) -> str:
    return f"exec:{shlex.join([sys.executable, '-c', code])}"


def token_of(reference: str, base: Path, environment: Any = ALLOWED, own: bool = True) -> str:
    document = {"gateway": {"adminToken": f"${{{reference}}}"}}
    return str(parse(document, environment, base, own=own).settings["adminToken"])


def test_a_secret_is_what_a_program_prints_without_a_shell(tmp_path: Path) -> None:
    assert token_of(command("print(' the-secret-of-the-vault ')"), tmp_path) == "the-secret-of-the-vault"
    seen = command("import os; print(os.environ.get('VAULT'), os.environ.get('GATEWAY_ADMIN_TOKEN'))")
    assert token_of(seen, tmp_path) == "vault None"
    assert token_of(f"exec:{sys.executable} -c \"print('a-long-secret; echo no-shell')\"", tmp_path).endswith(
        "no-shell"
    )


def test_it_stands_in_entries_as_well_and_runs_once(tmp_path: Path) -> None:
    counted = command(f"open({str(tmp_path / 'runs')!r}, 'a').write('x'); print('value-of-it')")
    entry = {"url": "https://h/mcp", "headers": {"A": f"${{{counted}}}", "B": f"Bearer ${{{counted}}}"}}
    (spec,) = parse({"mcpServers": {"up": entry}}, ALLOWED, tmp_path, own=True).upstreams
    assert spec.connection.headers == {"A": "value-of-it", "B": "Bearer value-of-it"}  # type: ignore[union-attr]
    assert (tmp_path / "runs").read_text() == "x"


@pytest.mark.parametrize(
    ("environment", "own"),
    [(dict(os.environ), True), (ALLOWED, False), ({**ALLOWED, "GATEWAY_ALLOW_EXEC": "no"}, True)],
    ids=["not allowed", "a foreign file", "told no"],
)
def test_nothing_runs_unless_the_environment_allows_it_and_the_file_is_the_administrators(
    environment: dict[str, str], own: bool, tmp_path: Path
) -> None:
    runs = tmp_path / "ran"
    reference = command(f"open({str(runs)!r}, 'w')")
    with pytest.raises(ConfigError, match="GATEWAY_ALLOW_EXEC=true"):
        token_of(reference, tmp_path, environment, own)
    entry = {"url": "https://h/mcp", "headers": {"A": f"${{{reference}}}"}}
    (spec,) = parse({"mcpServers": {"up": entry}}, environment, tmp_path, own=own).upstreams
    assert "GATEWAY_ALLOW_EXEC" in spec.problem
    assert not runs.exists()


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        (command("raise SystemExit(3)"), "exit code 3"),
        (command("print()"), "printed nothing"),
        (command("print('x' * 100_000)"), "more than 64 KiB"),
        (command("import sys; sys.stdout.buffer.write(bytes([255, 254]))"), "utf-8"),
        ("exec:/no/such/program --flag", "No such file"),
        ("exec:'unclosed", "quotation"),
    ],
)
def test_a_program_that_fails_is_a_problem_that_says_why_and_shows_no_arguments(
    reference: str, why: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=why) as raised:
        token_of(reference, tmp_path)
    assert "-c" not in str(raised.value)
    assert "--flag" not in str(raised.value)


async def test_a_program_that_does_not_end_is_ended_with_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_TIMEOUT_S", scaled(2.0))
    pid = tmp_path / "pid"
    start = "import subprocess; p = subprocess.Popen(['sleep', '600'])"
    code = f"{start}; open({str(pid)!r}, 'w').write(str(p.pid)); p.wait()"
    with pytest.raises(ConfigError, match="did not end within"):
        token_of(command(code), tmp_path)
    started = pid.read_text() if pid.exists() else ""
    if not started:
        return  # on a slow machine it may not have come so far

    def is_gone() -> bool:
        with contextlib.suppress(OSError):
            return ") Z" in Path(f"/proc/{started}/stat").read_text()
        return True

    await eventually(is_gone, 10.0, "the kernel has ended what was killed")


def test_a_default_stands_in_for_a_program_that_fails(tmp_path: Path) -> None:
    assert token_of("exec:/no/such/program:-instead-of-it", tmp_path) == "instead-of-it"
