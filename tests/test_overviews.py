"""Overviews along time: exact, read by plain xarray, resumable, and what reductions are made of."""

from __future__ import annotations

import itertools
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import lazystore as ls
from lazystore.array.lazy_array import LazyArray
from lazystore.array.overviews import StoredOverviews
from lazystore.cli import main
from lazystore.errors import UsageError
from lazystore.overviews.levels import Levels, Preview, choose_levels, exact_levels
from lazystore.overviews.rows import joined, row_of_frames, variance_of_integers

RANDOM = np.random.default_rng(7)
OPERATIONS = ("sum", "mean", "min", "max", "var", "std")


def movie(dtype: str, shape: tuple[int, ...] = (700, 24, 30)) -> NDArray[Any]:
    """Every value of a one- or two-byte type occurs; floats lie around a mean that is not 0."""
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return (RANDOM.normal(5, 2, shape)).astype(kind)
    if kind.kind == "b":
        return RANDOM.random(shape) > 0.4
    limits = np.iinfo(kind)
    return RANDOM.integers(limits.min, limits.max, shape, kind, endpoint=True)


def stored(values: NDArray[Any], path: Path, **options: Any) -> LazyArray:
    """The values converted, as an item that is open."""
    ls.convert(values, path, name="movie", kind="stack" if values.ndim > 2 else "field", **options)
    array: LazyArray = ls.open(path)["movie"]
    return array


def assert_equals_numpy(lazy: LazyArray, values: NDArray[Any]) -> None:
    """Sums and extremes to the bit; means and spreads within 1e-12 of float64's."""
    wide = values.astype(np.float64)
    for operation in OPERATIONS:
        found = getattr(lazy, operation)("time")
        if operation in ("min", "max"):
            np.testing.assert_array_equal(found, getattr(values, operation)(axis=0))
        elif operation == "sum" and values.dtype.kind != "f":
            expected = values.sum(axis=0)
            np.testing.assert_array_equal(found, expected)
            assert found.dtype == expected.dtype
        else:
            np.testing.assert_allclose(found, getattr(wide, operation)(axis=0), rtol=1e-12, atol=0)


# --- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "?", "u4", "i4", "f2", "f4", "f8"])
def test_reductions_over_any_range_are_those_of_numpy(dtype: str, store_path: Path) -> None:
    """On borders of bins and off them, to the end, of parts of frames: all are exact."""
    # Truth values take an eighth of a byte, so their bins are longer.
    length = 3000 if dtype == "?" else 700
    values = movie(dtype, (length, 24, 30))
    lazy = stored(values, store_path, overview="exact")
    n = Levels.from_json(lazy.attrs["lazystore"]["overview"]).exact[0]
    assert n < length
    ranges = [
        (0, length),
        (n, 3 * n),
        (n - 1, 2 * n + 1),
        (1, length - 1),
        (2 * n, length),
        (n + 3, n + 9),
        (5, 6),
    ]
    for start, stop in ranges:
        assert_equals_numpy(lazy[start:stop], values[start:stop])
        assert_equals_numpy(lazy[start:stop, 3:20:2, 7], values[start:stop, 3:20:2, 7])
    assert lazy.mean() == pytest.approx(values.astype(np.float64).mean(), rel=1e-12)
    assert lazy[: 2 * n].max(("time", "x")).tolist() == values[: 2 * n].max(axis=(0, 2)).tolist()


def test_any_range_of_a_field(store_path: Path) -> None:
    """Ranges, strides and reversals give what numpy gives."""
    values = movie("f4", (900, 40))
    lazy = stored(values, store_path, overview="exact")

    @settings(max_examples=60, deadline=None)
    @given(start=st.integers(0, 899), length=st.integers(1, 900), step=st.sampled_from([1, 1, 1, 2, -1]))
    def check(start: int, length: int, step: int) -> None:
        which = slice(start, start + length)
        assert_equals_numpy(lazy[which][::step], values[which][::step])

    check()


def test_only_the_ends_are_read(store_path: Path) -> None:
    """Whole bins need no frame; elsewhere no frame is read that a whole bin holds."""
    values = movie("u1")
    lazy = stored(values, store_path, overview="exact", chunks=1)
    n = Levels.from_json(lazy.attrs["lazystore"]["overview"]).exact[0]
    reads: list[Any] = []
    reader = lazy.view.reader
    read = reader.read_through_into  # type: ignore[attr-defined]  # a cached reader has it

    def counted(indices: Any, memories: Any) -> Any:
        reads.extend(indices)
        return read(indices, memories)

    reader.read_through_into = counted  # type: ignore[attr-defined]  # as above
    lazy[n : 3 * n].std("time")
    assert not reads
    lazy[n - 2 : 3 * n + 3].mean("time")
    assert sorted(index[0] for index in reads) == [n - 2, n - 1, 3 * n, 3 * n + 1, 3 * n + 2]


