"""Where playback goes, from where it was: recorded playheads as data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazystore.cache.playhead import RECENT_DEMANDS, Playhead
from lazystore.cache.policy import (
    MAX_DOUBLINGS,
    _even_motion,
    _uneven_motion,
    motion_of,
    predict,
    urgent_count,
)

N = 1000


def at(rate_hz: float, *numbers: int) -> list[tuple[float, int]]:
    """A history with one demand each 1/rate seconds."""
    return [(i / rate_hz, number) for i, number in enumerate(numbers)]


def strides(start: int, *steps: int) -> list[int]:
    return list(accumulate(steps, initial=start))


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ([], []),
        ([5], []),
        ([5, 6], [7, 8]),
        ([5, 6, 7], [8, 9, 10, 11]),
        ([8, 7, 6], [5, 4, 3, 2]),
        ([10, 20, 30, 40], [50, 60, 70, 80, 90, 100, 110, 120]),
        ([40, 30, 20, 10], [0, 999, 989]),
        ([997, 998, 999], [0, 1]),
        ([2, 1, 0], [999, 998]),
        ([5, 5, 6], [7, 8]),
    ],
    ids=[
        "nothing",
        "one demand",
        "two",
        "forward",
        "backward",
        "every tenth",
        "every tenth back to the start",
        "the end",
        "the start",
        "the same again",
    ],
)
def test_steady_playback_is_continued(numbers: list[int], expected: list[int]) -> None:
    """In its direction and stride; a little beyond the ends, where viewers start over."""
    assert predict(at(30, *numbers), N, 8) == expected


def test_uneven_strides_are_covered_without_gaps() -> None:
    """Dropped frames make strides grow; wherever the next one lands, its chunk is on the list."""
    history = at(10, *strides(100, 30, 31, 32, 42, 72))
    predicted = predict(history, N, 64)
    assert predicted[0] == history[-1][1] + 30
    assert predicted == list(range(predicted[0], predicted[0] + 32))
    assert history[-1][1] + 35 in predicted


@pytest.mark.parametrize(
    "numbers",
    [
        [7, 512, 90, 733, 204, 870, 11],
        [500, 100, 900, 300],
        [0, 400],
        [3, 4, 3, 4, 700],
        strides(0, 300, 200),
    ],
    ids=["random", "zigzag", "one jump", "a jump away", "two long steps"],
)
def test_nothing_is_predicted_from_jumps(numbers: list[int]) -> None:
    """Random access costs no wasted reads."""
    assert predict(at(30, *numbers), N, 100) == []


def test_playback_goes_on_after_a_jump() -> None:
    """A click on the slider while playing: from the new place, with little at first."""
    history = at(30, *range(10, 30), 600)
    assert predict(history, N, 100) == [601, 602, 603, 604]
    assert predict([*history, (0.7, 601), (0.73, 602)], N, 100) == [603, 604, 605, 606]
    assert motion_of(history, N).loop is None


def test_turning_round_is_followed_at_once() -> None:
    """Scrubbing back and forth predicts the new direction after one step."""
    assert predict(at(30, 10, 11, 12, 13, 12), N, 100) == [11, 10]
    assert predict(at(30, 13, 12, 11, 12), N, 100) == [13, 14]


def test_evidence_limits_how_much_is_read_ahead() -> None:
    """Twice as much with each step, up to what there is room for."""
    counts = [len(predict(at(30, *range(n)), 10**6, 10**6)) for n in range(2, 16)]
    assert counts[:4] == [2, 4, 8, 16]
    assert max(counts) == 1 << MAX_DOUBLINGS
    assert len(predict(at(30, *range(50)), N, 5)) == 5
    assert predict(at(30, *range(50)), N, 0) == []


def test_speed_is_measured_by_the_clock() -> None:
    """And decides how much of the prediction is urgent: two seconds of it."""
    motion = motion_of(at(4.0, 3, 4, 5, 6, 7), N)
    assert motion.chunks_per_s == pytest.approx(4)
    assert urgent_count(motion, range(100)) == 8
    tenth = motion_of(at(4.0, 0, 10, 20, 30, 40), N)
    assert tenth.chunks_per_s == pytest.approx(40)
    assert urgent_count(tenth, range(100)) == 8
    assert urgent_count(motion_of([(0.0, 1), (60.0, 2)], N), range(100)) == 2
    at_once = motion_of([(1.0, 1), (1.0, 2), (1.0, 3)], N)
    assert math.isinf(at_once.chunks_per_s)
    assert urgent_count(at_once, range(7)) == 7


def played(laps: int, first: int, last: int, stride: int = 1, rate_hz: float = 30) -> Playhead:
    """A playhead that has gone round a loop so many times, and one step more."""
    playhead = Playhead()
    seconds = 0.0
    path = list(range(first, last + 1, abs(stride)))
    path = path if stride > 0 else path[::-1]
    for number in [*path * laps, path[0]]:
        playhead.observe(seconds, number)
        seconds += 1 / rate_hz
    return playhead


def test_a_loop_over_the_whole_movie_is_known_at_its_first_return() -> None:
    """Both directions, also with a stride."""
    for stride in (1, -1, 7, -7):
        motion = played(1, 0, N - 1, stride).motion(N)
        assert motion.loop == (0, N - 1), stride
        assert motion.stride == stride
        assert motion.is_steady


def test_a_loop_over_a_part_is_known_at_its_second_return() -> None:
    """However long it is: turning points are remembered longer than steps."""
    assert played(1, 200, 700).motion(N).loop is None
    assert played(2, 200, 700).motion(N).loop == (200, 700)
    history = played(2, 200, 700).history()
    assert len(history) < 2 * RECENT_DEMANDS
    for number in range(201, 699):
        history.append((history[-1][0] + 0.03, number))
    assert predict(history, N, 6) == [699, 700, 200, 201, 202, 203]


def test_turning_round_is_told_from_jumping_back() -> None:
    """A playhead that swings says nothing about what is needed last; one that jumped back does."""
    playhead = Playhead()
    for i, number in enumerate([*range(200, 320), *range(320, 240, -1)]):
        playhead.observe(i / 30, number)
    motion = playhead.motion(N)
    assert motion.swings
    assert not motion.is_steady
    assert motion.loop is None
    for i, number in enumerate([*range(239, 200, -1), *range(200, 320), *range(320, 240, -1)]):
        playhead.observe(100 + i / 30, number)
    assert playhead.motion(N).swings
    assert playhead.motion(N).loop is None
    for i, number in enumerate([700, *range(701, 790)]):
        playhead.observe(200 + i / 30, number)
    motion = playhead.motion(N)
    assert not motion.swings
    assert motion.is_steady


def test_a_loop_is_over_when_playback_leaves_it() -> None:
    """A jump elsewhere, or playing on beyond the loop's end."""
    playhead = played(2, 200, 300)
    playhead.observe(100.0, 900)
    playhead.observe(100.1, 901)
    assert playhead.motion(N).loop is None
    playhead = played(2, 200, 300)
    for i, number in enumerate(range(201, 320)):
        playhead.observe(100 + i / 30, number)
    assert playhead.motion(N).loop is None


