"""Stores that a stranger made to harm whoever opens them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import lazystore as ls
from lazystore.errors import DamagedStoreError, HostileStoreError
from tests.samples import make_events
from tests.scoreboard import record
from tests.store.hostile_stores import array, attribute

ROOT = Path(__file__).resolve().parents[2]
MAX_SECONDS, MAX_BYTES = 2.0, 256_000_000


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork, pipes in folders and /proc")
def test_hostile_stores_are_refused_at_once(tmp_path: Path) -> None:
    """Each ends in an error of ours or a finding of verify, in 2 s and 256 MB, with nothing read outside."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.store.hostile_stores", str(tmp_path / "h")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    outcomes = json.loads(done.stdout)
    wrong = [
        f"{name}: {outcome}"
        for name, outcome in outcomes.items()
        if "crashed" in outcome
        or not outcome["refused"]
        or outcome["seconds"] > MAX_SECONDS
        or outcome["bytes"] > MAX_BYTES
    ]
    assert not wrong, "\n".join(wrong)
    assert len(outcomes) >= 40
    record(
        12,
        stores=len(outcomes),
        refused=len(outcomes) - len(wrong),
        slowest_s=round(max(outcome["seconds"] for outcome in outcomes.values()), 2),
        most_mb=round(max(outcome["bytes"] for outcome in outcomes.values()) / 1e6),
    )


def test_a_sensor_beyond_every_limit_is_refused(tmp_path: Path) -> None:
    """Frames of events have its size, so it is checked before anything has."""
    make_events(tmp_path / "e.h5")
    ls.convert(tmp_path / "e.h5", tmp_path / "s.zarr")
    attribute("e", sensor=[1 << 30, 48])(tmp_path)
    with (
        ls.open(tmp_path / "s.zarr") as store,
        pytest.raises(HostileStoreError, match="a sensor of 1073741824 x 48 pixels"),
    ):
        store["e"]


def test_a_small_array_in_another_layout_is_refused(tmp_path: Path) -> None:
    """Times that lazystore would not lay out so are damage, in one line."""
    np.save(tmp_path / "a.npy", np.zeros((8, 2, 2), np.uint8))
    ls.convert(tmp_path / "a.npy", tmp_path / "s.zarr", kind="stack")
    array("a", "time", codecs=[{"name": "numcodecs.pickle", "configuration": {}}])(tmp_path)
    with (
        ls.open(tmp_path / "s.zarr") as store,
        pytest.raises(DamagedStoreError, match="not how lazystore lays it out"),
    ):
        store.array_values("a", "time")