def test_values_that_are_not_finite_are_not_lost(store_path: Path) -> None:
    """A NaN or infinity in a range shows in its mean as numpy shows it."""
    values = movie("f4", (900, 40))
    values[100, 3], values[500, 7] = np.nan, np.inf
    lazy = stored(values, store_path, overview="exact")
    with np.errstate(invalid="ignore"):
        for start, stop in ((0, 900), (0, 400), (401, 900), (600, 900)):
            part = values[start:stop].astype(np.float64)
            for operation in ("sum", "mean", "min", "max"):
                found = getattr(lazy[start:stop], operation)("time")
                np.testing.assert_allclose(found, getattr(part, operation)(axis=0), rtol=1e-12)
    np.testing.assert_allclose(lazy.mean("time", skipna=True)[3], np.nanmean(values[:, 3].astype("f8")))


def test_variance_does_not_cancel() -> None:
    """Large values with a small spread: the spread is still right to the last digits."""
    values = 60_000 + RANDOM.integers(0, 3, (4096, 50)).astype(np.uint16)
    row = row_of_frames(values)
    variance = variance_of_integers(row["sum"], row["sum_squares"], len(values), 0)
    np.testing.assert_allclose(variance, (values - 60_000.0).var(axis=0), rtol=1e-13)
    assert np.isnan(variance_of_integers(row["sum"], row["sum_squares"], 1, 1)).all()


@given(st.integers(1, 5000), st.integers(0, 5000), st.integers(1, 5000))
def test_a_cover_is_the_range_and_nothing_twice(n_frames: int, start: int, length: int) -> None:
    """Bins of several sizes make up what `borders` says, in order."""
    overviews = StoredOverviews(Levels(exact_levels(n_frames, 16)), lambda path: pytest.fail(path))
    borders = overviews.borders(min(start, n_frames), min(start + length, n_frames), n_frames)
    if borders is None:
        return
    covered = [
        (number * n, min((number + 1) * n, n_frames))
        for n, bins in overviews.cover(*borders, n_frames)
        for number in bins
    ]
    assert covered[0][0] == borders[0]
    assert covered[-1][1] == borders[1]
    assert all(left[1] == right[0] for left, right in itertools.pairwise(covered))
    assert len(covered) <= 2 * 3 * len(overviews.levels.exact) + 4


# --- what is stored --------------------------------------------------------------------------------


def test_every_level_holds_what_it_says(store_path: Path) -> None:
    """Sums, squares and extremes of every bin, the last one shorter; times of the bins' first frames."""
    values = movie("u1", (1000, 24, 30))
    lazy = stored(values, store_path, overview="exact")
    levels = Levels.from_json(lazy.attrs["lazystore"]["overview"])
    assert len(levels.exact) > 1
    store = ls.open(store_path)
    for n in levels.exact:
        parts = [values[i : i + n].astype(np.int64) for i in range(0, 1000, n)]
        for name, of in (("sum", lambda p: p.sum(0)), ("sum_squares", lambda p: (p * p).sum(0)),
                         ("min", lambda p: p.min(0)), ("max", lambda p: p.max(0))):  # fmt: skip
            np.testing.assert_array_equal(store[f"movie/overview/{n}/{name}"], [of(p) for p in parts])
        np.testing.assert_array_equal(store[f"movie/overview/{n}/time_{n}"], np.arange(0, 1000, n))


