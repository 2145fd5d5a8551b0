"""What a conversion writes, settled before its first byte."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lazystore.chunks import ceil_div
from lazystore.schema import JSON, ArraySpec


@dataclass(frozen=True, slots=True)
class ItemPlan:
    """What a conversion writes, settled before its first byte.

    Attributes
    ----------
    name
        The item's path below the root.
    generation
        Hash of source identity, settings, format and codec versions: equal generations have equal
        bytes, and only they may resume each other.
    columns
        Streamed arrays; they share the record axis.
    records_per_task
        Records in one task: one file of each column.
    length
        Records in all.
    attributes
        `attrs.lazystore` as far as it is known; the commit may add to it.
    """

    name: str
    generation: str
    columns: tuple[ArraySpec, ...]
    records_per_task: int
    length: int
    attributes: Mapping[str, JSON]

    @property
    def n_tasks(self) -> int:
        """Number of tasks."""
        return ceil_div(self.length, self.records_per_task)

    def task_range(self, task: int) -> tuple[int, int]:
        """Records [start, stop) of a task."""
        start = task * self.records_per_task
        return start, min(start + self.records_per_task, self.length)

    def to_document(self) -> dict[str, JSON]:
        """The plan as the progress area keeps it, with the metadata that is held back."""
        return {
            "name": self.name,
            "generation": self.generation,
            "records_per_task": self.records_per_task,
            "length": self.length,
            "attributes": dict(self.attributes),
            "documents": {column.path: column.to_metadata() for column in self.columns},
        }
