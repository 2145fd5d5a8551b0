"""The public contract suite, run by every source of arrays and images and by every wrapper."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazystore.geometry import Geometry
from lazystore.protocols import Source, Ticks
from lazystore.sources.casting import CastSource
from lazystore.sources.concat import ConcatSource
from lazystore.sources.geometry import GeometrySource
from lazystore.sources.registry import open_sources
from lazystore.sources.rows import RowSource
from lazystore.sources.selection import SelectedSource
from lazystore.testing.sources import check_source
from tests.sources.fakes import FakeSource, stack

FIELD = np.random.default_rng(1).random((50, 6)).astype("f4")
FRAMES = np.random.default_rng(2).integers(0, 200, (12, 9, 8)).astype("u2")
TICKS = Ticks(Fraction(1, 30))


def npy(path: Path) -> tuple[Any, Any]:
    np.save(path / "a.npy", FIELD)
    return path / "a.npy", FIELD


def fortran_column(path: Path) -> tuple[Any, Any]:
    column = np.asarray(FIELD[:, :1], order="F")
    header = {"descr": "<f4", "fortran_order": True, "shape": column.shape}
    with (path / "a.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(column.tobytes())
    return path / "a.npy", column


def npz(path: Path) -> tuple[Any, Any]:
    np.savez_compressed(path / "a.npz", fields=np.asarray(FIELD, order="F"))
    return path / "a.npz", FIELD


def hdf5(path: Path) -> tuple[Any, Any]:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path / "a.h5", "w") as file:
        file.create_dataset("x", data=FIELD, chunks=(7, 6), compression="gzip")
    return path / "a.h5", FIELD


def zarr_array(path: Path) -> tuple[Any, Any]:
    zarr = pytest.importorskip("zarr")
    zarr.create_array(path / "a.zarr", data=FIELD, chunks=(7, 6))
    return path / "a.zarr", FIELD


def netcdf(path: Path) -> tuple[Any, Any]:
    xr = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    coords = {"time": np.arange(50) ** 2 / 10}
    array = xr.DataArray(FIELD, dims=("time", "cell"), coords=coords, name="rate")
    array.to_netcdf(path / "a.nc", engine="h5netcdf")
    return path / "a.nc", FIELD


def data_array(path: Path) -> tuple[Any, Any]:
    xr = pytest.importorskip("xarray")
    return xr.DataArray(FIELD.copy(), dims=("time", "cell")), FIELD


def array(path: Path) -> tuple[Any, Any]:
    return FIELD.copy(), FIELD


def tiff(path: Path) -> tuple[Any, Any]:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(path / "a.tif", FRAMES, photometric="minisblack")
    return path / "a.tif", FRAMES


def packed_tiff(path: Path) -> tuple[Any, Any]:
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(path / "a.tif", FRAMES, photometric="minisblack", compression="zlib")
    return path / "a.tif", FRAMES


def images(path: Path) -> tuple[Any, Any]:
    iio = pytest.importorskip("imageio.v3")
    for number, frame in enumerate(FRAMES):
        iio.imwrite(path / f"{number}.png", frame)
    return path, FRAMES


@pytest.mark.parametrize(
    "make",
    [
        npy,
        fortran_column,
        npz,
        hdf5,
        zarr_array,
        netcdf,
        data_array,
        array,
        tiff,
        packed_tiff,
        images,
    ],
)
def test_sources_keep_every_promise(make: Callable[[Path], tuple[Any, Any]], tmp_path: Path) -> None:
    """Order of reads, pieces, two sources at once, results that belong to the caller, an info that stays."""
    source, expected = make(tmp_path)
    check_source(lambda: open_sources(source)[0], {"data": expected})


def selected() -> tuple[Source, Any]:
    inner = stack(40, ticks=TICKS, missing=[3, 20])
    return SelectedSource(inner, time=(0.1, 1.2), crop=(1, 4, 0, 5), every=3), inner.columns["data"][
        3:36:3, 1:4, :5
    ]


def cast() -> tuple[Source, Any]:
    inner = stack(40, ticks=TICKS)
    return CastSource(inner, dtype="f8"), inner.columns["data"].astype("f8")


def joined() -> tuple[Source, Any]:
    parts = [stack(n, ticks=TICKS, missing=[0]) for n in (5, 1, 9)]
    return ConcatSource(parts), np.concatenate([part.columns["data"] for part in parts])


def placed() -> tuple[Source, Any]:
    geometry = Geometry("points", 6, 2, np.zeros((6, 2)))
    return GeometrySource(FakeSource("field", {"data": FIELD}, ticks=TICKS), geometry), FIELD


@pytest.mark.parametrize("make", [selected, cast, joined, placed])
def test_wrappers_keep_every_promise(make: Callable[[], tuple[Source, Any]]) -> None:
    """A source around a source is a source."""
    check_source(lambda: make()[0], {"data": make()[1]})


def test_rows_keep_every_promise() -> None:
    """So is a choice of events."""
    t = np.array([5, 3, 9, 9, 12, 11, 30])

    def make() -> Source:
        return RowSource(FakeSource("events", {"t": t.copy(), "p": np.arange(7) % 2}), time=(5e-6, 12e-6))

    check_source(make, {"t": t[[0, 2, 3, 5]], "p": np.array([0, 0, 1, 1])})
