"""Cuts and mutations of every format: recovered with a count, or refused; never worse."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.scoreboard import record, scaled
from tests.sources.event_fuzz import N_CUTS, N_MUTATIONS, fuzz
from tests.sources.event_samples import SAMPLES

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", [name for name, sample in SAMPLES.items() if not sample.in_child])
def test_damaged_files(name: str) -> None:
    """Our own decoders, in this very process."""
    outcomes = fuzz(name)
    assert outcomes.total() == N_CUTS + N_MUTATIONS
    record(9, format=name, **{key.replace(" ", "_"): count for key, count in sorted(outcomes.items())})
    assert set(outcomes) <= {"cut read", "cut refused", "mutation read", "mutation refused"}
    assert outcomes["mutation read"] > 0
    assert outcomes["cut read"] > N_CUTS // 3 or not SAMPLES[name].is_sequential


def test_damaged_hdf5_files() -> None:
    """HDF5 may crash on damage, which would be no fault of ours: a child process takes that risk."""
    names = [name for name, sample in SAMPLES.items() if sample.in_child]
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.sources.event_fuzz", *names],
        cwd=ROOT, capture_output=True, text=True, timeout=scaled(240, 1200), check=False,
        env={name: value for name, value in os.environ.items() if name != "HDF5_PLUGIN_PATH"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    record(9, formats=" ".join(names), cuts_each=N_CUTS, mutations_each=N_MUTATIONS, crashes=0)
    assert re.findall(r"^(\w+) ", done.stdout, re.MULTILINE) == names
