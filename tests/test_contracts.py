"""Every source and every reader passes the one contract of its seam."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazystore.protocols import Source
from lazystore.schema import ArraySpec, Codec
from lazystore.sources.registry import open_sources
from lazystore.store.direct import DirectChunkReader
from lazystore.store.location import LocalLocation
from lazystore.store.shard import encode_file
from lazystore.testing import check_chunk_reader, check_source
from tests.samples import SAMPLES

# --- sources --------------------------------------------------------------------------------------


def check_every_stream(open_streams: Callable[[], Sequence[Source]], **how: Any) -> None:
    """Run the contract on each stream of a recording; the others are closed each time."""
    count = len(close_but(open_streams(), None))

    for number in range(count):
        check_source(lambda number=number: close_but(open_streams(), number)[number], **how)


def close_but(streams: Sequence[Source], kept: int | None) -> Sequence[Source]:
    for number, stream in enumerate(streams):
        if number != kept:
            stream.close()
    return streams


@pytest.mark.parametrize("name", [name for name in SAMPLES if name != "times.csv"])
def test_formats_made_here(tmp_path: Path, name: str) -> None:
    """Each of the documentation's sample recordings, through the front door of the sources."""
    SAMPLES[name](tmp_path / name)
    check_every_stream(lambda: open_sources(tmp_path / name))
    check_every_stream(lambda: open_sources(tmp_path / name), max_records=20)


CORPUS = [
    "video/bikes.mp4",
    "video/carphone_pristine.mp4",
    "video/bulk-water.mov",
    "video/h264_10bits.mp4",
    "video/nasa_13013_rotated.mp4",
    "video/test_non_zero_start.mp4",
    "stack/stuck.tif",
    "stack/brightfield",
    "events/faery_evt2.raw",
    "events/dsec_layout.h5",
    "events/evio_layout.h5",
    "events/dat_v2_layout.dat",
]


@pytest.mark.parametrize("name", CORPUS)
def test_real_recordings(corpus: Path, name: str) -> None:
    """Real recordings, in windows at both ends and in the middle."""
    check_every_stream(lambda: open_sources(corpus / name), max_records=9 if "video" in name else 60_000)


def test_arrays_in_memory() -> None:
    """Arrays, lists of rows and xarray objects."""
    import xarray as xr

    field = np.random.default_rng(1).normal(size=(30, 8))
    check_every_stream(lambda: open_sources(field), expected={"data": field})
    check_every_stream(lambda: open_sources(list(field)), expected={"data": field})
    check_every_stream(
        lambda: open_sources(xr.DataArray(field, dims=("time", "bin"))), expected={"data": field}
    )


def test_joined_files(tmp_path: Path) -> None:
    """A recording split over files is one source."""
    field = np.random.default_rng(2).normal(size=(30, 8))
    for number, part in enumerate((field[:11], field[11:12], field[12:])):
        np.save(tmp_path / f"part{number}.npy", part)
    paths = sorted(tmp_path.glob("*.npy"))
    check_every_stream(lambda: open_sources(paths), expected={"data": field})


# --- readers --------------------------------------------------------------------------------------

LAYOUTS = {
    "sharded": ((6, 5), (12, 10), Codec("zstd", 3)),
    "plain chunks": ((6, 5), None, Codec("lz4", 5, "bitshuffle")),
    "not compressed": ((4, 23), (8, 23), Codec("none", 0)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8", "?"])
def test_direct_reader(tmp_path: Path, layout: str, dtype: str) -> None:
    """The direct reader over each layout that lazystore writes."""
    chunks, shards, codec = LAYOUTS[layout]
    array = (np.random.default_rng(3).random((31, 23)) * 200).astype(dtype)
    spec = ArraySpec("data", ("time", "bin"), array.shape, array.dtype, chunks, shards, codec)
    location = LocalLocation(tmp_path)
    for index in np.ndindex(
        *(-(-size // length) for size, length in zip(array.shape, spec.write_shape, strict=True))
    ):
        part = tuple(slice(i * n, (i + 1) * n) for i, n in zip(index, spec.write_shape, strict=True))
        location.write(f"data/{spec.key(index)}", encode_file(spec, index, array[part]).parts)
    check_chunk_reader(lambda: DirectChunkReader(location, "data", spec), array)
