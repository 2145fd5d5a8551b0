"""What a type checker sees of the public API; checked by `make lint`, never run."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, assert_type

import dask.array
import numpy as np
import xarray as xr
from numpy.typing import NDArray

import lazystore as ls
from lazystore.clock import MatchedTimes, match_times
from lazystore.foreign import ForeignStore
from lazystore.protocols import ChunkReader, Source
from lazystore.testing import (
    ArrayChunkReader,
    ColumnsSource,
    CountingReader,
    check_chunk_reader,
    check_source,
)
from lazystore.units import convert as convert_units


def convert_and_open(recording: Path) -> None:
    assert_type(ls.convert(recording, "session.zarr", codec="fast"), ls.ConversionReport)
    with ls.open("session.zarr") as store:
        assert_type(store, ls.Store | ForeignStore)
        assert_type(list(store), list[str])
        assert_type(store.to_xarray(), xr.DataTree)


def read(array: ls.LazyArray) -> None:
    assert_type(array.shape, tuple[int, ...])
    assert_type(array.dtype, np.dtype[Any])
    assert_type(array.load(), NDArray[Any])
    assert_type(array.to_xarray(), xr.DataArray)
    assert_type(array.to_dask(), dask.array.Array)


def times(clock: ls.Clock) -> None:
    assert_type(clock.to_session(1.5), float)
    assert_type(clock.to_session(np.arange(3)), NDArray[np.float64])
    assert_type(clock.to_native(1.5), float)
    assert_type(clock.first_tick_at(1.5, Fraction(1, 1000)), int)
    assert_type(match_times([0.0, 0.1], 2, "head"), MatchedTimes)
    assert_type(convert_units(3, "ms", "s"), Fraction)
    assert_type(convert_units(3.0, "ms", "s"), float)


def extend() -> None:
    """Whatever implements a protocol is accepted where the protocol is asked for."""
    reader: ChunkReader = CountingReader(ArrayChunkReader(np.zeros((4, 4)), (2, 4)))
    source: Source = ColumnsSource({"data": np.zeros((4, 4))})
    check_chunk_reader(lambda: reader, np.zeros((4, 4)))
    check_source(lambda: source)
