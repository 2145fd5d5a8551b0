"""Disks that are too small for what is converted onto them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scoreboard import record, scaled

ROOT = Path(__file__).resolve().parents[2]


def test_a_full_disk_is_told_and_the_conversion_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """From 1 to 100 % of the room needed: one clear line, nothing that reads; then the same bytes."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare to mount a small disk with")
    may = subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True)
    if may.returncode:
        pytest.skip("this user may not mount a small disk")
    step = scaled(20, 1)
    shares = [str(share) for share in range(step, 101, step)]
    done = subprocess.run(
        [
            "unshare",
            "-rm",
            sys.executable,
            "-W",
            "error",
            "-m",
            "tests.store.disk_runs",
            str(tmp_path),
            *shares,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    problems = report.pop("problems")
    assert not problems, "\n".join(problems)
    assert report["sizes"] == 2 * len(shares)
    assert report["filled"] >= len(shares) * 0.7
    record(7, **report)
