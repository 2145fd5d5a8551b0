"""Frames that need each other are read together: how often each is decoded, which way ever it is played."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import lazystore as ls
from lazystore.cache.passes import PASS_CHUNKS, passes
from lazystore.cache.policy import Motion
from lazystore.cache.pool import ChunkPool
from lazystore.cache.prefetch import Job, Prefetcher
from lazystore.cache.reader import CachedReader
from lazystore.cache.shelf import Load
from lazystore.store.encoded import EncodedVideoReader
from tests.convert.test_encoded import N_FRAMES, SIZE, write_video

GROUP = 12  # frames between key frames of `write_video`
FRAME_BYTES = SIZE[0] * SIZE[1] * 3
# What threads and reordering decode beyond the frame that is asked for.
SLACK = 8


def group_of(number: int) -> range:
    return range(number // GROUP * GROUP, number // GROUP * GROUP + GROUP)


def forwards(position: int, stride: int = 1) -> Motion:
    return Motion(position, stride, abs(stride), 30.0, run=5)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NDArray[np.uint8]]:
    folder = tmp_path_factory.mktemp("video")
    frames = write_video(folder / "mouse.mp4")
    ls.convert(folder / "mouse.mp4", folder / "session.zarr")
    return folder / "session.zarr", frames


class Playing:
    """A cached reader of the video, with a budget and threads of its own."""

    def __init__(self, store: Path, *, budget_frames: int = 1000, prefetch: bool = False) -> None:
        with ls.open(store) as opened:
            below = opened.reader(opened.records["mouse"], "data")
        assert isinstance(below, EncodedVideoReader)
        self.below = below
        self.pool = ChunkPool(budget_frames * FRAME_BYTES)
        self.reader = CachedReader(below, prefetch=prefetch, pool=self.pool, prefetcher=Prefetcher(2))

    def __enter__(self) -> Playing:
        return self

    def __exit__(self, *error: object) -> None:
        self.reader.close()

    def frame(self, number: int) -> NDArray[Any]:
        return self.reader.read_chunk((number, 0, 0, 0))[0]


def test_forward_passes_go_on_over_key_frames() -> None:
    """A pass holds a handful of frames; what would be another seek is another pass."""
    found = passes(range(20, 60), forwards(19), lambda _: range(1000), 1000)
    assert [len(part) for part in found] == [PASS_CHUNKS, PASS_CHUNKS, 8]
    assert passes([10, 11, 12, 13], forwards(9), group_of, 100) == [[10, 11, 12, 13]]
    assert passes([10, 20, 22, 40], forwards(0, 10), group_of, 100) == [[10], [20, 22], [40]]


def test_backward_passes_go_to_the_key_frame() -> None:
    """With the stride of playback, and no further than there is room."""
    assert passes([20, 18], forwards(22, -2), group_of, 100) == [[20, 18, 16, 14, 12]]
    assert passes([22, 21], forwards(23, -1), group_of, 4) == [[22, 21, 20, 19]]
    assert passes([5, 4, 3], forwards(6, -1), lambda n: range(n, n + 1), 100) == [[5, 4, 3]]
    uneven = Motion(23, -3, 1, 30.0, run=5)
    assert passes([22, 21], uneven, group_of, 100) == [list(range(22, 11, -1))]


def test_one_step_back_decodes_no_group() -> None:
    """It happens by chance, and the decoder keeps a few frames for that."""
    assert passes([22], Motion(23, -1, 1, 30.0, run=1), group_of, 100) == [[22]]


def test_playing_forwards_decodes_every_frame_once(video: Any) -> None:
    """Without reading ahead exactly; with it in the threads' own time, and equal."""
    store, frames = video
    with Playing(store) as playing:
        for number in range(N_FRAMES):
            np.testing.assert_array_equal(playing.frame(number), frames[number])
        assert playing.below.decoded_frames == N_FRAMES
    with Playing(store, prefetch=True) as playing:
        for number in range(N_FRAMES):
            np.testing.assert_array_equal(playing.frame(number), frames[number])