def test_small_pictures(store_path: Path) -> None:
    """Mean, smallest and largest value of blocks of pixels and bins of frames; ends are smaller blocks."""
    values = movie("u1", (120, 110, 203))
    lazy = stored(values, store_path, overview="preview", codec="none")
    preview = Levels.from_json(lazy.attrs["lazystore"]["overview"]).preview
    assert preview is not None
    assert preview.factor == 4
    store, n, factor = ls.open(store_path), preview.n, preview.factor
    for name, of in (("mean", lambda p: np.rint(p.mean())), ("min", np.min), ("max", np.max)):
        found = np.asarray(store[f"movie/overview/{n}/{name}"])
        assert found.shape == (math.ceil(120 / n), 28, 51)
        for t, y, x in [(0, 0, 0), (0, 27, 50), (found.shape[0] - 1, 13, 50), (1, 27, 4)]:
            block = values[t * n : (t + 1) * n, y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
            assert found[t, y, x] == of(block)
    np.testing.assert_array_equal(store[f"movie/overview/{n}/y_{n}"][[0, 27]], [1.5, 108.5])


def test_plain_xarray_reads_them(store_path: Path) -> None:
    """A tree with a group for every level, without a warning and without lazystore's engine."""
    import xarray as xr

    values = movie("u1", (1000, 24, 30))
    stored(values, store_path, overview="exact")
    with xr.open_datatree(store_path, engine="zarr") as tree:
        groups = tree["movie/overview"].children
        level = tree["movie/overview"][max(groups, key=int)]
        n = int(level.name or 0)
        np.testing.assert_array_equal(level["sum"][0], values[:n].sum(axis=0))
        assert level["sum"].dims == (f"time_{n}", "y", "x")


def test_missing_frames_count_for_nothing(tmp_path: Path, store_path: Path) -> None:
    """Damaged pictures of a folder are left out of every sum, and reading over them is an error."""
    imageio = pytest.importorskip("imageio.v3")
    values = movie("u1", (200, 10, 12))
    for number, picture in enumerate(values):
        imageio.imwrite(tmp_path / f"p{number:03}.png", picture)
    (tmp_path / "p007.png").write_bytes(b"no picture")
    ls.convert(tmp_path, store_path, name="movie", overview="exact")
    lazy = ls.open(store_path)["movie"]
    n = Levels.from_json(lazy.attrs["lazystore"]["overview"]).exact[0]
    kept = np.delete(values[:n], 7, axis=0)
    np.testing.assert_array_equal(np.asarray(ls.open(store_path)[f"movie/overview/{n}/sum"])[0], kept.sum(0))
    with pytest.raises(ls.errors.MissingFrameError, match="7"):
        lazy[:n].mean("time")
    assert_equals_numpy(lazy[n:], values[n:])


def test_overviews_of_packets_resume_like_the_rest(tmp_path: Path, store_path: Path) -> None:
    """A video kept as packets has small pictures of its frames, the same after an interruption."""
    av = pytest.importorskip("av")
    path = tmp_path / "scene.mp4"
    frames = movie("u1", (90, 48, 64))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "gray")))
        container.mux(stream.encode())
    options: dict[str, Any] = {"name": "scene", "shards": 1 << 14, "chunks": 1 << 12,
                               "codec": "encoded"}  # fmt: skip

    def stop(progress: Any) -> None:
        if progress.records > progress.total_records // 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ls.convert(path, store_path, progress=stop, **options)
    resumed = ls.convert(path, store_path, **options)
    assert resumed.items[0].tasks_resumed
    other = tmp_path / "whole.zarr"
    ls.convert(path, other, **options)
    files = sorted(p.relative_to(other) for p in other.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(store_path) for p in store_path.rglob("*") if p.is_file())
    assert all((other / p).read_bytes() == (store_path / p).read_bytes() for p in files)
    store = ls.open(store_path)
    preview = Levels.from_json(store["scene"].attrs["lazystore"]["overview"]).preview
    assert preview is not None
    decoded = np.asarray(store["scene"])
    found = np.asarray(store[f"scene/overview/{preview.n}/mean"])
    first = decoded[: preview.n].reshape(-1, 48 // preview.factor, preview.factor, 64 // preview.factor,
                                         preview.factor, *decoded.shape[3:]).mean(axis=(0, 2, 4))  # fmt: skip
    np.testing.assert_array_equal(found[0], np.rint(first))


def test_a_corrected_clock_moves_the_bins(store_path: Path) -> None:
    """`lazystore set` moves the bins' times with the frames'; verify finds nothing wrong."""
    values = movie("u1", (1000, 24, 30))
    ls.convert(values, store_path, name="movie", kind="stack", overview="exact", rate_hz=10)
    assert main(["set", os.fspath(store_path), "movie", "clock.start=100"]) == 0
    store = ls.open(store_path)
    for n in Levels.from_json(store["movie"].attrs["lazystore"]["overview"]).bins:
        np.testing.assert_allclose(store[f"movie/overview/{n}/time_{n}"], 100 + np.arange(0, 1000, n) / 10)
    assert store.verify().ok


# --- which there are -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_the_default_costs_less_than_a_seventh(dtype: str, store_path: Path) -> None:
    """Of what the movie itself takes, sums and small pictures together, all of it measured on disk."""
    smooth = np.cumsum(RANDOM.normal(0, 3, (2000, 40, 50)), axis=0) + 128
    values = smooth.clip(0, 255).astype(dtype)
    lazy = stored(values, store_path)
    assert Levels.from_json(lazy.attrs["lazystore"]["overview"]).exact

    def size(folder: str) -> int:
        files = (store_path / "movie" / folder).rglob("*")
        return sum(path.stat().st_size for path in files if path.is_file() and path.suffix != ".json")

    assert size("overview") < size("data") * 0.15


