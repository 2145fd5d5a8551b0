"""What a person sets on an item is there in every reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import zarr

import lazystore as ls
from lazystore.convert.correct import correct
from lazystore.store.location import LocalLocation
from lazystore.store.verify import verify


def test_attributes_of_ones_own_are_seen_by_our_reader_too(store_path: Path) -> None:
    """`lazystore set ITEM subject=M1` shows in ``store[item].attrs`` as it does in plain zarr."""
    ls.convert(np.zeros((3, 4, 5), np.uint8), store_path, name="cam")
    correct(LocalLocation(store_path), "cam", {"subject": "M1", "age_days": "90"})
    with ls.open(store_path) as store:
        assert store["cam"].attrs["subject"] == "M1"
        assert store["cam"].attrs["age_days"] == 90
        assert store["cam"].attrs["lazystore"]["kind"] == "stack"


def test_who_holds_the_old_metadata_reads_no_fill_values(store_path: Path) -> None:
    """Plain zarr, open while the clock is set: its own times or newer ones; nothing is left for good."""
    frames = np.zeros((300, 2, 2), np.uint8)
    ls.convert(frames, store_path, name="cam")
    held = zarr.open_array(store_path, path="cam/time", mode="r")
    location = LocalLocation(store_path)
    for number in (1, 2, 3):
        correct(location, "cam", {"clock.start": str(1000 * number)})
        # The second change writes where the first metadata looks.
        assert held[0] == {1: 0, 2: 2000, 3: 2000}[number]
        assert (held[1:] > held[:-1]).all()
        assert verify(location).ok
        assert zarr.open_array(store_path, path="cam/time", mode="r")[0] == 1000 * number
    assert len([path for path in (store_path / "cam/time").rglob("*") if path.is_file()]) == 3
    ls.convert(frames[:200], store_path, name="cam", overwrite=True)
    assert len([path for path in (store_path / "cam/time").rglob("*") if path.is_file()]) == 2
