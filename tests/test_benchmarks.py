"""Every benchmark runs, tiny, and writes its numbers; how fast is none of the tests' business."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NAMES = sorted(path.stem.removeprefix("bench_") for path in (ROOT / "benchmarks").glob("bench_*.py"))


def run_benchmarks(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments, "--results", str(folder)],
        cwd=ROOT, capture_output=True, text=True, env={**os.environ, "MPLBACKEND": "agg"},
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_benchmarks_run(tmp_path: Path, name: str) -> None:
    """One tiny run prints a table and writes JSON."""
    done = run_benchmarks(tmp_path, name, "--tiny")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert f"=== {name}" in done.stdout
    assert json.loads((tmp_path / f"{name}.json").read_text())


def test_an_unknown_benchmark_is_refused(tmp_path: Path) -> None:
    """The message lists those there are."""
    done = run_benchmarks(tmp_path, "nonsense")
    assert done.returncode == 2
    assert "no benchmark 'nonsense'; there are" in done.stderr
