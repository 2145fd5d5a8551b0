"""Which task a worker does next: the one after its last, so that it reads its part in order."""

from __future__ import annotations

from collections.abc import Sequence


class Lanes:
    """Tasks as runs of neighbours, one run a worker; who has none left takes over half of the longest.

    A video is decoded from the key frame before what is asked for, and a compressed chunk whole: a
    worker that got every second task would decode most of it for nothing. A worker that is gone
    needs no mention: the others take what it leaves.

    >>> lanes = Lanes(range(6))
    >>> [lanes.next(worker) for worker in "aabbabaa"]
    [0, 1, 4, 5, 2, 3, None, None]
    """

    def __init__(self, tasks: Sequence[int]) -> None:
        self._runs: dict[str, Sequence[int]] = {"": tasks}

    def next(self, worker: str) -> int | None:
        """The next task of a worker; None where none is left."""
        run = self._runs.pop(worker, ()) or self._half_of_the_longest()
        if not run:
            return None
        self._runs[worker] = run[1:]
        return run[0]

    def _half_of_the_longest(self) -> Sequence[int]:
        if not self._runs:
            return ()
        owner = max(self._runs, key=lambda other: len(self._runs[other]))
        run = self._runs[owner]
        # Nobody works on the first run: all of it goes to who comes first.
        kept = len(run) // 2 if owner else 0
        self._runs[owner] = run[:kept]
        return run[kept:]
