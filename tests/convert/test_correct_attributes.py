"""What a person sets on an item is there in every reader."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import lazystore as ls
from lazystore.convert.correct import correct
from lazystore.store.location import LocalLocation


def test_attributes_of_ones_own_are_seen_by_our_reader_too(store_path: Path) -> None:
    """`lazystore set ITEM subject=M1` shows in ``store[item].attrs`` as it does in plain zarr."""
    ls.convert(np.zeros((3, 4, 5), np.uint8), store_path, name="cam")
    correct(LocalLocation(store_path), "cam", {"subject": "M1", "age_days": "90"})
    with ls.open(store_path) as store:
        assert store["cam"].attrs["subject"] == "M1"
        assert store["cam"].attrs["age_days"] == 90
        assert store["cam"].attrs["lazystore"]["kind"] == "stack"
