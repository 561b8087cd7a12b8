"""What others can read of a process that hides, and how settings come to a process: real processes, Linux's /proc."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.errors import ConfigError
from shared.handover import VARIABLE, offer, offered, received, to_environment
from shared.settings import build

ROOT = Path(__file__).resolve().parents[2]
NOBODY = 65534
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

HIDES = """
import ctypes, os, sys
from shared.seclusion import seclude
if sys.argv[1] != "-": os.setuid(int(sys.argv[1]))
seclude({"SHOWN": ""}, ["hunter2"])
print(os.getpid(), os.environ["HIDDEN"], ctypes.CDLL(None).prctl(3), flush=True)
sys.stdin.read()
"""
LOOKS = """
import os, sys
os.setuid(int(sys.argv[1]))
for name in ("environ", "mem", "maps", "fd/0"):
    try: open(f"/proc/{sys.argv[2]}/{name}", "rb").read(1)
    except OSError as error: print(type(error).__name__)
    else: print(name, "could be read")
"""


@contextmanager
def hiding(user: str = "-") -> Iterator[list[str]]:
    """A process that hides, under another user unless ``-``: its pid, a hidden variable, whether it is dumpable."""
    process = subprocess.Popen(
        [sys.executable, "-c", HIDES, user, "--password=hunter2", "--other"],
        env={"PYTHONPATH": str(ROOT), "HIDDEN": "a-secret", "SHOWN": "public"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield process.stdout.readline().split()
    finally:
        process.communicate()


def test_of_a_hidden_process_only_what_is_shown_can_be_read() -> None:
    with hiding() as (pid, sees, dumpable):
        assert (sees, dumpable) == ("a-secret", "0")
        if os.geteuid() == 0:  # others cannot even open it
            shown = Path(f"/proc/{pid}/environ").read_bytes()
            assert set(shown.split(b"\0")) == {b"", b"SHOWN=public"}
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        assert arguments[-4:-1] == [b"-", b"--password=*******", b"--other"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_another_process_of_the_same_user_reads_nothing() -> None:
    with hiding(str(NOBODY)) as (pid, _, _):
        looked = subprocess.run(
            [sys.executable, "-c", LOOKS, str(NOBODY), pid], capture_output=True, text=True, check=True
        )
        assert looked.stdout.split() == ["PermissionError"] * 4


READS = """
import os, sys
from shared.handover import received
first, again = received(), received()
print(first == again, first.access.secret, first.service.port, sorted(n for n in os.environ if "GATEWAY" in n))
"""


def test_settings_are_handed_over_once_and_leave_no_trace() -> None:
    settings = build(overrides={"secret": "s", "port": 4321, "allowed_hosts": ("a", "b")})
    with offered(settings) as (variables, fds):
        assert list(variables) == [VARIABLE]
        done = subprocess.run(
            [sys.executable, "-c", READS],
            env={"PYTHONPATH": str(ROOT), **variables},
            pass_fds=fds,
            capture_output=True,
            text=True,
            check=True,
        )
    assert done.stdout.strip() == "True s 4321 []"


def test_the_environment_counts_where_nothing_was_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    settings = build(overrides={"secret": "s", "port": 4321})
    for name, value in to_environment(settings).items():
        monkeypatch.setenv(name, value)
    assert received().access.secret == "s"


@pytest.mark.parametrize("value", ["many", "987654", "0"])
def test_a_descriptor_that_is_no_socket_of_ours_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(ConfigError, match=f"{VARIABLE}={value} is for processes that the gateway starts"):
        received()


def test_settings_that_do_not_fit_are_refused_instead_of_cut() -> None:
    with pytest.raises(ConfigError, match="too many"):
        offer(build(overrides={"allowed_hosts": ("x" * 50_000_000,)}))


KEEPS = """
import os, subprocess, sys
from shared.seclusion import keep_descriptors
if sys.argv[1] == "keep": keep_descriptors()
os.execvp("ls", ["ls", "-l", "/proc/self/fd"])
"""


@pytest.mark.parametrize("keeps", [True, False])
def test_what_a_process_has_inherited_its_children_do_not_get(keeps: bool, tmp_path: Path) -> None:
    with open(tmp_path / "secret", "w") as secret:
        os.set_inheritable(secret.fileno(), True)
        done = subprocess.run(
            [sys.executable, "-c", KEEPS, "keep" if keeps else "-"],
            env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
            pass_fds=(secret.fileno(),),
            capture_output=True,
            text=True,
        )
    assert ("secret" in done.stdout) == (not keeps), done.stdout + done.stderr
    assert " 2 -> " in done.stdout, "the standard streams are there"


def test_workers_keep_what_they_have_inherited() -> None:
    """A worker whose settings are wrong does nothing else."""
    source = (ROOT / "worker" / "main.py").read_text("utf-8").partition("def main(")[2]
    assert source.index("received()") < source.index("keep_descriptors()") < source.index("uvloop.run(")
