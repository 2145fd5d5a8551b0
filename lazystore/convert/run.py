"""Carrying out a plan: one thread reads the source in order, others summarise, encode and write.

Or workers elsewhere do all of it, and what they staged is published here.

Memory is bounded by a count of blocks in flight, not by hope: the reader waits for a free place
before it reads the next block.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from lazystore.convert.damage import Damage
from lazystore.convert.plan import ConversionPlan
from lazystore.convert.summaries import Summary, side_of_arrays, summary_for
from lazystore.convert.task import read_task, stage_block
from lazystore.convert.watch import Watch
from lazystore.protocols import Block, Source
from lazystore.schema import JSON
from lazystore.store.index import ItemRecord
from lazystore.store.item_plan import ItemPlan
from lazystore.store.location import LocalLocation
from lazystore.store.staged import StagedTask
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
type StageElsewhere = Callable[[Sequence[int], str], Generator[StagedTask]]


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
    elsewhere: StageElsewhere | None = None,
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
    elsewhere
        Stages the tasks that it is given for the run of a token, in any order, where the source and the
        store are seen at the same paths; None for threads here.

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
        tasks = [task for task in range(plan.item.n_tasks) if task not in writer.finished]
        resumed_records = sum(stop - start for start, stop in map(plan.item.task_range, writer.finished))
        account = _Account(plan.item, resumed_records, progress, watch)
        if elsewhere is None:
            _run_on_threads(plan, source, tasks, writer, summary, account, watch)
        elif tasks:
            _run_elsewhere(elsewhere, tasks, writer, account)
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


class _Account:
    """Adds up what is done and tells of it."""

    def __init__(self, item: ItemPlan, resumed: int, progress: ProgressCallback | None, watch: Watch) -> None:
        self._item, self._resumed, self._progress, self._watch = item, resumed, progress, watch
        self._began = time.monotonic()
        self._records, self._told, self._stored = resumed, resumed, 0

    def add(self, task: int, n_bytes: int) -> None:
        """One more task is durable."""
        start, stop = self._item.task_range(task)
        self._records += stop - start
        self._stored += n_bytes
        self.tell()

    def tell(self) -> None:
        """Say how far it is; never less than before."""
        item = self._item
        self._told = max(self._told, min(self._records + self._watch.ahead, item.length))
        if self._progress is not None:
            elapsed = time.monotonic() - self._began
            self._progress(Progress(item.name, self._told, item.length, self._resumed, self._stored, elapsed))


def _run_on_threads(
    plan: ConversionPlan,
    source: Source,
    tasks: Sequence[int],
    writer: ItemWriter,
    summary: Summary,
    account: _Account,
    watch: Watch,
) -> None:
    item = plan.item

    def work(task: int, block: Block) -> tuple[int, int]:
        if watch.stopping:
            return task, 0
        return task, writer.publish(stage_block(item, summary, writer.location, writer.area, task, block))

    def wait_for_one(pending: set[Future[tuple[int, int]]]) -> set[Future[tuple[int, int]]]:
        """Those that are not done yet; somebody who looks at a long task hears of it meanwhile."""
        done, left = wait(pending, timeout=SECONDS_BETWEEN_NEWS, return_when=FIRST_COMPLETED)
        while not done:
            account.tell()
            done, left = wait(pending, timeout=SECONDS_BETWEEN_NEWS, return_when=FIRST_COMPLETED)
        for future in done:
            account.add(*future.result())
        return left

    pending: set[Future[tuple[int, int]]] = set()
    pool = ThreadPoolExecutor(plan.workers, thread_name_prefix="lazystore-convert")
    try:
        for task in tasks:
            block = read_task(item, source, task)
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


def _run_elsewhere(
    stage: StageElsewhere, tasks: Sequence[int], writer: ItemWriter, account: _Account
) -> None:
    token = secrets.token_hex(8)
    with writer.marked_run(token), contextlib.closing(stage(tasks, token)) as done:
        for staged in done:
            account.add(staged.task, writer.publish(staged))
