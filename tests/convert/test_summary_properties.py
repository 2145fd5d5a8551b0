"""Statistics and overviews of any frames, cut anywhere, some of them lost, against numpy on the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import lazystore as ls
from lazystore.convert import encoded_summary
from lazystore.convert.encoded_summary import EncodedSummary
from lazystore.convert.frame_summary import FrameSummary
from lazystore.convert.overview_summary import OverviewSummary
from lazystore.convert.watch import Watch
from lazystore.errors import LazystoreError, SourceError
from lazystore.overviews.levels import Levels, Preview
from lazystore.overviews.rows import row_of_frames
from lazystore.protocols import Block, Column, SourceIdentity, SourceInfo
from lazystore.schema import ArraySpec
from tests.sources.video_files import break_packet, write_video

DIMS = ("time", "y", "x", "channel")
SUMS = ("sum", "sum_squares", "valid_count", "min", "max")


class LossyVideo:
    """A `Source` of frames, some of which it has lost; notes how it is read."""

    def __init__(self, frames: NDArray[Any], missing: frozenset[int]) -> None:
        self.frames, self.missing = frames, missing
        column = Column("data", DIMS[: frames.ndim], frames.shape, frames.dtype)
        self.info = SourceInfo("video", "made", (column,), (SourceIdentity("made", 1, 0, ""),))

    def read(self, start: int, stop: int) -> Block:
        """Lost frames are filled with what must not be counted."""
        data = self.frames[start:stop].copy()
        missing = tuple(sorted(self.missing.intersection(range(start, stop))))
        data[[number - start for number in missing]] = 77
        return Block(start, {"data": data}, missing, dict.fromkeys(missing, "lost"))

    def close(self) -> None:
        """Nothing to release."""


@st.composite
def movies(draw: st.DrawFn) -> tuple[NDArray[Any], frozenset[int]]:
    """Frames (time, y, x[, channel]) of any integer type with its extremes in them, and which are lost."""
    dtype = np.dtype(draw(st.sampled_from(["?", "u1", "i1", "u2", "i2", "u4", "i4"])))
    size = draw(st.tuples(*[st.integers(1, most) for most in (40, 11, 9)]))
    shape = (*size, 3) if draw(st.booleans()) else size
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    if dtype.kind == "b":
        frames = rng.integers(0, 2, shape).astype(bool)
    else:
        limits = np.iinfo(dtype)
        frames = rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
        frames[rng.random(shape) < 0.1] = draw(st.sampled_from([limits.min, limits.max]))
    return frames, frozenset(draw(st.sets(st.integers(0, shape[0] - 1), max_size=shape[0])))


def spec_of(frames: NDArray[Any], task_frames: int) -> ArraySpec:
    tail = frames.shape[1:]
    return ArraySpec(
        "data", DIMS[: frames.ndim], frames.shape, frames.dtype, (1, *tail), (task_frames, *tail)
    )


def values_of(side: Any) -> dict[str, NDArray[Any]]:
    return {spec.path: np.concatenate(list(pieces())) for spec, pieces in side}


def check_statistics(found: dict[str, NDArray[Any]], frames: NDArray[Any], missing: frozenset[int]) -> None:
    """Every frame's row is numpy's of its values; a lost frame adds nothing and bounds nothing."""
    wide = frames.astype(np.int64) if frames.dtype.kind in "biu" else frames.astype(np.float64)
    for number in range(len(frames)):
        row = {name: found[f"stats/{name}"][number] for name in SUMS}
        if number in missing:
            assert row["sum"] == row["sum_squares"] == row["valid_count"] == 0
            assert row["min"] >= frames.max()
            assert row["max"] <= frames.min()
            continue
        values = wide[number].astype(object)
        assert (row["min"], row["max"]) == (wide[number].min(), wide[number].max())
        assert (row["sum"], row["valid_count"]) == (values.sum(), values.size)
        expected = (values * values).sum()
        assert row["sum_squares"] == expected if frames.dtype.itemsize <= 2 else True


def check_previews(
    found: dict[str, NDArray[Any]], frames: NDArray[Any], missing: frozenset[int], preview: Preview
) -> None:
    """Means, smallest and largest values of blocks of frames and pixels."""
    wide = frames.astype(np.float64)
    for number, start in enumerate(range(0, len(frames), preview.n)):
        kept = [i for i in range(start, min(start + preview.n, len(frames))) if i not in missing]
        small = {name: found[f"overview/{preview.n}/{name}"][number] for name in ("mean", "min", "max")}
        for y in range(small["min"].shape[0]):
            for x in range(small["min"].shape[1]):
                rows, columns = (slice(i * preview.factor, (i + 1) * preview.factor) for i in (y, x))
                block = wide[kept, rows, columns].reshape(-1, *frames.shape[3:])
                if not len(block):
                    # Shares have a value for nothing, integers have none but 0.
                    nothing = np.nan if small["mean"].dtype.kind == "f" else 0
                    np.testing.assert_array_equal(small["mean"][y, x], nothing)
                    continue
                mean = block.sum(axis=0) / len(block)
                is_share = frames.dtype.kind == "b"
                expected = mean.astype(np.float32) if is_share else np.rint(mean).astype(frames.dtype)
                np.testing.assert_array_equal(small["mean"][y, x], expected)
                np.testing.assert_array_equal(small["min"][y, x], block.min(axis=0))
                np.testing.assert_array_equal(small["max"][y, x], block.max(axis=0))


@settings(max_examples=40, deadline=None)
@given(movies(), st.integers(1, 20), st.integers(0, 3), st.integers(0, 3))
def test_shares_of_any_tasks_make_numpys_statistics(
    movie: tuple[NDArray[Any], frozenset[int]], task_frames: int, log_n: int, log_factor: int
) -> None:
    """Per frame and in the bins of an overview, wherever the tasks are cut and whatever is lost."""
    frames, missing = movie
    preview = Preview(2**log_n, 2**log_factor)
    data = spec_of(frames, task_frames)
    starts = range(0, len(frames), task_frames)
    statistics = FrameSummary(data, len(starts))
    overviews = OverviewSummary(Levels((16,), preview), data, task_frames)
    shares = []
    for start in starts:
        part = frames[start : start + task_frames].copy()
        lost = sorted(missing.intersection(range(start, start + len(part))))
        part[[number - start for number in lost]] = 77
        share = overviews.begin()
        share.add(start, part, lost)
        shares.append({**statistics.share(start, {"data": part}, lost), **share.arrays()})
    found = values_of([*statistics.side(lambda: iter(shares)), *overviews.side(lambda: iter(shares))])
    check_statistics(found, frames, missing)
    check_previews(found, frames, missing, preview)
    for number, start in enumerate(range(0, len(frames), 16)):
        kept = [i for i in range(start, min(start + 16, len(frames))) if i not in missing]
        total = frames[kept].sum(axis=0, dtype=np.int64)
        np.testing.assert_array_equal(found["overview/16/sum"][number], total)


@settings(max_examples=30, deadline=None)
@given(movies(), st.integers(1, 5), st.integers(1, 3))
def test_a_video_of_packets_has_the_statistics_of_its_frames(
    movie: tuple[NDArray[Any], frozenset[int]], n_tasks: int, bytes_a_frame: int
) -> None:
    """Tasks cut bytes, each looks after some frames; counts are those of the frames that came out."""
    frames, missing = movie
    preview = Preview(4, 2)
    n_bytes = bytes_a_frame * len(frames)
    per_task = -(-n_bytes // n_tasks)
    packets = ArraySpec("packets", ("byte",), (n_bytes,), np.dtype("u1"), (per_task,), (per_task,))
    starts = range(0, n_bytes, per_task)
    summary = EncodedSummary(LossyVideo(frames, missing), packets, len(starts), Levels((), preview))
    shares = [summary.share(start, {}) for start in starts]
    side, more = summary.finish(lambda: iter(shares))
    found = values_of(side)
    check_statistics(found, frames, missing)
    check_previews(found, frames, missing, preview)
    assert sorted(missing) == sorted(number for share in shares for number in share.get("missing", ()))
    if "stats/histogram" in found:
        assert more["frames_per_statistics_block"] == summary.frames_per_task
        values = np.arange(256) if frames.dtype.itemsize == 1 else np.arange(65_536)
        values = values + (np.iinfo(frames.dtype).min if frames.dtype.kind == "i" else 0)
        for block, counts in enumerate(found["stats/histogram"]):
            start = block * summary.frames_per_task
            kept = [i for i in range(start, start + summary.frames_per_task) if i not in missing]
            part = frames[[i for i in kept if i < len(frames)]].astype(np.int64)
            np.testing.assert_array_equal(
                counts, np.bincount(part.ravel() - values[0], minlength=len(values))
            )


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["f2", "f4", "f8"]), st.integers(1, 11), st.integers(1, 40), st.integers(0, 99),
    st.sampled_from([0.0, 0.01, 1.0]),
)  # fmt: skip
def test_rows_of_floats_are_summed_in_order(
    dtype: str, n: int, n_pixels: int, seed: int, odd_share: float
) -> None:
    """The same bits as adding frame by frame in float64, with and without values that are not finite."""
    rng = np.random.default_rng(seed)
    frames = (rng.standard_normal((n, n_pixels)) * 100).astype(dtype)
    odd = rng.random(frames.shape) < odd_share
    frames[odd] = rng.choice(np.array([np.nan, np.inf, -np.inf], dtype), odd.sum())
    row = row_of_frames(frames)
    finite = np.isfinite(frames)
    total = np.zeros(n_pixels)
    for frame in np.where(finite, frames, 0).astype(np.float64):
        total += frame
    count = finite.sum(axis=0)
    np.testing.assert_array_equal(row["valid_count"], count)
    np.testing.assert_array_equal(row["sum"], total)
    deviations = np.zeros(n_pixels)
    with np.errstate(invalid="ignore"):
        steps = np.where(finite, frames.astype(np.float64) - total / np.maximum(count, 1), 0)
    for step in steps:
        deviations += step * step
    np.testing.assert_array_equal(row["squared_deviations"], deviations)
    np.testing.assert_array_equal(row["min"], np.where(finite, frames, np.inf).min(axis=0))
    np.testing.assert_array_equal(row["max"], np.where(finite, frames, -np.inf).max(axis=0))


def test_a_damaged_recording_has_the_statistics_of_what_is_left(tmp_path: Path, store_path: Path) -> None:
    """Colour frames out of real packets, some broken: numpy over the frames that the store gives."""
    whole = write_video(tmp_path / "mouse.mp4", count=60, size=(64, 64))
    ls.convert(break_packet(whole, 15), store_path, name="mouse", codec="encoded", overview="preview")
    with ls.open(store_path) as store:
        item = store["mouse"]
        missing = frozenset(item.missing_frames)
        assert missing
        assert item.shape == (60, 64, 64, 3)
        frames = np.stack(
            [np.zeros(item.shape[1:], np.uint8) if i in missing else item[i] for i in range(60)]
        )
        paths = [
            path for path in store.records["mouse"].documents if path.startswith(("stats/", "overview/"))
        ]
        kept = [path for path in paths if store.records["mouse"].documents[path]["node_type"] == "array"]
        found = {path: store.array_values("mouse", path) for path in kept}
        preview = Levels.from_json(item.attrs["lazystore"]["overview"]).preview
    assert preview is not None
    check_statistics(found, frames, missing)
    check_previews(found, frames, missing, preview)
    sound = frames[[i for i in range(60) if i not in missing]]
    np.testing.assert_array_equal(
        found["stats/histogram"].sum(axis=0), np.bincount(sound.ravel(), minlength=256)
    )


class TwinVideo(LossyVideo):
    """One that opens as often as one likes; notes how many were open, and that all were closed."""

    def __init__(self, frames: NDArray[Any], missing: frozenset[int]) -> None:
        super().__init__(frames, missing)
        self.n_open, self.opened = 0, 0

    def twin(self, threads: int) -> LossyVideo:
        """Another reader of the same frames."""
        owner = self

        class Twin(LossyVideo):
            def close(self) -> None:
                owner.n_open -= 1

        assert threads >= 1
        self.n_open += 1
        self.opened += 1
        return Twin(self.frames, self.missing)


@settings(max_examples=30, deadline=None)
@given(movies(), st.sets(st.integers(0, 40)), st.integers(2, 5), st.integers(1, 3), st.booleans())
def test_several_decoders_find_what_one_does(
    movie: tuple[NDArray[Any], frozenset[int]], groups: set[int], workers: int, n_tasks: int, is_lossy: bool
) -> None:
    """To the bit, wherever groups begin; with damage anywhere one decoder looks at all of it."""
    frames, missing = movie
    if not is_lossy:
        missing = frozenset()
    per_task = -(-len(frames) // n_tasks)
    packets = ArraySpec("packets", ("byte",), (len(frames),), np.dtype("u1"), (per_task,), (per_task,))
    starts = range(0, len(frames), per_task)
    video = TwinVideo(frames, missing)
    levels = Levels((16,), Preview(4, 2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoded_summary, "MIN_PIECE_FRAMES", 1)
        alone = EncodedSummary(LossyVideo(frames, missing), packets, len(starts), levels)
        many = EncodedSummary(
            video, packets, len(starts), levels, groups=sorted({0, *groups}), workers=workers
        )
        for start in starts:
            expected, found = alone.share(start, {}), many.share(start, {})
            assert list(found) == list(expected)
            for path, values in expected.items():
                assert found[path].dtype == values.dtype
                np.testing.assert_array_equal(found[path], values)
    assert video.n_open == 0
    inside = {group for group in groups if 0 < group < len(frames)} - set(starts)
    assert inside or not video.opened


def test_an_error_of_one_decoder_ends_the_others() -> None:
    """It is raised, and nobody goes on with frames that nobody will count."""

    class Broken(TwinVideo):
        def twin(self, threads: int) -> LossyVideo:
            twin = super().twin(threads)
            if self.opened == 1:

                def read(start: int, stop: int) -> Block:
                    raise SourceError("frame 3 is gone")

                twin.read = read  # type: ignore[method-assign]  # what a damaged file does
            return twin

    frames = np.zeros((400, 2, 2), np.uint8)
    packets = ArraySpec("packets", ("byte",), (400,), np.dtype("u1"), (400,), (400,))
    video = Broken(frames, frozenset())
    summary = EncodedSummary(
        video, packets, 1, Levels((), Preview(4, 2)), groups=range(0, 400, 50), workers=2
    )
    with pytest.raises(SourceError, match="frame 3 is gone"):
        summary.share(0, {})
    assert video.n_open == 0


def test_a_run_that_stops_ends_inside_a_task() -> None:
    """A task may be half a minute of decoding; who stops the run need not wait for it."""
    packets = ArraySpec("packets", ("byte",), (400,), np.dtype("u1"), (400,), (400,))
    watch = Watch()
    # A block is half a megabyte.
    frames = np.zeros((400, 256, 256), np.uint8)

    class Stopping(LossyVideo):
        def read(self, start: int, stop: int) -> Block:
            if start >= 200:
                watch.stop()
            return super().read(start, stop)

    summary = EncodedSummary(
        Stopping(frames, frozenset()), packets, 1, Levels((), Preview(4, 2)), watch=watch
    )
    with pytest.raises(LazystoreError, match="was stopped; run the same command again"):
        summary.share(0, {})
    assert watch.ahead == 200
