"""The files of a committed item made again from its source, as its own record says they were made."""

from __future__ import annotations

from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.convert.damage import damage_shares
from lazystore.convert.summaries import Side, side_of_arrays, summary_for
from lazystore.convert.timing import Timing
from lazystore.errors import SourceChangedError
from lazystore.overviews.levels import Levels
from lazystore.protocols import Source
from lazystore.schema import ArraySpec, spec_from_metadata
from lazystore.store.index import ItemRecord
from lazystore.store.progress import ProgressArea, TaskRecord
from lazystore.store.shard import EncodedFile, cut_in_files, encode_file


@dataclass(frozen=True, slots=True)
class Remaker:
    """A committed item beside the source that it was made from.

    Attributes
    ----------
    record
        The item.
    source
        Gives the records that were stored.
    columns
        The streamed arrays, as they are stored.
    timing
        Times of the records, by the item's clock as it is now.
    streams
        What was opened for it.
    """

    record: ItemRecord
    source: Source
    columns: tuple[ArraySpec, ...]
    timing: Timing
    streams: tuple[Source, ...]

    def close(self) -> None:
        """Release the source's files."""
        for source in (self.source, *self.streams):
            source.close()

    @property
    def records_per_task(self) -> int:
        """Records in one shard."""
        return self.columns[0].write_shape[0]

    @property
    def n_tasks(self) -> int:
        """Shards of the first column."""
        return self.columns[0].n_files

    def files(self, wanted: Set[str] | None, area: ProgressArea) -> Iterator[tuple[str, EncodedFile]]:
        """Files by their key below the item, in the manifest's order; one in memory at a time.

        Reads only the records that are needed for them; what sums over all records, such as statistics,
        needs all. Arrays that depend on what nobody gave are left out.

        Parameters
        ----------
        wanted
            Keys; None for all.
        area
            Holds the shares of statistics meanwhile; the caller holds its lock, and clears it.
        """
        levels = Levels.from_json(self.record.attributes.get("overview"))
        plain: Side = [
            *self.timing.side(),
            *self.timing.side_of_bins(levels.bins),
            *side_of_arrays(self.source.info.side),
        ]
        summary = summary_for(self.source.info, self.columns, self.n_tasks, self.source, levels)
        known = tuple(f"{spec.path}/c{spec.separator}" for spec in self.columns)
        known += tuple(f"{spec.path}/c" for spec, _ in plain)
        # What is neither a shard nor known without reading is a sum over all records.
        with_sums = wanted is None or any(not key.startswith(known) for key in wanted)
        for task in range(self.n_tasks):
            asked = [spec for spec in self.columns if wanted is None or _key(spec, task) in wanted]
            if not asked and not with_sums:
                continue
            start = task * self.records_per_task
            stop = min(start + self.records_per_task, self.columns[0].shape[0])
            block = self.source.read(start, stop)
            columns = {
                spec.path: _checked(spec, block.columns[spec.path], stop - start) for spec in self.columns
            }
            for spec in asked:
                yield _key(spec, task), self._encoded(spec, spec.file_index(task), columns[spec.path])
            if with_sums:
                share = {**summary.share(start, columns, block.missing), **damage_shares([block])}
                area.write_record(TaskRecord(task, (), share, block.missing))
        sums: Side = []
        if with_sums:
            sums, _ = summary.finish(lambda: (r.shares for r in area.records(range(self.n_tasks))))
        for spec, pieces in [*plain, *sums]:
            stored = self._stored(spec)
            if stored is None or not (
                wanted is None or any(_key(stored, n) in wanted for n in range(stored.n_files))
            ):
                continue
            for file_index, rows in cut_in_files(stored, pieces()):
                if wanted is None or _key(stored, file_index[0]) in wanted:
                    yield _key(stored, file_index[0]), self._encoded(stored, file_index, rows)

    def _encoded(self, spec: ArraySpec, file_index: tuple[int, ...], block: NDArray[Any]) -> EncodedFile:
        return encode_file(spec, file_index, block, generation=self.record.generation)

    def _stored(self, spec: ArraySpec) -> ArraySpec | None:
        """An array as the item has it; `lazystore set` may have moved its keys or changed its units."""
        document = self.record.documents.get(spec.path)
        if document is None:
            return None
        stored = spec_from_metadata(spec.path, document)
        return stored if stored.shape == spec.shape else None


def _key(spec: ArraySpec, number: int) -> str:
    return f"{spec.path}/{spec.key(spec.file_index(number))}"


def _checked(spec: ArraySpec, values: Any, n_records: int) -> NDArray[Any]:
    array = np.asarray(values)
    if array.shape != (n_records, *spec.shape[1:]) or array.dtype != spec.dtype:
        raise SourceChangedError(
            f"the source gives {spec.path!r} as {array.dtype}{array.shape}, and the item has "
            f"{spec.dtype}{(n_records, *spec.shape[1:])}; it is not what the item was made from"
        )
    return array
