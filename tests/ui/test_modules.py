"""Plays ``modules.test.mjs``, which tests modules of the dashboard, with Node's own test runner."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.fleet import ROOT
from tests.machine import scaled


def test_the_modules_of_the_dashboard_that_need_no_browser() -> None:
    node = shutil.which("node")
    if node is None and not os.environ.get("CI"):
        pytest.skip("there is no node")
    assert node is not None, "in CI node has to be there"
    command = [node, "--test", "tests/ui/modules.test.mjs"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=scaled(60.0), check=False)
    assert done.returncode == 0, done.stdout + done.stderr