def test_modes(store_path: Path) -> None:
    """None of it, small pictures only, or everything; another word is refused."""
    values = movie("u1")
    for mode, has_exact, has_preview in (("none", 0, 0), ("preview", 0, 1), ("exact", 1, 1)):
        lazy = stored(values, store_path, overview=mode, overwrite=store_path.exists())
        levels = Levels.from_json(lazy.attrs["lazystore"].get("overview"))
        assert (bool(levels.exact), levels.preview is not None) == (has_exact, has_preview)
        assert_equals_numpy(lazy[10:600], values[10:600])
        lazy.close()
    with pytest.raises(UsageError, match="overview 'all' is unknown; expected none, preview, exact"):
        ls.convert(values, store_path, name="other", kind="stack", overview="all")
    with pytest.raises(UsageError, match="for fields, video and stacks, not for series"):
        ls.convert(values[:, 0, 0], store_path, name="other", kind="series", overview="exact")


def test_a_short_movie_gets_none() -> None:
    """Where sums of a whole bin cost more than they save, there are no bins."""
    assert not choose_levels((20, 480, 640), ("time", "y", "x"), np.dtype("u1"), 2_000_000).exact
    assert not choose_levels((9, 3), ("time", "channel"), np.dtype("c8"), 100)


def test_enough_pictures_come_before_large_ones() -> None:
    """Pictures get smaller where the room would otherwise hold too few to see the recording's course."""
    shape, dims = (1200, 96, 96, 3), ("time", "y", "x", "channel")
    factors = []
    for stored_bytes in (100_000_000, 2_000_000, 400_000):
        preview = choose_levels(shape, dims, np.dtype("u1"), stored_bytes, is_encoded=True).preview
        assert preview is not None
        factors.append(preview.factor)
        assert math.ceil(shape[0] / preview.n) >= 16
    assert factors == sorted(factors)
    assert factors[0] == 1 < factors[-1]
    assert 96 / factors[-1] >= 24


def test_levels_survive_their_attributes() -> None:
    """What is written in the item is what is read."""
    for levels in (Levels(), Levels((64, 256), Preview(16, 4)), Levels((16,))):
        assert Levels.from_json(levels.to_json()) == levels
    assert Levels.from_json(None) == Levels()


def test_rows_join_to_the_row_of_all() -> None:
    """However frames are cut into bins, joined rows are the row of all frames."""
    for dtype in ("u1", "i2", "f8"):
        values = movie(dtype, (50, 9))
        whole = row_of_frames(values)
        parts = joined(
            joined(row_of_frames(values[:7]), row_of_frames(values[7:8])), row_of_frames(values[8:])
        )
        for name, expected in whole.items():
            np.testing.assert_allclose(parts[name], expected, rtol=1e-13)


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_any_seconds_of_a_colour_movie(dtype: str, store_path: Path) -> None:
    """Labels, crops, single colours: reductions and ranges are numpy's, from whatever they are taken."""
    values = movie(dtype, (300, 12, 10, 3))
    lazy = stored(values, store_path, overview="exact", chunks=7, rate_hz=20)

    @settings(max_examples=40, deadline=None)
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        first = data.draw(st.integers(0, 299))
        last = data.draw(st.integers(first, 299))
        y, x = (sorted(data.draw(st.tuples(st.integers(0, 9), st.integers(0, 9)))) for _ in "yx")
        colour = data.draw(st.sampled_from([slice(None), slice(1, 3), 2]))
        parts = (slice(y[0], y[1] + 1), slice(x[0], x[1] + 1, data.draw(st.sampled_from([1, 2]))), colour)
        seconds = lazy.coords["time"]
        of_seconds = lazy.sel(time=slice(seconds[first], seconds[last]))
        for part, expected in (
            (of_seconds, values[first : last + 1]),
            (of_seconds[:, *parts], values[first : last + 1, *parts]),
        ):
            assert_equals_numpy(part, expected)
            wide = expected.astype(np.float64)
            assert part.mean() == pytest.approx(wide.mean(), rel=1e-12)
            assert part.std() == pytest.approx(wide.std(), rel=1e-11, abs=1e-11)
            np.testing.assert_allclose(part.mean(axis=(1, 2)), wide.mean(axis=(1, 2)), rtol=1e-12)
            assert part.range() == (expected.min(), expected.max())
            found, bound = part.range(percentile=(3, 95), exact=True), 1e-6 if dtype == "f4" else 1e-12
            np.testing.assert_allclose(found, np.percentile(wide, (3, 95)), rtol=bound)

    check()
    lazy.close()
