"""OpenStack's own tests, run unchanged on the running cloud."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cloud import Cloud

HERE = Path(__file__).resolve().parent.parent / "conformance"


@pytest.mark.machine
@pytest.mark.timeout(900)
def test_the_tests_that_passed_pass_still(cloud: Cloud) -> None:
    expected = str(HERE / "expected.txt")
    command = [sys.executable, str(HERE / "run.py"), "--state", str(cloud.state.root)]
    done = subprocess.run(
        [*command, "--list", expected, "--expect", expected],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=850,
    )
    assert done.returncode == 0, done.stdout[-4000:]
