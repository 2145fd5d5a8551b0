"""Statistics of a video that is stored as packets: decoded once on the way, a block at a time.

Tasks cut the packets by bytes; each also looks after an equal share of the frames, so that the
statistics resume with the shards like everybody's. One thread decodes in order; colours and
statistics of what came out are the work of others meanwhile.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.chunks import ceil_div
from lazystore.convert.damage import damage_shares
from lazystore.convert.frame_summary import FrameSummary, Shares, SidePieces
from lazystore.convert.overview_summary import OverviewShare, OverviewSummary
from lazystore.overviews.levels import Levels
from lazystore.protocols import Block, Source
from lazystore.schema import JSON, ArraySpec
from lazystore.sources.begin import begin_read

# Small frames are looked at a few at a time, larger ones alone: what the decoder has just written is
# still in the processor's cache then, and a frame alone is not copied. Counts of 16 bits take half a
# megabyte a block.
BLOCK_BYTES, WIDE_BLOCK_BYTES = 512 * 1024, 4 * 1024 * 1024
# Blocks that threads look at, or that wait for one, however many cores there are.
LOOKED_BYTES = 64 * 1024 * 1024
# A kilobyte a frame is more than many a frame's packets: counts are kept a task, not a frame.
HISTOGRAM = "stats/histogram"


class EncodedSummary:
    """Per-frame statistics of the movie that packets stand for; a `Summary`.

    Parameters
    ----------
    video
        The same recording, decoded; read under a lock, in order where tasks come in order.
    packets
        The column of bytes.
    n_tasks
        Shards of it.
    levels
        Overviews of the movie.
    workers
        Threads that look at frames, at most.
    """

    def __init__(
        self, video: Source, packets: ArraySpec, n_tasks: int, levels: Levels, workers: int = 1
    ) -> None:
        column = video.info.columns[0]
        self._video = video
        self._lock = threading.Lock()
        self._bytes_per_task = packets.write_shape[0]
        self._n_frames = column.shape[0]
        self.frames_per_task = ceil_div(self._n_frames, n_tasks)
        frame_bytes = max(1, column.dtype.itemsize * int(np.prod(column.shape[1:])))
        most_bytes = BLOCK_BYTES if column.dtype.itemsize == 1 else WIDE_BLOCK_BYTES
        self._block_frames = max(1, most_bytes // frame_bytes)
        self._lookers = max(1, min(workers, LOOKED_BYTES // (self._block_frames * frame_bytes) - 1))
        shape = column.shape
        data = ArraySpec(
            column.name, column.dims, shape, column.dtype, (1, *shape[1:]), (self.frames_per_task, *shape[1:])
        )
        self._frames = FrameSummary(
            data, ceil_div(self._n_frames, self.frames_per_task), by_block=frozenset({HISTOGRAM})
        )
        self._overviews = OverviewSummary(levels, data, self.frames_per_task)

    def share(
        self, start: int, columns: Mapping[str, NDArray[Any]], missing: Sequence[int] = ()
    ) -> dict[str, NDArray[Any]]:
        """The statistics of this task's frames; decodes them."""
        task = start // self._bytes_per_task
        first = task * self.frames_per_task
        stop = min(first + self.frames_per_task, self._n_frames)
        looked = _Looked(self._frames, self._overviews.begin(), self._video.info.columns[0].name)
        damaged: list[Block] = []
        waiting: deque[Future[Block]] = deque()
        with self._lock, ThreadPoolExecutor(self._lookers, "lazystore-look") as lookers:
            for begin in range(first, stop, self._block_frames):
                # Frames are handed on as they were decoded: a looker turns one into pixels where the one
                # before was, and the memory stays warm.
                finish = begin_read(self._video, begin, min(begin + self._block_frames, stop))
                waiting.append(lookers.submit(looked.look, finish))
                if len(waiting) > self._lookers:
                    damaged.append(waiting.popleft().result())
            damaged += [future.result() for future in waiting]
        return {**looked.arrays(), **damage_shares(damaged, with_missing=True)}

    def finish(self, shares: Shares) -> tuple[list[tuple[ArraySpec, SidePieces]], dict[str, JSON]]:
        """Statistics arrays and overviews, and how many frames a task looked after."""

        def statistics() -> Any:
            # Few frames in many bytes leave the last tasks without a frame.
            return (share for share in shares() if any(path.startswith("stats/") for path in share))

        more: dict[str, JSON] = {
            "frames_per_statistics_block": self.frames_per_task,
            # Older items did not list all damage: what says nothing of it is not known to be sound.
            "frames_checked": True,
        }
        return [*self._frames.side(statistics), *self._overviews.side(statistics)], more


class _Looked:
    """A task's share so far: rows a frame laid end to end, counts added up; from any thread."""

    def __init__(self, frames: FrameSummary, overviews: OverviewShare, column: str) -> None:
        self._frames = frames
        self._overviews = overviews
        self._column = column
        self._lock = threading.Lock()
        self._parts: dict[str, dict[int, NDArray[Any]]] = {}
        self._totals: dict[str, NDArray[Any]] = {}

    def look(self, finish: Callable[[], Block]) -> Block:
        """Look at the frames of a block; all of it but the pixels."""
        block = finish()
        share = self._frames.share(block.start, block.columns, block.missing)
        # Whole numbers add up to the same in any order; these sums take a tenth of the time of the others.
        with self._lock:
            self._overviews.add(block.start, block.columns[self._column], block.missing)
            self._add(block.start, share)
        return replace(block, columns={})

    def _add(self, start: int, share: Mapping[str, NDArray[Any]]) -> None:
        for path, values in share.items():
            if self._frames.is_per_frame(path, values) and path != HISTOGRAM:
                self._parts.setdefault(path, {})[start] = values
            elif path in self._totals:
                self._totals[path] += values.sum(axis=0, dtype=self._totals[path].dtype)
            else:
                wide = np.int64 if values.dtype.kind == "i" else np.uint64
                self._totals[path] = values.sum(axis=0, dtype=wide)[None]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The share."""
        rows = {
            path: np.concatenate([parts[start] for start in sorted(parts)])
            for path, parts in self._parts.items()
        }
        return dict(sorted({**rows, **self._totals}.items())) | self._overviews.arrays()
