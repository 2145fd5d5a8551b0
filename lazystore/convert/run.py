"""Carrying out a plan: one thread reads the source in order, others summarise, encode and write.

Memory is bounded by a count of blocks in flight, not by hope: the reader waits for a free place
before it reads the next block.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.convert.damage import Damage, damage_shares
from lazystore.convert.plan import ConversionPlan
from lazystore.convert.summaries import Summary, side_of_arrays, summary_for
from lazystore.convert.watch import Watch
from lazystore.errors import LazystoreError, SourceError
from lazystore.protocols import Block, Source
from lazystore.schema import JSON
from lazystore.store.index import ItemRecord
from lazystore.store.location import LocalLocation
from lazystore.store.writer import ItemWriter

# A place for the block being read and one that waits, beside one for each worker.
PLACES_BESIDE_WORKERS = 1
SECONDS_BETWEEN_NEWS = 0.5
# A folder of thousands of damaged images must not fill the item's attributes.
MAX_REASONS = 20


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an item is.

    Attributes
    ----------
    item
        Its name.
    records, total_records
        Records that are done, nearly all of them durable, and all there are.
    resumed_records
        Records that were durable before this run began.
    stored_bytes
        Bytes written by this run.
    elapsed_s
        Seconds since this run began.
    """

    item: str
    records: int
    total_records: int
    resumed_records: int
    stored_bytes: int
    elapsed_s: float

    @property
    def rate_hz(self) -> float:
        """Records a second of this run."""
        return (self.records - self.resumed_records) / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds left at this rate; None before the first task is done."""
        return (self.total_records - self.records) / self.rate_hz if self.rate_hz > 0 else None


type ProgressCallback = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a run did."""

    record: ItemRecord
    already_there: bool
    tasks_done: int
    tasks_resumed: int
    missing: tuple[int, ...]


def run(
    plan: ConversionPlan,
    source: Source,
    location: LocalLocation,
    *,
    resume: bool = True,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    before_commit: Callable[[], None] | None = None,
) -> RunResult:
    """Convert one item; killed at any point, the same call resumes it.

    Parameters
    ----------
    plan
        From `make_plan`, over this very source.
    source
        Gives the records.
    location
        The store.
    resume, overwrite
        As in `convert`.
    progress
        Called on this thread after every task, and every half second where a task takes longer.
    before_commit
        Called when all records are durable; what it raises stops the commit.

    Raises
    ------
    SourceError, StoreError, NoSpaceError
        The first error of any thread; what is durable stays so.
    """
    with ItemWriter(location, plan.item, resume=resume, overwrite=overwrite) as writer:
        if writer.already is not None:
            return RunResult(writer.already, True, 0, plan.item.n_tasks, ())
        watch = Watch()
        summary = summary_for(
            plan.info, plan.item.columns, plan.item.n_tasks, source, plan.levels, plan.workers, watch
        )
        resumed = len(writer.finished)
        _run_tasks(plan, source, writer, summary, progress, watch)
        if before_commit is not None:
            before_commit()
        missing, reasons = _losses(writer)
        damage = Damage.of_shares(missing, (record.shares for record in writer.records()))
        side, more = summary.finish(lambda: (record.shares for record in writer.records()))
        attributes: dict[str, JSON] = {
            **plan.item.attributes,
            **more,
            **damage.attributes(plan.timing.n_records, plan.info.problems, reasons),
        }
        times = [*plan.timing.side(), *plan.timing.side_of_bins(plan.levels.bins)]
        arrays = [*times, *side_of_arrays(plan.info.side), *side]
        record = writer.commit(arrays, attributes)
        return RunResult(record, False, plan.item.n_tasks - resumed, resumed, damage.missing)


def _losses(writer: ItemWriter) -> tuple[tuple[int, ...], list[str]]:
    """Records that the source lost, and the first reasons that it gave."""
    missing: list[int] = []
    reasons: list[str] = []
    for record in writer.records():
        missing += record.missing
        reasons += record.reasons[: MAX_REASONS - len(reasons)]
    return tuple(missing), reasons


