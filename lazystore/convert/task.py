"""One task: its records read, checked, summarised and staged, on a thread here or in a worker elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.convert.damage import damage_shares
from lazystore.convert.summaries import Summary
from lazystore.errors import LazystoreError, SourceError
from lazystore.protocols import Block, Source
from lazystore.store.item_plan import ItemPlan
from lazystore.store.location import LocalLocation
from lazystore.store.progress import ProgressArea
from lazystore.store.staged import StagedTask, stage_task


def read_task(item: ItemPlan, source: Source, task: int) -> Block:
    """The records of a task.

    Raises
    ------
    SourceError
        If they cannot be read.
    """
    start, stop = item.task_range(task)
    try:
        return source.read(start, stop)
    except (LazystoreError, MemoryError):
        raise
    except (OSError, ValueError, EOFError, RuntimeError) as error:
        names = ", ".join(identity.name for identity in source.info.identity[:1])
        raise SourceError(f"cannot read records {start} to {stop} of {names}: {error}") from error


def stage_block(
    item: ItemPlan, summary: Summary, location: LocalLocation, area: ProgressArea, task: int, block: Block
) -> StagedTask:
    """A task's files and record from its records."""
    start, stop = item.task_range(task)
    columns = checked_columns(item, block, start, stop)
    share = {**summary.share(start, columns, block.missing), **damage_shares([block])}
    reasons = [f"record {index}: {why}" for index, why in sorted(block.reasons.items())]
    return stage_task(location, area, item, task, columns, share, block.missing, reasons)


def checked_columns(item: ItemPlan, block: Block, start: int, stop: int) -> Mapping[str, NDArray[Any]]:
    """A block's columns, if they are what the source promised.

    Raises
    ------
    SourceError
        If a column has another shape or dtype.
    """
    columns: dict[str, NDArray[Any]] = {}
    for spec in item.columns:
        values = np.asarray(block.columns[spec.path])
        expected = (stop - start, *spec.shape[1:])
        if values.shape != expected or values.dtype != spec.dtype:
            raise SourceError(
                f"the source gave {spec.path!r} as {values.dtype}{values.shape} for records {start} to "
                f"{stop}, and promised {spec.dtype}{expected}; it may have changed: convert it again"
            )
        columns[spec.path] = values
    return columns
