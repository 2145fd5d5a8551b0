"""LazyFieldRenderer: numpy's indexing, few frames kept, one painting a frame."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lazystore.errors import UsageError
from lazystore.render import ChunkedLazyFieldRenderer, LazyFieldRenderer, create_lazy_field_renderer

from .conftest import LOOKUP, grid_environment

N_FRAMES = 12
ENV = grid_environment((4, 3), None)
FIELDS = np.random.default_rng(0).random((N_FRAMES, 12))
RENDERERS = [LazyFieldRenderer, ChunkedLazyFieldRenderer]


class CountingFields:
    """Fields that note which frames were read."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values, self.shape, self.dtype = values, values.shape, values.dtype
        self.reads: list[int] = []

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: int) -> NDArray[Any]:
        assert isinstance(index, int)
        self.reads.append(index)
        return self.values[index]


class WaitingFields(CountingFields):
    """Fields whose frame 0 comes when the test says so."""

    def __init__(self, values: NDArray[Any]) -> None:
        super().__init__(values)
        self.asked, self.go = threading.Event(), threading.Event()

    def __getitem__(self, index: int) -> NDArray[Any]:
        if index == 0:
            self.asked.set()
            assert self.go.wait(60)
        return super().__getitem__(index)


def in_threads(*tasks: Callable[[], Any]) -> list[Any]:
    """Results of all tasks, or the errors they raised, each run in a thread of its own."""
    results: list[Any] = [None] * len(tasks)

    def run(place: int, task: Callable[[], Any]) -> None:
        try:
            results[place] = task()
        except Exception as error:
            results[place] = error

    threads = [threading.Thread(target=run, args=entry) for entry in enumerate(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return results


@pytest.fixture(params=RENDERERS, ids=lambda cls: cls.__name__)
def renderer_class(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def movie() -> NDArray[np.uint8]:
    """All frames in memory."""
    renderer = LazyFieldRenderer(ENV, FIELDS, LOOKUP, 0.1, 0.9)
    return np.stack([renderer[index] for index in range(N_FRAMES)])


# --- being an array --------------------------------------------------------------------------------


def test_shape_dtype_and_length_are_known_without_a_frame(renderer_class: Any) -> None:
    """A viewer asks for them dozens of times before it shows anything."""
    fields = CountingFields(FIELDS)
    renderer = renderer_class(ENV, fields, LOOKUP, 0.1, 0.9)
    assert renderer.shape == (N_FRAMES, 3, 4, 3)
    assert renderer.ndim == 4
    assert len(renderer) == N_FRAMES
    assert isinstance(renderer.dtype, np.dtype)
    assert renderer.dtype == np.uint8
    assert renderer.__array_priority__ == 1000
    assert fields.reads == []


@st.composite
def indices(draw: st.DrawFn) -> Any:
    """Everything that numpy takes for (time, y, x, channel), beginning with the frames."""
    numbers = st.integers(-N_FRAMES, N_FRAMES - 1)
    whole = st.slices(N_FRAMES)
    first = draw(
        st.one_of(
            numbers, numbers.map(np.int64), whole, st.lists(numbers, max_size=4),
            st.lists(numbers, min_size=1, max_size=4).map(np.array),
            st.lists(st.booleans(), min_size=N_FRAMES, max_size=N_FRAMES),
            st.just(np.array([[0, 1], [2, -1]])),
        )
    )  # fmt: skip
    rest = draw(
        st.sampled_from(
            [(), (slice(None),), (slice(1, 3), slice(None, None, -1)), (slice(None), 2), (1, 2, 0)]
        )
    )
    if isinstance(first, int | np.integer | slice):
        rest = draw(st.sampled_from([rest, (..., 0), (..., slice(0, 2)), (None,), (...,)]))
    lead = draw(st.sampled_from([(), (None,)])) if not isinstance(first, list | np.ndarray) else ()
    index = (*lead, first, *rest)
    return draw(st.sampled_from([index, first])) if len(index) == 1 else index


@given(index=indices())
def test_indexing_is_numpys(index: Any) -> None:
    """Whatever numpy gives for the movie in memory."""
    frames = np.stack(list(LazyFieldRenderer(ENV, FIELDS, LOOKUP, 0.1, 0.9)))
    expected = frames[index]
    for cls in RENDERERS:
        got = cls(ENV, FIELDS, LOOKUP, 0.1, 0.9)[index]
        np.testing.assert_array_equal(got, expected)
        assert np.shape(got) == np.shape(expected)
        assert not isinstance(got, np.ndarray) or not got.flags.writeable


@pytest.mark.parametrize(
    "index", [..., None, (), (None, None), (..., 0), (slice(0, 0),), (slice(8, 2, -3), 1)]
)
def test_short_indices_are_numpys(renderer_class: Any, movie: NDArray[np.uint8], index: Any) -> None:
    """Ellipsis, None and empty ones too, which neurospatial refuses."""
    got = renderer_class(ENV, FIELDS, LOOKUP, 0.1, 0.9)[index]
    np.testing.assert_array_equal(got, movie[index])
    assert got.shape == movie[index].shape


def test_the_slices_that_napari_takes_give_the_kept_frame(
    renderer_class: Any, movie: NDArray[np.uint8]
) -> None:
    """One frame as a slice of length 1: a view of what is kept, no copy, nothing painted again."""
    fields = CountingFields(FIELDS)
    renderer = renderer_class(ENV, fields, LOOKUP, 0.1, 0.9)
    step = renderer[slice(5, 6), slice(None), slice(None)]
    np.testing.assert_array_equal(step, movie[5:6])
    assert np.shares_memory(step, renderer[5])
    np.testing.assert_array_equal(renderer[5:6, 1:, ::2], movie[5:6, 1:, ::2])
    assert fields.reads == [5]


@pytest.mark.parametrize("index", [12, -13, np.int64(40)])
def test_a_frame_that_is_not_there_is_an_index_error(renderer_class: Any, index: int) -> None:
    """In neurospatial's words, so that code that looks for them still works."""
    renderer = renderer_class(ENV, FIELDS, LOOKUP, 0.1, 0.9)
    for use in (lambda: renderer[index], lambda: renderer[index, 0], lambda: renderer[[0, index]]):
        with pytest.raises(IndexError, match=f"^Frame index {index} out of range for 12 frames$"):
            use()


def test_indices_that_mean_nothing_are_refused(renderer_class: Any) -> None:
    """Too many parts, a mask of the wrong length, a float."""
    renderer = renderer_class(ENV, FIELDS, LOOKUP, 0.1, 0.9)
    with pytest.raises(IndexError, match="too many parts: expected at most 4 and one Ellipsis"):
        renderer[[0], 0, 0, 0, 0]
    with pytest.raises(IndexError, match="too many parts"):
        renderer[..., 0, ...]
    with pytest.raises(IndexError, match=r"boolean index of shape \(2,\) does not fit 12 frames"):
        renderer[[True, False]]
    with pytest.raises(TypeError, match="integer"):
        renderer[1.5]


def test_frames_cannot_be_written(renderer_class: Any) -> None:
    """They are what the next reader gets."""
    renderer = renderer_class(ENV, FIELDS, LOOKUP, 0.1, 0.9)
    for frame in (renderer[3], renderer[3], renderer[3:4], renderer[2:6], renderer[[1, 2]], renderer[3, 0]):
        with pytest.raises(ValueError, match="read-only"):
            frame[...] = 0


def test_iterating_gives_every_frame(renderer_class: Any, movie: NDArray[np.uint8]) -> None:
    """A loop ends at the last frame."""
    np.testing.assert_array_equal(np.stack(list(renderer_class(ENV, FIELDS, LOOKUP, 0.1, 0.9))), movie)


# --- keeping frames --------------------------------------------------------------------------------


def test_the_least_recently_used_frame_goes_first() -> None:
    """Looking at a frame again keeps it."""
    fields = CountingFields(FIELDS)
    renderer = LazyFieldRenderer(ENV, fields, LOOKUP, 0.1, 0.9, cache_size=3)
    for index in (0, 1, 2, 0, 3):
        renderer[index]
    assert list(renderer._cache) == [2, 0, 3]
    renderer[0], renderer[-10], renderer[1]
    assert fields.reads == [0, 1, 2, 3, 1]


def test_the_cache_can_be_made_smaller_or_switched_off() -> None:
    """Assigning to `_cache_size`, as neurospatial's tests do, counts from the next frame on."""
    renderer = LazyFieldRenderer(ENV, FIELDS, LOOKUP, 0.1, 0.9)
    for index in range(6):
        renderer[index]
    renderer._cache_size = 2
    renderer[6]
    assert list(renderer._cache) == [5, 6]
    off = LazyFieldRenderer(ENV, FIELDS, LOOKUP, 0.1, 0.9, cache_size=0)
    np.testing.assert_array_equal(off[3], renderer[3])
    assert len(off._cache) == 0


def test_large_frames_are_counted_in_bytes() -> None:
    """1000 frames of a large map would be gigabytes."""
    frame_bytes = 3 * 4 * 3
    renderer = LazyFieldRenderer(ENV, FIELDS, LOOKUP, 0.1, 0.9, cache_bytes=5 * frame_bytes)
    renderer[:]
    assert len(renderer._cache) == 5
    chunked = ChunkedLazyFieldRenderer(
        ENV, FIELDS, LOOKUP, 0.1, 0.9, chunk_size=2, max_chunks=100, cache_bytes=5 * frame_bytes
    )
    chunked[:]
    assert sorted(chunked._get_chunk_cache_info()) == [4, 5]


def test_a_list_of_frames_of_different_kinds_is_painted_each_in_its_own(movie: NDArray[np.uint8]) -> None:
    """Their precision decides their colours."""
    fields = [FIELDS[0].astype("f4"), FIELDS[1], (FIELDS[2] * 9).astype("i2")]
    renderer = LazyFieldRenderer(ENV, fields, LOOKUP, 0.1, 0.9)
    assert not renderer._fields_is_array
    np.testing.assert_array_equal(renderer[1], movie[1])
    for index, field in enumerate(fields):
        alone = LazyFieldRenderer(ENV, field[np.newaxis], LOOKUP, 0.1, 0.9)
        np.testing.assert_array_equal(renderer[index], alone[0])


def test_setting_limits_or_colours_repaints(renderer_class: Any, movie: NDArray[np.uint8]) -> None:
    """Frames kept in the old colours are not shown again."""
    renderer = renderer_class(ENV, FIELDS, LOOKUP, 0.0, 1.0)
    renderer[4]
    renderer.vmin = 0.1
    renderer.vmax = 0.9
    np.testing.assert_array_equal(renderer[4], movie[4])
    renderer.cmap_lookup = LOOKUP[::-1].copy()
    assert (renderer.vmin, renderer.vmax) == (0.1, 0.9)
    other = renderer_class(ENV, FIELDS, LOOKUP[::-1].copy(), 0.1, 0.9)
    np.testing.assert_array_equal(renderer[4], other[4])


def test_a_frame_painted_while_colours_change_is_not_kept(renderer_class: Any) -> None:
    """Whoever asks after the change gets the new colours, also while the old painting goes on."""
    fields = WaitingFields(FIELDS)
    renderer = renderer_class(ENV, fields, LOOKUP, 0.0, 1.0)
    painting = threading.Thread(target=lambda: renderer[0])
    painting.start()
    assert fields.asked.wait(60)
    renderer.vmax = 0.5
    fields.go.set()
    painting.join()
    expected = renderer_class(ENV, FIELDS, LOOKUP, 0.0, 0.5)[0]
    np.testing.assert_array_equal(renderer[0], expected)


# --- several readers ----------------------------------------------------------------------------------


def test_a_frame_wanted_by_many_is_read_once(renderer_class: Any, movie: NDArray[np.uint8]) -> None:
    """Sixteen threads that want a frame at the same moment cause one read."""
    fields = WaitingFields(FIELDS)
    renderer = renderer_class(ENV, fields, LOOKUP, 0.1, 0.9)

    def release() -> None:
        assert fields.asked.wait(60)
        fields.go.set()

    results = in_threads(*[lambda: renderer[0]] * 16, release)
    assert fields.reads == [0]
    for frame in results[:-1]:
        np.testing.assert_array_equal(frame, movie[0])


def test_other_frames_are_read_while_one_waits(renderer_class: Any, movie: NDArray[np.uint8]) -> None:
    """No lock is held while a frame is read: a slow one delays nobody else, also in its own chunk."""
    fields = WaitingFields(FIELDS)
    renderer = renderer_class(ENV, fields, LOOKUP, 0.1, 0.9)
    slow = threading.Thread(target=lambda: renderer[0])
    slow.start()
    assert fields.asked.wait(60)
    np.testing.assert_array_equal(renderer[1], movie[1])
    assert not renderer._lock.locked()
    fields.go.set()
    slow.join()
    assert sorted(fields.reads) == [0, 1]


def test_an_error_reaches_everyone_who_waits_and_is_not_kept(
    renderer_class: Any, movie: NDArray[np.uint8]
) -> None:
    """The next reader tries again."""

    class BrokenOnce(WaitingFields):
        def __getitem__(self, index: int) -> NDArray[Any]:
            values = super().__getitem__(index)
            if self.reads.count(0) == 1:
                raise OSError("the cable came loose")
            return values

    fields = BrokenOnce(FIELDS)
    renderer = renderer_class(ENV, fields, LOOKUP, 0.1, 0.9)

    def broken() -> None:
        with pytest.raises(OSError, match="cable"):
            renderer[0]

    first = threading.Thread(target=broken)
    first.start()
    assert fields.asked.wait(60)
    waiting = threading.Event()
    flight = renderer._flights._flights[0]

    class Noticed:
        """The flight's lock, saying when someone waits for it."""

        def __enter__(self) -> None:
            waiting.set()
            landed.__enter__()

        def __exit__(self, *error: Any) -> None:
            landed.__exit__(*error)

        def release(self) -> None:
            landed.release()

    landed, flight.landed = flight.landed, Noticed()

    def release() -> None:
        assert waiting.wait(60)
        fields.go.set()

    error, _ = in_threads(lambda: renderer[0], release)
    first.join()
    assert isinstance(error, OSError)
    np.testing.assert_array_equal(renderer[0], movie[0])
    assert fields.reads == [0, 0]


def test_waiters_go_on_when_the_reading_thread_is_interrupted(movie: NDArray[np.uint8]) -> None:
    """Ctrl-C in one thread is no answer for the others: one of them reads the frame itself."""

    class Interrupted(WaitingFields):
        def __getitem__(self, index: int) -> NDArray[Any]:
            values = super().__getitem__(index)
            if self.reads.count(0) == 1:
                raise KeyboardInterrupt
            return values

    fields = Interrupted(FIELDS)
    renderer = LazyFieldRenderer(ENV, fields, LOOKUP, 0.1, 0.9)

    def interrupted() -> str:
        try:
            renderer[0]
        except KeyboardInterrupt:
            return "interrupted"
        return "read"

    def second() -> Any:
        assert fields.asked.wait(60)
        threading.Timer(0.05, fields.go.set).start()
        return renderer[0]

    first, frame = in_threads(interrupted, second)
    assert first == "interrupted"
    np.testing.assert_array_equal(frame, movie[0])


def test_threads_reading_at_random_get_the_right_frames(
    renderer_class: Any, movie: NDArray[np.uint8]
) -> None:
    """With a cache too small for anything to stay."""
    sizes = {"cache_size": 3} if renderer_class is LazyFieldRenderer else {"chunk_size": 2, "max_chunks": 2}
    renderer = renderer_class(ENV, FIELDS, LOOKUP, 0.1, 0.9, **sizes)

    def read(seed: int) -> int:
        wanted = np.random.default_rng(seed).integers(0, N_FRAMES, 500).tolist()
        return sum(not np.array_equal(renderer[index], movie[index]) for index in wanted)

    assert in_threads(*[lambda seed=seed: read(seed) for seed in range(6)]) == [0] * 6


# --- moving about ---------------------------------------------------------------------------------------


def test_a_pickle_holds_no_frames(renderer_class: Any, movie: NDArray[np.uint8]) -> None:
    """A copy in another process starts empty, with the same settings."""
    renderer = renderer_class(ENV, FIELDS, LOOKUP, 0.1, 0.9, 7)
    renderer[:]
    copy = pickle.loads(pickle.dumps(renderer))
    assert type(copy) is renderer_class
    assert not getattr(copy, "_cache", None)
    assert not getattr(copy, "_chunk_cache", None)
    assert copy._arguments == renderer._arguments
    np.testing.assert_array_equal(copy[:], movie)


def test_real_environments_travel_with_it(environments: dict[str, Any]) -> None:
    """A renderer on a neurospatial environment pickles too."""
    env = environments["masked"]
    renderer = LazyFieldRenderer(env, np.random.default_rng(0).random((2, env.n_bins)), LOOKUP, 0.1, 0.9)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(renderer))[1], renderer[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_while_a_frame_is_read_leaves_the_child_working(movie: NDArray[np.uint8]) -> None:
    """The child does not wait for a thread that it does not have, nor for a lock held in its parent."""
    fields = WaitingFields(FIELDS)
    renderer = LazyFieldRenderer(ENV, fields, LOOKUP, 0.1, 0.9)
    slow = threading.Thread(target=lambda: renderer[0])
    slow.start()
    assert fields.asked.wait(60)
    with renderer._lock:
        child = os.fork()
        if child == 0:
            fields.go.set()
            right = np.array_equal(renderer[0], movie[0]) and np.array_equal(renderer[1], movie[1])
            os._exit(0 if right else 1)
    _, status = os.waitpid(child, 0)
    fields.go.set()
    slow.join()
    assert os.waitstatus_to_exitcode(status) == 0


# --- making one ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "sizes", "message"),
    [
        (LazyFieldRenderer, {"cache_size": -1}, "cache_size is -1: expected a number of frames >= 0"),
        (ChunkedLazyFieldRenderer, {"chunk_size": 0}, "chunk_size is 0: expected a number >= 1"),
        (ChunkedLazyFieldRenderer, {"max_chunks": 0}, "max_chunks is 0: expected a number >= 1"),
    ],
)
def test_sizes_that_mean_nothing_are_refused(cls: Any, sizes: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        cls(ENV, FIELDS, LOOKUP, 0.1, 0.9, **sizes)


@pytest.mark.parametrize(
    ("n_frames", "cls"), [(10_000, LazyFieldRenderer), (10_001, ChunkedLazyFieldRenderer)]
)
def test_long_recordings_are_kept_by_the_chunk(n_frames: int, cls: Any) -> None:
    """The border is neurospatial's, and no frame is read to find out."""
    fields = CountingFields(np.broadcast_to(FIELDS[0], (n_frames, 12)))
    renderer = create_lazy_field_renderer(
        ENV, fields, LOOKUP, 0.1, 0.9, cache_size=5, chunk_size=6, max_chunks=7
    )
    assert type(renderer) is cls
    assert renderer._arguments[:-1] == ((5,) if cls is LazyFieldRenderer else (6, 7))
    assert fields.reads == []
