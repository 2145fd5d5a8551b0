"""Conversions on threads, killed at moments nobody chose."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.scoreboard import record, scaled
from tests.store.kill_runs import TASKS, WORKERS

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def run(*arguments: object) -> Any:
    command = [sys.executable, "-W", "error", "-m", "tests.store.kill_runs", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_random_kills(tmp_path: Path) -> None:
    """Killed whenever: nothing reads wrong, resuming gives the bytes of an undisturbed run."""
    n_kills = scaled(60, 300)
    report = run("random", tmp_path, n_kills, 11)
    assert not report["problems"], "\n".join(report["problems"])
    assert report["refused"] >= n_kills // 3, "the kills came too late to mean anything"
    assert report["refused"] + report["whole"] == n_kills
    # A shard may be durable an instant before its record is; no worker has more than one such.
    assert max(report["redone"]) <= WORKERS
    record(
        2, kills=n_kills, unfinished=report["refused"], whole=report["whole"], redone=max(report["redone"])
    )


def test_a_kill_near_the_end_costs_no_more_than_what_was_in_flight(tmp_path: Path) -> None:
    """Killed with 90% of the shards recorded, at most one shard a worker is written again."""
    redone = run("at", tmp_path, 0.9)
    assert redone <= WORKERS
    record(3, shards=TASKS, workers=WORKERS, redone=redone)
