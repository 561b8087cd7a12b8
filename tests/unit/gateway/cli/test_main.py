"""How the command line ends whatever happens: a line that says what to do, and never a traceback."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from gateway.cli.main import _Group
from shared.errors import ConfigError, StartError


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


@pytest.mark.parametrize(
    ("error", "code", "output"),
    [
        (ConfigError([("a.b", "is wrong"), ("", "and this")]), 2, "error: a.b: is wrong\nerror: and this\n"),
        (StartError("it cannot"), 1, "error: it cannot\n"),
        (KeyboardInterrupt(), 130, ""),
        (click.UsageError("no such option"), 2, None),
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


def _failing() -> click.Group:
    group = _Group()

    @group.command()
    def fails() -> None:
        """Fail."""
        raise ZeroDivisionError

    return group