def test_a_pass_ahead_begins_when_the_frames_before_it_are_there(video: Any, eventually: Any) -> None:
    """It would take the room and the decoder that whoever reads them waits for."""
    store, frames = video
    with Playing(store) as playing:
        for number in range(4):
            playing.frame(number)
        shelf = playing.reader._shelf
        demand = Load()
        with playing.pool.lock:
            shelf.loads[(4, 0, 0, 0)] = demand  # another thread's
        jobs = [Job((number, 0, 0, 0), 0.1, seen_from=3) for number in (5, 6)]
        ahead = threading.Thread(target=playing.reader.prefetch, args=(jobs,))
        ahead.start()
        eventually(lambda: shelf.reads_ahead == 1)
        assert list(shelf.loads) == [(4, 0, 0, 0)]
        assert playing.pool.reserved_bytes == 0
        with playing.pool.lock:
            del shelf.loads[(4, 0, 0, 0)]
        demand.done.set()
        ahead.join()
        assert playing.reader.cache_info().prefetched == 2
        assert shelf.reads_ahead == 0
        np.testing.assert_array_equal(playing.frame(5), frames[5])


@pytest.mark.parametrize("budget_frames", [12, 20, 40])
def test_playing_forwards_in_little_room_decodes_every_frame_once(video: Any, budget_frames: int) -> None:
    """Also where threads read ahead, and whichever of them gets the decoder first."""
    store, frames = video
    with Playing(store, budget_frames=budget_frames, prefetch=True) as playing:
        for number in range(N_FRAMES):
            np.testing.assert_array_equal(playing.frame(number), frames[number])
        # A thread that is late by a whole pass may still need a seek, within one group.
        assert playing.below.decoded_frames <= N_FRAMES + GROUP + SLACK


@pytest.mark.parametrize("prefetch", [False, True], ids=["demand", "prefetch"])
def test_playing_backwards_decodes_every_group_once(video: Any, prefetch: bool) -> None:
    """But the one where it begins, whose frames were decoded before the direction was known."""
    store, frames = video
    with Playing(store, prefetch=prefetch) as playing:
        for number in reversed(range(N_FRAMES)):
            np.testing.assert_array_equal(playing.frame(number), frames[number])
        groups = -(-N_FRAMES // GROUP)
        if not prefetch:
            assert playing.below.decoded_frames <= N_FRAMES + GROUP + groups * SLACK
        assert playing.reader.cache_info().total_bytes <= N_FRAMES * FRAME_BYTES


def test_a_jump_decodes_from_its_key_frame(video: Any) -> None:
    """No frame before the key frame, and none beyond the one asked for but what the threads hold."""
    store, frames = video
    with Playing(store) as playing:
        for number in (70, 3, 47, 20, 84):
            before = playing.below.decoded_frames
            np.testing.assert_array_equal(playing.frame(number), frames[number])
            assert playing.below.decoded_frames - before <= number % GROUP + 1 + SLACK


@pytest.mark.parametrize("budget_frames", [0, 1, 5, 9])
@pytest.mark.parametrize("prefetch", [False, True], ids=["demand", "prefetch"])
def test_a_group_larger_than_the_budget(video: Any, budget_frames: int, prefetch: bool) -> None:
    """Every frame comes, in any direction, and the budget holds."""
    store, frames = video
    with Playing(store, budget_frames=budget_frames, prefetch=prefetch) as playing:
        for number in (*range(40, 0, -1), *range(60), *range(80, 0, -2)):
            np.testing.assert_array_equal(playing.frame(number), frames[number])
            assert playing.reader.cache_info().total_bytes <= budget_frames * FRAME_BYTES
        assert playing.reader.cache_info().prefetch_errors == 0


def test_what_fails_is_not_kept(video: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slot that was half filled when decoding failed is never handed out."""
    store, frames = video
    with Playing(store) as playing:
        write = type(playing.below._record.pixels).write

        def failing(*arguments: Any) -> None:
            write(*arguments)
            raise OSError("the disk is gone")

        with monkeypatch.context() as patched:
            patched.setattr(type(playing.below._record.pixels), "write", failing)
            with pytest.raises(OSError, match="the disk is gone"):
                playing.frame(30)
        np.testing.assert_array_equal(playing.frame(30), frames[30])
        assert not playing.frame(30).flags.writeable
