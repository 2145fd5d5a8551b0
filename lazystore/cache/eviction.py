"""Which chunk playback will need last: pure functions over a motion and the chunks in memory.

A chunk's score is the time in seconds until it will probably be used. Where the playhead is known
to move, that is its distance by the present speed; where nothing is known, the time since it was
used last, which makes plain LRU. Scores of several arrays compare, so one budget serves them all.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence

from lazystore.cache.policy import Motion
from lazystore.chunks import ChunkIndex

# A chunk behind the playhead is needed again if playback turns round: taken as this much farther away.
BEHIND_FACTOR = 4.0
# The slowest speed that distances are turned into time with: a paused movie is not infinitely far.
SLOWEST_CHUNKS_PER_S = 0.1
# Nothing was demanded in zero time; at this speed distances still differ.
FASTEST_CHUNKS_PER_S = 1e6


def chunks_until_use(number: int, motion: Motion) -> float:
    """Distance along playback to a chunk, in chunks; infinite outside a loop.

    >>> forward = Motion(position=10, stride=1, chunks_per_s=2.0, run=3)
    >>> chunks_until_use(13, forward), chunks_until_use(8, forward)
    (3.0, 8.0)
    >>> looping = Motion(position=10, stride=1, chunks_per_s=2.0, run=3, loop=(0, 19))
    >>> chunks_until_use(9, looping), chunks_until_use(30, looping)
    (19.0, inf)
    """
    ahead = (number - motion.position) * (1 if motion.stride > 0 else -1)
    if motion.loop is not None:
        first, last = motion.loop
        return float(ahead % (last - first + 1)) if first <= number <= last else math.inf
    return float(ahead) if ahead >= 0 else -ahead * BEHIND_FACTOR


def seconds_until_use(number: int, motion: Motion, idle_s: float = 0.0) -> float:
    """Estimated time until a chunk is used, for a playhead that last moved `idle_s` seconds ago."""
    speed = min(max(motion.chunks_per_s, SLOWEST_CHUNKS_PER_S), FASTEST_CHUNKS_PER_S)
    return idle_s + chunks_until_use(number, motion) / speed


def last_needed(indices: Sequence[ChunkIndex], motion: Motion) -> ChunkIndex:
    """The chunk in memory that playback needs last.

    Parameters
    ----------
    indices
        Chunk indices in memory, sorted, at least one.
    motion
        With a stride.

    Notes
    -----
    Distance grows towards the ends of the axis, and in a loop towards the place just behind the
    playhead, so that a look at two or three of the sorted indices is enough.

    >>> last_needed([(0,), (9,), (12,)], Motion(10, 1, 1, 2.0, 3))
    (0,)
    >>> last_needed([(0,), (9,), (12,)], Motion(10, 1, 1, 2.0, 3, loop=(0, 19)))
    (9,)
    """
    candidates = [indices[0], indices[-1]]
    if motion.loop is not None:
        # Just behind the playhead, going round the loop's ends if nothing is there.
        if motion.stride > 0:
            place = bisect_left(indices, (motion.position,))
            behind = indices[place - 1] if place else indices[-1]
            end = indices[max(0, bisect_right(indices, (motion.loop[1] + 1,)) - 1)]
        else:
            place = bisect_left(indices, (motion.position + 1,))
            behind = indices[place] if place < len(indices) else indices[0]
            end = indices[min(len(indices) - 1, bisect_left(indices, (motion.loop[0],)))]
        candidates += [behind, end]
    return max(candidates, key=lambda index: chunks_until_use(index[0], motion))
