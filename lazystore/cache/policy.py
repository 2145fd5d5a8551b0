"""Where playback is going: pure functions of the chunks that were demanded lately, and when.

Everything counts in chunks along axis 0. A history is a list of (monotonic seconds, chunk number),
oldest first, one entry for each change of chunk; of older ones only changes of direction may be left,
each with the demand before it and the one after.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

type History = Sequence[tuple[float, int]]

# Steps of the present run that speed and stride are measured over.
RECENT_STEPS = 16
# A step is a jump where it is this many times the usual stride, and this long at least: dropped
# frames make strides uneven (30, 31, 32, 42, 72 in napari), and that is still playing.
JUMP_FACTOR = 4
JUMP_CHUNKS = 8
# What a prediction may cost grows with its evidence: 2, 4, 8, … chunks after 1, 2, 3, … steps one way.
MAX_DOUBLINGS = 12
STEADY_RUN = 3
# Chunks that playback will need within this time are urgent; what lies beyond is for idle threads.
HORIZON_S = 2.0
# Nothing is known to have an end: a few chunks of the start are worth having when the end comes near.
WRAP_CHUNKS = 2


@dataclass(frozen=True, slots=True)
class Motion:
    """How the playhead moves.

    Attributes
    ----------
    position
        Chunk that was demanded last.
    stride
        Chunks a step, negative backwards; 0 where there is no direction.
    least_stride
        Smallest recent step, in chunks, ≥ 0; equal to the stride's size where steps are regular.
    chunks_per_s
        Speed by the clock, ≥ 0; infinite where demands came at once.
    run
        Steps in this direction without a jump, ≥ 0; the evidence.
    loop
        First and last chunk of what is played over and over, or None.
    swings
        Whether it came this way by turning round, as in scrubbing, and not by a jump.
    """

    position: int
    stride: int = 0
    least_stride: int = 0
    chunks_per_s: float = 0.0
    run: int = 0
    loop: tuple[int, int] | None = None
    swings: bool = False

    @property
    def is_steady(self) -> bool:
        """Whether it says what will be needed last.

        A few steps happen by chance. Of a playhead that swings the best guess is that it turns again,
        and then least-recently-used is the best there is.
        """
        return self.stride != 0 and (self.loop is not None or (self.run >= STEADY_RUN and not self.swings))

    @property
    def is_regular(self) -> bool:
        """Whether every recent step had the same length."""
        return self.least_stride == abs(self.stride)


def motion_of(history: History, n_chunks: int) -> Motion | None:
    """How the playhead moves, or None before the first demand.

    Parameters
    ----------
    history
        Recent demands.
    n_chunks
        Chunks along the axis, > 0.

    >>> motion_of([(0.0, 4), (0.5, 5), (1.0, 6)], 100)
    Motion(position=6, stride=1, least_stride=1, chunks_per_s=2.0, run=2, loop=None, swings=False)
    """
    if not history:
        return None
    return _even_motion(history) or _uneven_motion(history, n_chunks)


def _even_motion(history: History) -> Motion | None:
    """The same where all steps are equal, as in most of playback: 2.4 instead of 16 us at every step."""
    n_steps = len(history) - 1
    if n_steps < STEADY_RUN:
        return None
    numbers = [number for _, number in history]
    first, last = numbers[0], numbers[-1]
    stride = last - numbers[-2]
    if not stride or last - first != n_steps * stride or numbers != [*range(first, last + stride, stride)]:
        return None
    recent = min(n_steps, RECENT_STEPS)
    seconds = history[-1][0] - history[-1 - recent][0]
    speed = recent * abs(stride) / seconds if seconds > 0 else math.inf
    return Motion(last, stride, abs(stride), speed, n_steps)


def _uneven_motion(history: History, n_chunks: int) -> Motion:
    position = history[-1][1]
    steps = [
        (length, late - early)
        for (early, before), (late, after) in pairwise(history)
        if (length := after - before)
    ]
    if not steps:
        return Motion(position)
    run = _run_at_end(steps)
    if not run:
        # Just jumped: go on as before the jump, which is what a loop or a click on the slider does.
        before = _run_at_end(steps[:-1])
        if len(before) < 3:
            return Motion(position)
        run, evidence = before, 2
    else:
        evidence = len(run)
    recent = run[-RECENT_STEPS:]
    lengths = [abs(length) for length, _ in recent]
    seconds = sum(seconds for _, seconds in recent)
    stride = round(math.copysign(median(lengths), recent[-1][0]))
    speed = sum(lengths) / seconds if seconds > 0 else math.inf
    return Motion(
        position=position,
        stride=stride,
        least_stride=min(lengths),
        chunks_per_s=speed,
        run=evidence,
        loop=_loop_of(history, stride, n_chunks),
        swings=_has_turned(steps, stride),
    )


def _run_at_end(steps: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """The last steps that go one way without a jump; empty where the last step is itself a jump."""
    lengths = [length for length, _ in steps]
    last = len(lengths) - 1
    if last < 0 or _stands_out(lengths, last, max(0, last - 3), last):
        return []
    first, sign = last, lengths[last]
    while first and lengths[first - 1] * sign > 0:
        if _stands_out(lengths, first - 1, first, first + RECENT_STEPS):
            break
        first -= 1
    run = list(steps[first:])
    # Long strides mean something only when they repeat: two in a row happen by chance.
    is_scatter = len(run) < 3 and max(abs(length) for length, _ in run) > JUMP_CHUNKS
    return [] if is_scatter else run


def _stands_out(lengths: Sequence[int], number: int, begin: int, end: int) -> bool:
    """Whether a step is a jump among those of [begin, end); they are seldom looked at, in playback never."""
    if -JUMP_CHUNKS <= lengths[number] <= JUMP_CHUNKS:
        return False
    return _is_jump(lengths[number], median([abs(other) for other in lengths[begin:end]] or [0]))


def _is_jump(length: int, usual: float) -> bool:
    return abs(length) > max(JUMP_FACTOR * usual, JUMP_CHUNKS)


def _has_turned(steps: Sequence[tuple[int, float]], stride: int) -> bool:
    """Whether the last change of direction was a turn: a short step one way, then a short one back."""
    after = 0
    for length, _ in reversed(steps):
        if length * stride < 0:
            return not _is_jump(length, abs(stride)) and not _is_jump(after, abs(stride))
        after = length
    return False


def _loop_of(history: History, stride: int, n_chunks: int) -> tuple[int, int] | None:
    """The stretch that is played over and over.

    A return against the direction that spans the whole axis is the viewer's own loop; elsewhere
    two returns between the same places make one.
    """
    if not stride:
        return None
    reach = 2 * abs(stride) + 1
    numbers = [number for _, number in history]
    # The step into a return goes with the direction; otherwise it is what is left of a run the other way.
    returns = [
        (before, after)
        for previous, before, after in zip(numbers, numbers[1:], numbers[2:], strict=False)
        if (after - before) * stride < 0
        and _is_jump(after - before, abs(stride))
        and (before - previous) * stride > 0
    ]
    if not returns:
        return None
    left, arrived = returns[-1]
    first, last = min(left, arrived), max(left, arrived)
    if not first - reach <= history[-1][1] <= last + reach:
        return None  # it has left the stretch since
    if first < reach and last >= n_chunks - reach:
        return 0, n_chunks - 1
    again = any(abs(left - a) <= reach and abs(arrived - b) <= reach for a, b in returns[:-1])
    return (first, last) if again else None


def predict(history: History, n_chunks: int, max_chunks: int) -> list[int]:
    """Chunks that will be demanded next, soonest first.

    Parameters
    ----------
    history
        Recent demands.
    n_chunks
        Chunks along the axis.
    max_chunks
        How many at most.

    Returns
    -------
    list of int
        No duplicates, never the present chunk; empty where nothing points anywhere.

    >>> predict([(0.0, 4), (0.5, 5), (1.0, 6)], 100, 10)
    [7, 8, 9, 10]
    >>> predict([(0.0, 40), (0.5, 30), (1.0, 20), (1.5, 10)], 100, 10)
    [0, 99, 89]
    """
    motion = motion_of(history, n_chunks)
    return [] if motion is None else ahead_of(motion, n_chunks, max_chunks)


def ahead_of(motion: Motion, n_chunks: int, max_chunks: int) -> list[int]:
    """The same for a motion that is known."""
    if not motion.stride or max_chunks < 1:
        return []
    count = min(max_chunks, 1 << min(motion.run, MAX_DOUBLINGS))
    direction = 1 if motion.stride > 0 else -1
    # Uneven strides may land anywhere ahead: then every chunk from the shortest step on is fetched.
    spacing = motion.stride if motion.is_regular else direction
    first = motion.stride if motion.is_regular else direction * motion.least_stride
    low, high = motion.loop or (0, n_chunks - 1)
    length = high - low + 1
    wrapped_limit = count if motion.loop else WRAP_CHUNKS
    predicted: dict[int, None] = {}
    wrapped = 0
    for k in range(count):
        place = motion.position + first + k * spacing
        if not low <= place <= high:
            wrapped += 1
            if wrapped > wrapped_limit or length < 2:
                break
            if not motion.loop:
                # Playback without a known loop starts over at the axis' end, if it does.
                place = (wrapped - 1) * abs(spacing)
                place = place if direction > 0 else n_chunks - 1 - place
            else:
                place = low + (place - low) % length
        if place == motion.position or place in predicted or not 0 <= place < n_chunks:
            break
        predicted[place] = None
    return list(predicted)


def after_lingering(motion: Motion, n_chunks: int) -> list[int]:
    """The chunk to have where playback goes on inside one chunk and has not left it yet.

    Chunks that lie far away and hold a second of playback or more would else be waited for once, at
    the first border: nothing has moved by chunks until then. Forwards, because that is how one plays.

    >>> after_lingering(Motion(position=4), 100)
    [5]
    """
    return [motion.position + 1] if not motion.stride and motion.position + 1 < n_chunks else []


def urgent_count(motion: Motion, predicted: Sequence[int]) -> int:
    """How many of the predicted chunks will be demanded within `HORIZON_S`; at least 2 of them."""
    if not math.isfinite(motion.chunks_per_s):
        return len(predicted)
    steps = motion.chunks_per_s * HORIZON_S / max(1, abs(motion.stride) if motion.is_regular else 1)
    return min(len(predicted), max(2, math.ceil(steps)))
