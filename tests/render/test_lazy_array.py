"""Renderers over a LazyArray: only the chunks of frames shown are read, and ranges come from statistics."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lazystore
from lazystore.array import LazyArray
from lazystore.array.statistics import StoredStatistics
from lazystore.geometry import Geometry
from lazystore.render import (
    ChunkedLazyFieldRenderer,
    LazyFieldRenderer,
    ScalarFieldImages,
    compute_global_colormap_range,
    create_lazy_field_renderer,
    estimate_colormap_range_from_subset,
)
from lazystore.testing.fakes import ArrayChunkReader, CountingReader

from .conftest import LOOKUP, grid_environment

VALUES = np.random.default_rng(0).random((40, 12)).astype("f4")
VALUES[3, 5] = np.nan
ENV = grid_environment((4, 3), None)


def stored(values: Any, chunk: int = 4, *, statistics: bool = False) -> tuple[LazyArray, CountingReader]:
    """A LazyArray over chunks in memory, and what counts its reads."""
    reader = CountingReader(ArrayChunkReader(values, (chunk, values.shape[1]), ("time", "bin")))
    known = None
    if statistics:
        readers = {
            "min": ArrayChunkReader(np.nanmin(values, axis=1), (8,), ("time",)),
            "max": ArrayChunkReader(np.nanmax(values, axis=1), (8,), ("time",)),
        }
        if values.dtype == np.uint8:
            counts = np.stack([np.bincount(frame, minlength=256) for frame in values]).astype("u8")
            readers["histogram"] = ArrayChunkReader(counts, (8, 256), ("time", "level"))
        known = StoredStatistics(readers, reader.spec)
    return LazyArray(reader, name="rate", statistics=known), reader


@pytest.mark.parametrize("chunk", [1, 4])
@pytest.mark.parametrize("cls", [LazyFieldRenderer, ChunkedLazyFieldRenderer])
def test_a_lazy_array_paints_as_its_values(cls: Any, chunk: int) -> None:
    """And reads one chunk for one frame, none to be made."""
    array, reader = stored(VALUES, chunk)
    renderer = cls(ENV, array, LOOKUP, 0.1, 0.9)
    assert renderer.shape == (40, 3, 4, 3)
    assert reader.chunks.total() == 0
    expected = LazyFieldRenderer(ENV, VALUES, LOOKUP, 0.1, 0.9)
    np.testing.assert_array_equal(renderer[17], expected[17])
    assert reader.chunks.total() == 1
    np.testing.assert_array_equal(renderer[:], expected[:])
    part = create_lazy_field_renderer(ENV, array[10:30:2], LOOKUP, 0.1, 0.9)
    np.testing.assert_array_equal(part[:], expected[10:30:2])
    uncounted = cls(ENV, LazyArray(ArrayChunkReader(VALUES, (chunk, 12), ("time", "bin"))), LOOKUP, 0.1, 0.9)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(uncounted))[3], expected[3])


def test_a_converted_recording_paints_as_its_source(store_path: Path, environments: dict[str, Any]) -> None:
    """From a .npy file to frames, range and pickle, with the geometry that the store keeps."""
    env = environments["masked"]
    values = np.random.default_rng(2).random((30, env.n_bins)).astype("f4")
    np.save(store_path.with_name("rate.npy"), values)
    lazystore.convert(store_path.with_name("rate.npy"), store_path, env=env)
    with lazystore.open(store_path) as session:
        fields = session["rate"]
        record = session.records["rate"]
        paths = ("geometry/active_mask", "geometry/bin_centers")
        geometry = Geometry.from_item(
            record.attributes["geometry"], {path: session.array_values(record.name, path) for path in paths}
        )
        vmin, vmax = compute_global_colormap_range(fields)
        assert (vmin, vmax) == compute_global_colormap_range(values)
        expected = LazyFieldRenderer(env, values, LOOKUP, vmin, vmax)[:]
        renderer = LazyFieldRenderer(geometry, fields, LOOKUP, vmin, vmax)
        np.testing.assert_array_equal(renderer[:], expected)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(renderer))[-1], expected[-1])


def test_scalar_images_of_a_lazy_array_are_lazy_too() -> None:
    array, reader = stored(VALUES, 1)
    images = ScalarFieldImages(ENV, array)
    cut = images[:, 1:3]
    assert reader.chunks.total() == 0
    np.testing.assert_array_equal(cut[5], np.asarray(images)[5, 1:3])


def test_ranges_come_from_statistics_without_a_frame() -> None:
    """Of the whole recording and of a part of it."""
    array, reader = stored(VALUES, statistics=True)
    assert compute_global_colormap_range(array) == compute_global_colormap_range(VALUES)
    assert compute_global_colormap_range(array[8:20]) == compute_global_colormap_range(VALUES[8:20])
    assert ScalarFieldImages(ENV, array).contrast_limits == compute_global_colormap_range(VALUES)
    assert reader.chunks.total() == 0


def test_percentiles_of_bytes_are_exact_without_a_frame() -> None:
    """All frames count, though fewer samples are asked for."""
    values = np.random.default_rng(1).integers(0, 90, (40, 12)).astype("u1")
    array, reader = stored(values, statistics=True)
    expected = tuple(float(np.percentile(values, one)) for one in (1.0, 99.0))
    assert estimate_colormap_range_from_subset(array, n_samples=2) == expected
    assert reader.chunks.total() == 0


def test_ranges_without_statistics_read_each_frame_once() -> None:
    array, reader = stored(VALUES)
    assert compute_global_colormap_range(array) == compute_global_colormap_range(VALUES)
    assert reader.chunks.total() == 10
