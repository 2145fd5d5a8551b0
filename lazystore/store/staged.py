"""A task's files and its record, durable under names that nobody reads: to be published, or thrown away.

Staging needs no lock, so it may be done anywhere and more than once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from lazystore.store.item_plan import ItemPlan
from lazystore.store.location import LocalLocation
from lazystore.store.manifest import Entry
from lazystore.store.progress import ProgressArea, TaskRecord
from lazystore.store.shard import encode_file


@dataclass(frozen=True, slots=True)
class StagedTask:
    """One task of which nothing counts yet.

    Attributes
    ----------
    task
        Its number.
    files
        (staged key, key) of each of its files, in the store.
    record
        The staged record, in the progress area.
    n_bytes
        Bytes of all files.
    """

    task: int
    files: tuple[tuple[str, str], ...]
    record: str
    n_bytes: int

    def discard(self, location: LocalLocation, area: ProgressArea) -> None:
        """Remove all of it."""
        location.discard(name for name, _ in self.files)
        area.discard_record(self.record)


def stage_task(
    location: LocalLocation,
    area: ProgressArea,
    plan: ItemPlan,
    task: int,
    columns: Mapping[str, NDArray[Any]],
    shares: Mapping[str, NDArray[Any]],
    missing: Sequence[int] = (),
    reasons: Sequence[str] = (),
) -> StagedTask:
    """Encode one task's files and put them, and its record, where they can be published.

    Parameters
    ----------
    location, area
        The store, and the item's progress area.
    plan
        The item; its attributes are not needed.
    task
        Its number.
    columns
        The task's records of every column, by path.
    shares
        What is computed on the way; its record gives it back.
    missing, reasons
        Records (numbered in the recording) that the source lost, and what it said of them.
    """
    entries: list[Entry] = []
    files: list[tuple[str, str]] = []
    location.make_root()
    try:
        for spec in plan.columns:
            file_index = spec.file_index(task)
            encoded = encode_file(spec, file_index, columns[spec.path], generation=plan.generation)
            entry = Entry(f"{spec.path}/{spec.key(file_index)}", encoded.size, encoded.crc32c, encoded.sha256)
            key = f"{plan.name}/{entry.key}"
            files.append((location.stage(key, encoded.parts), key))
            entries.append(entry)
        record = area.stage_record(TaskRecord(task, tuple(entries), shares, tuple(missing), tuple(reasons)))
    except BaseException:
        location.discard(name for name, _ in files)
        raise
    return StagedTask(task, tuple(files), record, sum(entry.size for entry in entries))
