"""What every computation over a lazy array starts from: a reader and a selection of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lazystore.array.indexing import Entry, Part, Selection, select, selection_shape
from lazystore.array.missing import MissingFrames
from lazystore.array.reading import bulk_read, ordered_map, pieces, positions_of
from lazystore.array.statistics import Statistics
from lazystore.array.tiles import Box, boxes
from lazystore.protocols import ChunkReader

if TYPE_CHECKING:
    from lazystore.array.overviews import StoredOverviews


NO_FRAMES = MissingFrames()


@dataclass(frozen=True, slots=True)
class View:
    """A selection of a reader's array, with what is known about it.

    Attributes
    ----------
    reader
        The whole stored array.
    selection
        One entry a stored axis; see `lazystore.array.indexing`.
    name
        The item's name, for messages.
    statistics, missing
        Facts about the stored frames, None and empty where there are none.
    overviews
        Sums over bins of frames, None where there are none.
    doubtful
        Frames that are there and may be made up in parts.
    """

    reader: ChunkReader
    selection: Selection
    name: str
    statistics: Statistics | None
    missing: MissingFrames
    overviews: StoredOverviews | None = None
    doubtful: MissingFrames = NO_FRAMES

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes that are left."""
        return selection_shape(self.selection)

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the axes that are left."""
        names = zip(self.reader.spec.dims, self.selection, strict=True)
        return tuple(name for name, entry in names if not isinstance(entry, int))

    @property
    def frames(self) -> Entry:
        """The entry along stored axis 0."""
        return self.selection[0] if self.selection else 0

    @property
    def holds_whole_frames(self) -> bool:
        """Whether every selected frame is selected completely, so that facts about frames apply."""
        sizes = self.reader.spec.shape
        return bool(self.selection) and all(
            isinstance(entry, range) and entry == range(size)
            for entry, size in zip(self.selection[1:], sizes[1:], strict=True)
        )

    def pick(self, parts: tuple[Part, ...] | list[Part]) -> View:
        """A view of this view; one part for each axis that is left."""
        return replace(self, selection=select(self.selection, parts))

    def check_missing(self) -> None:
        """Refuse to go on where a selected frame is missing.

        Raises
        ------
        MissingFrameError
            If one is.
        """
        if self.missing and self.selection:
            self.missing.check(self.selection[0], self.name)

    def without_missing(self) -> View:
        """The same view with missing frames left out."""
        lost = self.missing_mask()
        if not lost.any():
            return self
        return self.pick([np.flatnonzero(~lost), *(slice(None) for _ in self.shape[1:])])

    def missing_mask(self) -> NDArray[np.bool_]:
        """Shape (time,): which of the selected frames are missing; of no frames where axis 0 is gone."""
        frames = self.frames
        return np.zeros(0, np.bool_) if isinstance(frames, int) else self.missing.mask(frames)

    def values_of_box(self, box: Box) -> NDArray[Any]:
        """Values of one box, read past the cache's admission and on the calling thread only."""
        selection = select(self.selection, box)
        spec = self.reader.spec
        ranges = [positions_of(entry) for entry in selection]
        result: NDArray[Any] = np.empty(tuple(len(entry) for entry in ranges), spec.dtype)
        wanted = list(pieces(ranges, spec.chunks))
        chunks = bulk_read(self.reader)([piece.chunk_index for piece in wanted])
        if len(wanted) == 1 and all(isinstance(part, slice) for part in wanted[0].target):
            return chunks[0][wanted[0].source].reshape(selection_shape(selection))
        for piece, chunk in zip(wanted, chunks, strict=True):
            result[piece.target] = chunk[piece.source]
        return result.reshape(selection_shape(selection))

    def map_boxes[Result](
        self, work: Callable[[NDArray[Any]], Result], max_values: int
    ) -> Iterator[tuple[Box, Result]]:
        """`work` over boxes that tile the view, in order; several boxes at once, on threads."""

        def step(box: Box) -> tuple[Box, Result]:
            return box, work(self.values_of_box(box))

        todo = boxes(self.selection, self.reader.spec.chunks, max_values)
        return ordered_map(step, todo)
