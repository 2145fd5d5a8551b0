"""Chunks that are cheapest read together: those of one decoding pass, where frames need each other.

Going forwards a decoder gives frame after frame, and a pass is a handful of them. Going backwards
it has to begin at the key frame for every frame, so a pass is all that its group still has to give.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lazystore.cache.policy import Motion

# A demand that finds its chunk in a pass waits for the whole of it: 16 frames of 640x424 take 15 ms.
PASS_CHUNKS = 16
# One pass is read at a time, and plans are made 300 times a second: two thousand frames in each took a
# third of the time of playing as fast as possible.
MAX_CHUNKS_AHEAD = 4 * PASS_CHUNKS
# One step back happens by chance, and the reader keeps a few frames for that. Long strides back are a
# search, not playback: decoding whole groups for it would keep the next demand waiting.
STEPS_BACK = 2
MAX_STRIDE = 8


def passes(
    numbers: Sequence[int], motion: Motion, group_of: Callable[[int], range], max_chunks: int
) -> list[list[int]]:
    """Predicted chunks in the passes that read them; each pass soonest first.

    Parameters
    ----------
    numbers
        Chunks along axis 0, soonest first.
    motion
        Of the playhead.
    group_of
        Chunks that decode together with one.
    max_chunks
        How many in all at most; what goes backwards is extended to the beginning of its group.

    >>> forwards = Motion(3, stride=1, least_stride=1, run=4)
    >>> passes([4, 5, 6], forwards, lambda number: range(0, 250), 100)
    [[4, 5, 6]]
    >>> backwards = Motion(9, stride=-1, least_stride=1, run=4)
    >>> passes([8, 7], backwards, lambda number: range(number // 6 * 6, number // 6 * 6 + 6), 100)
    [[8, 7, 6]]
    """
    found: list[list[int]] = []
    if motion.stride >= 0 or motion.run < STEPS_BACK or -motion.stride > MAX_STRIDE:
        group = range(0)
        for number in numbers[:MAX_CHUNKS_AHEAD]:
            last = found[-1] if found else []
            # The decoder goes on over the next key frame; to a far one it would seek, and for that
            # nobody who waits for the first frame of the pass should wait.
            is_near = bool(last) and (abs(number - last[-1]) <= MAX_STRIDE or number in group)
            if is_near and len(last) < PASS_CHUNKS:
                last.append(number)
            else:
                group = group_of(number)
                found.append([number])
        return found
    left = min(max_chunks, max(MAX_CHUNKS_AHEAD, len(group_of(numbers[0])))) if numbers else 0
    spacing = motion.stride if motion.is_regular else -1
    for number in numbers:
        if left <= 0:
            break
        if found and found[-1][-1] <= number <= found[-1][0]:
            continue  # the pass of the number before goes over it
        part = list(range(number, group_of(number).start - 1, spacing))[:left]
        left -= len(part)
        # Short groups are decoded one after the other.
        if found and len(found[-1]) + len(part) <= PASS_CHUNKS and found[-1][-1] + spacing == number:
            found[-1].extend(part)
        else:
            found.append(part)
    return found