def test_uneven_strides_in_a_loop_wrap_without_missing_the_start() -> None:
    """The chunks after the return are predicted before it."""
    history = at(30, *range(N - 3), N - 1, 0, *range(1, N - 4), N - 2)
    predicted = predict(history, N, 8)
    assert predicted[0] == N - 1
    assert predicted[1:] == [0, 1, 2, 3, 4, 5, 6]


HISTORIES = st.lists(st.tuples(st.floats(0, 1, allow_nan=False), st.integers(0, 40)), max_size=40).map(
    lambda steps: list(zip(accumulate(dt for dt, _ in steps), (n for _, n in steps), strict=True))
)


@given(HISTORIES, st.integers(0, 60))
def test_predictions_are_always_possible(history: Sequence[tuple[float, int]], max_chunks: int) -> None:
    """Inside the axis, without duplicates, never the present chunk, never more than asked for."""
    n_chunks = 41
    predicted = predict(history, n_chunks, max_chunks)
    assert len(predicted) == len(set(predicted)) <= max_chunks
    assert all(0 <= number < n_chunks for number in predicted)
    assert not history or history[-1][1] not in predicted
    motion = motion_of(history, n_chunks)
    assert (motion is None) == (not history)
    if motion is not None:
        assert motion.chunks_per_s >= 0
        assert 0 <= urgent_count(motion, predicted) <= len(predicted)
        assert motion.loop is None or 0 <= motion.loop[0] < motion.loop[1] < n_chunks


@given(st.lists(st.integers(0, 30), max_size=200))
def test_a_playhead_keeps_a_short_history_in_order(numbers: list[int]) -> None:
    """The latest demands as they were, and before them only earlier ones."""
    playhead = Playhead()
    seen = []
    for i, number in enumerate(numbers):
        if number != playhead.last:
            playhead.observe(float(i), number)
            seen.append((float(i), number))
    history = playhead.history()
    assert history[-RECENT_DEMANDS:] == seen[-RECENT_DEMANDS:]
    assert history == sorted(history)
    assert set(history) <= set(seen)


@given(
    start=st.integers(0, 10**12),
    stride=st.integers(-300, 300).filter(bool),
    n_steps=st.integers(0, 40),
    last_step=st.integers(-600, 600).filter(bool),
)
def test_even_playback_is_recognised_as_any_other(
    start: int, stride: int, n_steps: int, last_step: int
) -> None:
    """The short way says the same, and says nothing where one step differs or there are few."""
    numbers = [start + i * stride for i in range(n_steps + 1)]
    even, expected = _even_motion(at(30, *numbers)), _uneven_motion(at(30, *numbers), 10**12)
    if n_steps < 3:
        assert even is None
    else:
        assert even is not None
        assert even.chunks_per_s == pytest.approx(expected.chunks_per_s)
        assert dataclasses.replace(even, chunks_per_s=expected.chunks_per_s) == expected
    if n_steps and last_step != stride:
        assert _even_motion(at(30, *numbers, numbers[-1] + last_step)) is None
