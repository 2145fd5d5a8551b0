"""A kill, a full disk or a broken one at any I/O call of any change to a store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.scoreboard import FILE, record
from tests.store.failpoints import ACTIONS

ROOT = Path(__file__).resolve().parents[2]


def run_points(
    folder: Path, scenario: str, actions: str, every: int, n_processes: int
) -> list[dict[str, Any]]:
    """Reports of processes that share the points between them."""
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-W",
                "error",
                "-m",
                "tests.store.fault_runs",
                scenario,
                actions,
                str(folder / str(number)),
                str(every * n_processes),
                str(1 + number * every),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(n_processes)
    ]
    reports = []
    for process in processes:
        text, errors = process.communicate()
        assert process.returncode == 0, errors[-3000:]
        reports.append(json.loads(text))
    return reports


@pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir() or not hasattr(os, "fork"), reason="needs fork and /proc"
)
@pytest.mark.parametrize(
    ("scenario", "actions", "every"),
    [
        # An error is an error until somebody looks whether it is a full disk.
        ("convert", "kill,tear,ENOSPC/EIO", 1),
        ("add", "kill/EIO", 3),
        ("set", "kill/ENOSPC", 2),
        ("overwrite", "kill/EIO", 3),
        ("repair", "kill,tear,ENOSPC/EIO", 3),
    ],
    ids=lambda value: str(value).replace(",", "+"),
)
def test_a_fault_at_any_call_never_reads_wrong(
    tmp_path: Path, scenario: str, actions: str, every: int
) -> None:
    """What is readable then is the old or the new state; the same call goes on to the same bytes.

    Also: a finished shard is not written again, a full disk says so in one line, and the store
    that results has nothing for `verify` to name. "add" puts a nested item beside another.
    """
    if FILE:
        actions, every = ",".join(ACTIONS), 1
    reports = run_points(tmp_path, scenario, actions, every, n_processes=2 if FILE else 1)
    problems = [problem for report in reports for problem in report["problems"]]
    assert not problems, "\n".join(problems[:20])
    assert (
        sum(report["runs"] for report in reports)
        >= len(actions.split(",")) * reports[0]["points"] // every // 2
    )
    record(1, change=scenario, points=reports[0]["points"], runs=sum(r["runs"] for r in reports), wrong=0)
