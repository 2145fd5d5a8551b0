"""From predicted chunks to jobs for the prefetcher: what is urgent, and what is read together."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from lazystore.cache.eviction import seconds_until_use
from lazystore.cache.passes import passes
from lazystore.cache.policy import Motion, urgent_count
from lazystore.cache.prefetch import Job, Plan
from lazystore.chunks import ChunkIndex

# Prefetch may go this much beyond what is urgent.
IDLE_FACTOR = 4


def jobs_ahead(
    numbers: Sequence[int],
    motion: Motion,
    tails: Sequence[tuple[int, ...]],
    present: Container[ChunkIndex],
    group_of: Callable[[int], range] | None,
    room: int,
) -> Plan:
    """What to read ahead, soonest first.

    Parameters
    ----------
    numbers
        Chunks along axis 0 that will be demanded, soonest first.
    tails
        Which of the chunks side by side are looked at, by their index without axis 0.
    present
        Chunks that need no reading.
    group_of
        Chunks that decode together with one; None where each is read alone.
    room
        Chunks along axis 0 that there is room for.
    """
    n_urgent = urgent_count(motion, numbers)
    numbers = numbers[: IDLE_FACTOR * n_urgent]
    if group_of is None:
        batches = [[number] for number in numbers]
    else:
        batches = passes(numbers, motion, group_of, room)
    plan, n_planned = Plan(), 0
    for batch_number, batch in enumerate(batches):
        waiting = plan.urgent if n_planned < n_urgent else plan.idle
        waiting.extend(
            Job(
                (number, *tail),
                seconds_until_use(number, motion),
                motion.position,
                -1 if group_of is None else batch_number,
            )
            for number in batch
            for tail in tails
            if (number, *tail) not in present
        )
        n_planned += len(batch)
    return plan