def _run_tasks(
    plan: ConversionPlan,
    source: Source,
    writer: ItemWriter,
    summary: Summary,
    progress: ProgressCallback | None,
    watch: Watch,
) -> None:
    item = plan.item
    tasks = [task for task in range(item.n_tasks) if task not in writer.finished]
    resumed = sum(stop - start for start, stop in map(item.task_range, writer.finished))
    began = time.monotonic()
    records, told, stored = resumed, resumed, 0

    def work(task: int, block: Block) -> tuple[int, int]:
        if watch.stopping:
            return 0, 0
        start, stop = item.task_range(task)
        columns = checked_columns(plan, block, start, stop)
        share = {**summary.share(start, columns, block.missing), **damage_shares([block])}
        reasons = [f"record {index}: {why}" for index, why in sorted(block.reasons.items())]
        return stop - start, writer.write_task(task, columns, share, block.missing, reasons)

    def account(future: Future[tuple[int, int]]) -> None:
        nonlocal records, stored
        done_records, done_bytes = future.result()
        records += done_records
        stored += done_bytes
        tell()

    def tell() -> None:
        nonlocal told
        told = max(told, min(records + watch.ahead, item.length))
        if progress is not None:
            elapsed = time.monotonic() - began
            progress(Progress(item.name, told, item.length, resumed, stored, elapsed))

    def wait_for_one(pending: set[Future[tuple[int, int]]]) -> set[Future[tuple[int, int]]]:
        """Those that are not done yet; somebody who looks at a long task hears of it meanwhile."""
        done, left = wait(pending, timeout=SECONDS_BETWEEN_NEWS, return_when=FIRST_COMPLETED)
        while not done:
            tell()
            done, left = wait(pending, timeout=SECONDS_BETWEEN_NEWS, return_when=FIRST_COMPLETED)
        for future in done:
            account(future)
        return left

    pending: set[Future[tuple[int, int]]] = set()
    pool = ThreadPoolExecutor(plan.workers, thread_name_prefix="lazystore-convert")
    try:
        for task, block in _blocks(item.task_range, tasks, source):
            pending.add(pool.submit(work, task, block))
            del block
            # Wait for a place, then look at whoever is done: the first error stops everything.
            if len(pending) >= plan.workers + PLACES_BESIDE_WORKERS or any(f.done() for f in pending):
                pending = wait_for_one(pending)
        while pending:
            pending = wait_for_one(pending)
    except BaseException:
        watch.stop()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _blocks(
    task_range: Callable[[int], tuple[int, int]], tasks: list[int], source: Source
) -> Iterator[tuple[int, Block]]:
    for task in tasks:
        start, stop = task_range(task)
        try:
            block = source.read(start, stop)
        except (LazystoreError, MemoryError):
            raise
        except (OSError, ValueError, EOFError, RuntimeError) as error:
            names = ", ".join(identity.name for identity in source.info.identity[:1])
            raise SourceError(f"cannot read records {start} to {stop} of {names}: {error}") from error
        yield task, block


def checked_columns(plan: ConversionPlan, block: Block, start: int, stop: int) -> Mapping[str, NDArray[Any]]:
    """A block's columns, if they are what the source promised.

    Raises
    ------
    SourceError
        If a column has another shape or dtype.
    """
    columns: dict[str, NDArray[Any]] = {}
    for spec in plan.item.columns:
        values = np.asarray(block.columns[spec.path])
        expected = (stop - start, *spec.shape[1:])
        if values.shape != expected or values.dtype != spec.dtype:
            raise SourceError(
                f"the source gave {spec.path!r} as {values.dtype}{values.shape} for records {start} to "
                f"{stop}, and promised {spec.dtype}{expected}; it may have changed: convert it again"
            )
        columns[spec.path] = values
    return columns
