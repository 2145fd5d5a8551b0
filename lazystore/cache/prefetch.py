"""Background threads that read chunks before they are demanded."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from lazystore.chunks import ChunkIndex
from lazystore.telemetry import logger

# Decoding runs outside the interpreter lock, so threads beyond the cores help only slow stores.
MIN_WORKERS = 2
MAX_WORKERS = 4
# After planning the planner looks away this long, so that a tight loop over frames pays for waking it
# 300 times a second instead of at every chunk.
NAP_S = 0.003
# Threads without work for this long end; the next movement starts them again in 0.1 ms.
IDLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Job:
    """A chunk to read ahead, and in how many seconds playback will need it.

    `seen_from` is the playhead's chunk when this was planned. Neighbours in a plan with equal `batch`,
    0 or above, are read together.
    """

    chunk_index: ChunkIndex
    within_s: float
    seen_from: int = -1
    batch: int = -1

    def is_passed(self, position: int) -> bool:
        """Whether the playhead has gone over the chunk since.

        >>> Job((7, 0), 0.1, seen_from=5).is_passed(6), Job((7, 0), 0.1, seen_from=5).is_passed(8)
        (False, True)
        """
        number = self.chunk_index[0]
        return (number - self.seen_from) * (number - position) <= 0


@dataclass(slots=True)
class Plan:
    """What to read ahead for one array, soonest first; `idle` waits until nobody has anything urgent."""

    urgent: deque[Job] = field(default_factory=deque)
    idle: deque[Job] = field(default_factory=deque)

    def __len__(self) -> int:
        return len(self.urgent) + len(self.idle)


class Ahead(Protocol):
    """What the prefetcher serves: an array that plans, and reads ahead when told."""

    is_open: bool

    @property
    def has_place(self) -> bool:
        """Whether another thread may read ahead for it now."""

    @property
    def shared_reads(self) -> int:
        """How many neighbouring jobs may be read together."""

    def plan(self) -> Plan:
        """What to read ahead now."""

    def prefetch(self, jobs: list[Job]) -> bool:
        """Read them; False where the rest of the plan is not worth its room either. Must not raise."""

    def count_cancelled(self, n_jobs: int) -> None:
        """So many planned jobs were dropped."""


class Prefetcher:
    """One planning thread and a few reading threads, started when needed, for all arrays.

    Demands never queue here: they read in their own thread. A new plan replaces the old one, so
    that a jump cancels whatever has not begun. All threads are daemons; a process never waits for
    them to end.

    Parameters
    ----------
    n_workers
        Reading threads at most; None takes the number of cores, 2 to 4.
    """

    def __init__(self, n_workers: int | None = None) -> None:
        self._n_workers = n_workers or max(MIN_WORKERS, min(MAX_WORKERS, os.cpu_count() or 1))
        self._renew()
        _prefetchers.add(self)

    def _renew(self) -> None:
        """As new; also what a child of fork starts with, where no thread exists."""
        self._work = threading.Condition()
        self._woken = threading.Event()
        self._moved: set[Ahead] = set()
        self._plans: dict[Ahead, Plan] = {}
        self._known: weakref.WeakSet[Ahead] = weakref.WeakSet()
        self._planner: threading.Thread | None = None
        self._workers: set[threading.Thread] = set()
        self._n_waiting = 0
        # Threads of an older epoch end at once.
        self._epoch = 0

    def wake(self, array: Ahead) -> None:
        """The array's playhead has moved. Called at every change of chunk: a few hundred nanoseconds."""
        self._moved.add(array)
        if not self._woken.is_set():
            self._woken.set()
        # Looked at after the array was noted: a planner that is about to end notices it, or is gone.
        if self._planner is None:
            self._start_planner()

    def forget(self, array: Ahead, give_up_at: float) -> None:
        """Drop what was planned for an array; the last one to go ends the threads.

        Waits for them until `give_up_at` (monotonic seconds); one that still reads then ends later.
        """
        ending: list[threading.Thread] = []
        with self._work:
            self._moved.discard(array)
            plan = self._plans.pop(array, None)
            self._known.discard(array)
            if not self._known:
                ending = [*self._workers, *([self._planner] if self._planner is not None else [])]
                self._workers.clear()
                self._planner = None
                self._epoch += 1
                self._woken.set()
                self._work.notify_all()
        if plan:
            array.count_cancelled(len(plan))
        for thread in ending:
            if thread is not threading.current_thread():
                thread.join(max(0.0, give_up_at - time.monotonic()))

    # --- planning -------------------------------------------------------------------------------

    def _start_planner(self) -> None:
        with self._work:
            if self._planner is None:
                self._planner = self._started(self._plan_loop, "plan")

    def _started(self, target: object, name: str) -> threading.Thread | None:
        thread = threading.Thread(
            target=target,  # type: ignore[arg-type]  # a method that takes the epoch
            args=(self._epoch,),
            name=f"lazystore-prefetch-{name}",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:
            # The interpreter is ending, or has no threads left: reading ahead is not worth an error.
            return None
        return thread

    def _plan_loop(self, epoch: int) -> None:
        while True:
            has_moved = self._woken.wait(IDLE_S)
            with self._work:
                if self._epoch != epoch:
                    return
                if not has_moved and not self._moved:
                    self._planner = None
                    return
            self._woken.clear()
            while self._moved:
                try:
                    array = self._moved.pop()
                except KeyError:  # forgotten between the look and the pop
                    break
                self._replan(array, epoch)
                del array  # a thread that naps must not keep an array alive
            time.sleep(NAP_S)

    def _replan(self, array: Ahead, epoch: int) -> None:
        try:
            plan = array.plan()
        except Exception:  # a policy of someone else's; playing on without reading ahead is right
            logger.exception("planning a prefetch failed")
            return
        with self._work:
            if self._epoch != epoch or not array.is_open:
                return
            self._known.add(array)
            before = self._plans.pop(array, None)
            if plan:
                self._plans[array] = plan
            n_jobs = len(plan)
            while self._n_waiting < n_jobs and len(self._workers) < self._n_workers:
                thread = self._started(self._work_loop, str(len(self._workers)))
                if thread is None:
                    break
                self._workers.add(thread)
                n_jobs -= 1
            self._work.notify(n_jobs)
        if before:
            wanted = {job.chunk_index for job in (*plan.urgent, *plan.idle)}
            dropped = [job for job in (*before.urgent, *before.idle) if job.chunk_index not in wanted]
            array.count_cancelled(len(dropped))

    # --- reading --------------------------------------------------------------------------------

    def _work_loop(self, epoch: int) -> None:
        while True:
            with self._work:
                taken = None
                while self._epoch == epoch and (taken := self._take()) is None:
                    self._n_waiting += 1
                    try:
                        is_woken = self._work.wait(IDLE_S)
                    finally:
                        self._n_waiting -= 1
                    if not is_woken and not self._plans and self._epoch == epoch:
                        self._workers.discard(threading.current_thread())
                        return
                if taken is None:
                    return
            array, jobs = taken
            is_worth_it = array.prefetch(jobs)
            if not is_worth_it:
                with self._work:
                    rest = self._plans.pop(array, None)
                if rest:
                    array.count_cancelled(len(rest))
            del array, taken

    def _take(self) -> tuple[Ahead, list[Job]] | None:
        """The next jobs: what is needed soonest of all that is urgent, else of what is idle; lock held."""
        for name in ("urgent", "idle"):
            waiting = [
                (jobs[0].within_s, number)
                for number, (array, plan) in enumerate(self._plans.items())
                if (jobs := getattr(plan, name)) and array.has_place
            ]
            if waiting:
                array = list(self._plans)[min(waiting)[1]]
                plan = self._plans[array]
                jobs = getattr(plan, name)
                taken = [jobs.popleft()]
                batch = taken[0].batch
                while jobs and (jobs[0].batch == batch if batch >= 0 else len(taken) < array.shared_reads):
                    taken.append(jobs.popleft())
                if not plan:
                    del self._plans[array]
                return array, taken
        return None


_prefetchers: weakref.WeakSet[Prefetcher] = weakref.WeakSet()
shared_prefetcher = Prefetcher()
"""The process's prefetcher."""


def _renew_after_fork() -> None:
    for prefetcher in list(_prefetchers):
        prefetcher._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_after_fork)
