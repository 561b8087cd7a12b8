"""Under which user and within which limits a command runs: real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from shared.errors import ConfigError
from shared.settings import build
from worker.transports.confinement import check_user, launching, of_the_user

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="users and limits of POSIX")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run children under another user")
NOBODY = "65534"


def run(*command: str, given: dict[str, str] | None = None, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run a command as a stdio child would be."""
    upstreams = build(overrides=settings).upstreams
    environment = of_the_user(upstreams, {"PATH": os.environ["PATH"], "HOME": "/root", "XDG_CACHE_HOME": "/root/c"})
    environment.update(given or {})
    with launching(upstreams, command, environment, {"MARK": "m"}) as (words, variables, fds):
        return subprocess.run(words, env=variables, pass_fds=fds, capture_output=True, text=True, cwd="/")


def test_without_these_settings_the_command_is_started_itself() -> None:
    with launching(build().upstreams, ["cat"], {"A": "1"}, {"MARK": "m"}) as found:
        assert found == (["cat"], {"A": "1", "MARK": "m"}, ())


def test_what_makes_a_container_has_no_limits_itself_and_may_become_more_than_its_user() -> None:
    limited = build(overrides={"stdio_max_memory": 10**6, "stdio_max_processes": 1}).upstreams
    with launching(limited, ["podman"], {"A": "1"}, {}, contained=True) as found:
        assert found == (["podman"], {"A": "1"}, ())


@needs_root
@pytest.mark.parametrize(("contained", "privileges"), [(False, "1"), (True, "0")])
def test_another_user_gains_no_privileges_but_for_podman(contained: bool, privileges: str) -> None:
    settings = build(overrides={"stdio_user": NOBODY}).upstreams
    command = ["grep", "NoNewPrivs", "/proc/self/status"]
    with launching(settings, command, {"PATH": os.environ["PATH"]}, {}, contained) as (words, variables, fds):
        done = subprocess.run(words, env=variables, pass_fds=fds, capture_output=True, text=True, cwd="/")
    assert done.stdout.split() == ["NoNewPrivs:", privileges], done


def test_limits_hold_and_the_environment_is_that_of_the_child() -> None:
    done = run("sh", "-c", 'ulimit -n; echo "$A $MARK"; ls /proc/self/fd', given={"A": "1"}, stdio_max_files=77)
    assert done.stdout.split() == ["77", "1", "m", "0", "1", "2", "3"], "and no descriptor of ours is left"
    script = "bytearray(900_000_000)"
    assert "MemoryError" in run(sys.executable, "-c", script, stdio_max_memory=300_000_000).stderr
    assert run(sys.executable, "-c", script).returncode == 0


def test_a_command_that_cannot_be_started_is_named() -> None:
    done = run("/nowhere/to/be/found", stdio_max_files=77)
    assert done.returncode == 127
    assert "cannot start '/nowhere/to/be/found'" in done.stderr and "Traceback" not in done.stderr


@needs_root
def test_a_child_of_another_user_has_nothing_of_ours() -> None:
    script = 'id -u; id -g; id -G; echo "$HOME" "${XDG_CACHE_HOME-none}"; grep NoNewPrivs /proc/self/status'
    lines = run("sh", "-c", script, stdio_user=NOBODY).stdout.splitlines()
    assert lines[0] == NOBODY and lines[1] == lines[2], "no further groups"
    assert lines[3].endswith(" none") and not lines[3].startswith("/root")
    assert lines[4].split() == ["NoNewPrivs:", "1"]


@needs_root
def test_a_variable_of_an_entry_has_no_effect_while_the_launcher_is_root() -> None:
    done = run("sh", "-c", "echo fine", given={"PYTHONHOME": "/nowhere", "PYTHONSTARTUP": "/x"}, stdio_user=NOBODY)
    assert done.stdout == "fine\n"


@needs_root
def test_a_user_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError, match="'no-such-user': there is no such user"):
        check_user(build(overrides={"stdio_user": "no-such-user"}).upstreams)


def test_another_user_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    check_user(build().upstreams)
    with pytest.raises(ConfigError, match="only root can run children under another user"):
        check_user(build(overrides={"stdio_user": "nobody"}).upstreams)
