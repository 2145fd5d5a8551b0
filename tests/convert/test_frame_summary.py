"""Per-frame statistics against numpy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lazystore as ls
from lazystore.convert.frame_summary import has_statistics, statistics_of_frames

INTEGERS = ["?", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"]
FLOATS = ["f2", "f4", "f8"]


def frames_of(dtype: str, seed: int = 0) -> np.ndarray[Any, Any]:
    """Five frames with the dtype's extremes in them; floats with NaN, infinities, a frame of none."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return rng.integers(0, 2, (5, 3, 4)).astype(bool)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        # Sums of wide integers are kept as float64; those of 32 bits and less are exact.
        frames = rng.integers(limits.min, limits.max, (5, 3, 4), dtype=kind, endpoint=True)
        frames[0, 0, :2] = limits.min, limits.max
        return frames
    frames = (rng.standard_normal((5, 3, 4)) * 100).astype(kind)
    frames[0, 0, 0] = np.nan
    frames[1, 0, :3] = np.inf, -np.inf, -0.0
    frames[2] = np.nan
    frames[3, 0, 0] = np.finfo(kind).smallest_subnormal
    return frames


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers(dtype: str) -> None:
    """Smallest, largest, counts are exact; sums too, up to 32 bits."""
    frames = frames_of(dtype)
    flat = frames.reshape(5, -1)
    wide = flat.astype(object)
    found = statistics_of_frames(frames)
    as_number = np.uint8 if dtype == "?" else np.dtype(dtype)
    np.testing.assert_array_equal(found["stats/min"], flat.astype(as_number).min(axis=1))
    np.testing.assert_array_equal(found["stats/max"], flat.astype(as_number).max(axis=1))
    np.testing.assert_array_equal(found["stats/valid_count"], [12] * 5)
    sums = [sum(map(int, row)) for row in wide]
    squares = [sum(int(value) ** 2 for value in row) for row in wide]
    if np.dtype(dtype).itemsize <= 4:
        assert found["stats/sum"].tolist() == sums
    if np.dtype(dtype).itemsize <= 2:
        assert found["stats/sum_squares"].tolist() == squares
    np.testing.assert_allclose(found["stats/sum"].astype(float), np.array(sums, float), rtol=1e-12)
    np.testing.assert_allclose(found["stats/sum_squares"].astype(float), np.array(squares, float), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["?", "u1", "i1"])
def test_counts_of_bytes_are_kept_for_every_frame(dtype: str) -> None:
    """Levels in the order of the values."""
    frames = frames_of(dtype)
    low = -128 if dtype == "i1" else 0
    expected = [np.bincount(frame.astype(int).ravel() - low, minlength=256) for frame in frames]
    np.testing.assert_array_equal(statistics_of_frames(frames)["stats/histogram"], expected)


@pytest.mark.parametrize("dtype", ["u2", "i2"])
def test_counts_of_shorts_are_kept_for_a_block(dtype: str) -> None:
    """Every level of 16 bits, for all frames together."""
    frames = frames_of(dtype)
    low = -32768 if dtype == "i2" else 0
    expected = np.bincount(frames.astype(int).ravel() - low, minlength=65536)
    np.testing.assert_array_equal(statistics_of_frames(frames)["stats/histogram"], [expected])


@pytest.mark.parametrize("dtype", FLOATS)
def test_floats(dtype: str) -> None:
    """Over the finite values; a frame without any has NaN and counts none."""
    frames = frames_of(dtype)
    found = statistics_of_frames(frames)
    for number, frame in enumerate(frames):
        finite = frame[np.isfinite(frame)].astype(np.float64)
        assert found["stats/valid_count"][number] == finite.size
        if not finite.size:
            assert np.isnan(found["stats/min"][number])
            assert np.isnan(found["stats/max"][number])
            continue
        assert found["stats/min"][number] == finite.min()
        assert found["stats/max"][number] == finite.max()
        np.testing.assert_allclose(found["stats/sum"][number], finite.sum(), rtol=1e-12, atol=1e-9)
        np.testing.assert_allclose(found["stats/sum_squares"][number], (finite**2).sum(), rtol=1e-12)
    assert found["stats/min"].dtype == np.dtype(dtype)
    others = [np.isnan(frames).sum(), np.isneginf(frames).sum(), np.isposinf(frames).sum()]
    np.testing.assert_array_equal(found["stats/nonfinite_count"], [others])


@pytest.mark.parametrize("dtype", FLOATS)
def test_bins_of_floats_are_in_the_order_of_the_values(dtype: str) -> None:
    """The top 16 bits of the ordered form: smaller values never lie in a higher bin."""
    values = np.sort(frames_of(dtype)[np.isfinite(frames_of(dtype))])
    bins = [
        int(np.flatnonzero(statistics_of_frames(v.reshape(1, 1))["stats/histogram"][0])[0]) for v in values
    ]
    assert bins == sorted(bins)
    counts = statistics_of_frames(frames_of(dtype))["stats/histogram"]
    np.testing.assert_array_equal(counts[0], np.bincount(bins, minlength=65536))


def test_complex_numbers_have_no_statistics() -> None:
    """They have no order."""
    assert not has_statistics(np.dtype("c8"))


@pytest.mark.parametrize("dtype", [*INTEGERS, *FLOATS])
def test_ranges_of_a_store_equal_numpy(tmp_path: Path, dtype: str) -> None:
    """`a.range()` of every view along time, from the statistics that a conversion kept."""
    frames = np.concatenate([frames_of(dtype, seed) for seed in range(4)])
    ls.convert(frames, tmp_path / "s.zarr", name="a", chunks=2, shards=4)
    with ls.open(tmp_path / "s.zarr") as store:
        assert "a/stats/min" in {f"a/{path}" for path in store.records["a"].documents}
        for span in (slice(None), slice(3, 17), slice(2, 3), slice(12, 13)):
            part = frames[span]
            finite = part[np.isfinite(part)] if part.dtype.kind == "f" else part
            found = store["a"][span].range()
            if not finite.size:
                assert np.isnan(found).all()
            else:
                assert tuple(found) == (finite.min(), finite.max())


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4"])
def test_statistics_of_a_resumed_conversion_are_the_same(tmp_path: Path, dtype: str) -> None:
    """Shares of shards that were done before are taken from their records."""
    frames = np.concatenate([frames_of(dtype, seed) for seed in range(4)])
    np.save(tmp_path / "a.npy", frames)
    calls: list[Any] = []

    def stop(state: Any) -> None:
        calls.append(state)
        if len(calls) == 2:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"chunks": 2, "shards": 4, "workers": 1}
    ls.convert(tmp_path / "a.npy", tmp_path / "whole.zarr", **options)
    with pytest.raises(KeyboardInterrupt):
        ls.convert(tmp_path / "a.npy", tmp_path / "s.zarr", progress=stop, **options)
    ls.convert(tmp_path / "a.npy", tmp_path / "s.zarr", **options)
    with ls.open(tmp_path / "whole.zarr") as whole, ls.open(tmp_path / "s.zarr") as resumed:
        for path, document in whole.records["a"].documents.items():
            if document["node_type"] == "array":
                np.testing.assert_array_equal(
                    whole.array_values("a", path), resumed.array_values("a", path), err_msg=path
                )
