"""Stores that are opened, read and closed over and over."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

import lazystore as ls
from tests.samples import make_events, make_field, make_video
from tests.scoreboard import record

FILES = Path("/proc/self/fd")


@pytest.mark.skipif(not FILES.is_dir(), reason="needs /proc to count open files")
def test_two_hundred_openings_leave_neither_files_nor_threads(tmp_path: Path) -> None:
    """Every kind is read, by hand and ahead of need, and closed; the counts are those of the first time."""
    make_field(tmp_path / "fields.npy")
    make_video(tmp_path / "mouse.mp4")
    make_events(tmp_path / "drone.h5")
    for name in ("fields.npy", "mouse.mp4", "drone.h5"):
        ls.convert(tmp_path / name, tmp_path / "s.zarr")
    counts = []
    for number in range(200):
        with ls.open(tmp_path / "s.zarr") as store:
            for step in range(3):
                np.asarray(store["fields"][number % 190 + step])
            np.asarray(store["mouse"][number % 60])
            store["drone"].window(number * 1000, number * 1000 + 5000)
            store["fields"].range()
        counts.append((len(os.listdir(FILES)), threading.active_count()))
    # The first openings start what is shared; threads that end take a moment.
    assert max(counts[100:]) <= max(counts[:50])
    record(
        11,
        openings=200,
        open_files=f"{counts[10][0]} to {counts[-1][0]}",
        threads=f"{counts[10][1]} to {counts[-1][1]}",
    )
