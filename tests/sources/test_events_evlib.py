"""Prophesee RAW and HDF5 against evlib, a second implementation that knows nothing of us."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray

from lazystore.sources.registry import open_sources
from tests.sources.event_files import Events, some_events, write_dsec, write_evio, write_raw

# evlib counts wraps of EVT3's 24-bit clock from the file's beginning, as we do.
STARTS = {"near zero": 0, "over a wrap of EVT3's clock": (1 << 24) - 20_000, "after many": 1 << 30}


def decoded_by_evlib(path: Path) -> dict[str, NDArray[Any]]:
    """t in µs, x, y, and p as 0/1; evlib sorts by time, and keeps the order where times are equal."""
    # evlib points HDF5_PLUGIN_PATH at hdf5plugin, which breaks its filters for child processes.
    with mock.patch.dict(os.environ):
        evlib = pytest.importorskip("evlib")
        table = evlib.load_events(str(path)).collect()
    return {
        "t": table["t"].dt.total_microseconds().to_numpy(),
        "x": table["x"].to_numpy(),
        "y": table["y"].to_numpy(),
        "p": table["polarity"].to_numpy() > 0,
    }


def decoded_here(path: Path) -> dict[str, NDArray[Any]]:
    (source,) = open_sources(path)
    with closing(source):
        return dict(source.read(0, source.info.length).columns)


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
@pytest.mark.parametrize("name", ["evt2", "evt21", "evt3"])
def test_raw_equals_evlib(tmp_path: Path, name: str, start: int) -> None:
    """Single and vectorised words, triggers among them, event by event."""
    events = some_events(20_000, seed=start % 7, start=start)
    path = tmp_path / "a.raw"
    write_raw(name)(path, events)
    found, expected = decoded_here(path), decoded_by_evlib(path)
    for column, values in expected.items():
        np.testing.assert_array_equal(found[column], values, err_msg=column)
    assert len(found["t"]) == len(events)


def test_evio_equals_evlib(tmp_path: Path) -> None:
    events = some_events(5000)
    path = tmp_path / "a.h5"
    write_evio(path, Events(events.t, events.x, events.y, events.p))
    found = decoded_here(path)
    for column, values in decoded_by_evlib(path).items():
        np.testing.assert_array_equal(found[column], values, err_msg=column)


def test_dsec_equals_evlib_but_for_the_offset(tmp_path: Path) -> None:
    """evlib leaves `t_offset` out."""
    events = some_events(5000)
    path = tmp_path / "a.h5"
    write_dsec(path, Events(events.t, events.x, events.y, events.p))
    found, expected = decoded_here(path), decoded_by_evlib(path)
    expected["t"] = expected["t"] + events.t[0]
    for column, values in expected.items():
        np.testing.assert_array_equal(found[column], values, err_msg=column)
