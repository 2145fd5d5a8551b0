"""Statistics of a video that is stored as packets: decoded once on the way, a block at a time.

Tasks cut the packets by bytes; each also looks after an equal share of the frames, so that the
statistics resume with the shards like everybody's.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.chunks import ceil_div
from lazystore.convert.damage import damage_shares
from lazystore.convert.frame_summary import FrameSummary, Shares, SidePieces
from lazystore.convert.overview_summary import OverviewSummary
from lazystore.overviews.levels import Levels
from lazystore.protocols import Block, Source
from lazystore.schema import JSON, ArraySpec

# Decoded frames in a block, and blocks that wait to be looked at. Overviews shrink a block at a time:
# 1,200 frames of 640x480 in colour take 2.9 s with 4 MB, 1.65 s with 16 MB, and no less with 32.
BLOCK_BYTES = 16 * 1024 * 1024
WAITING_BLOCKS = 1
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
    """

    def __init__(self, video: Source, packets: ArraySpec, n_tasks: int, levels: Levels) -> None:
        column = video.info.columns[0]
        self._video = video
        self._lock = threading.Lock()
        self._bytes_per_task = packets.write_shape[0]
        self._n_frames = column.shape[0]
        self.frames_per_task = ceil_div(self._n_frames, n_tasks)
        frame_bytes = max(1, column.dtype.itemsize * int(np.prod(column.shape[1:])))
        self._block_frames = max(1, BLOCK_BYTES // frame_bytes)
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
        parts: list[dict[str, NDArray[Any]]] = []
        damaged: list[Block] = []
        overviews = self._overviews.begin()
        name = self._video.info.columns[0].name

        def look(block: Block) -> dict[str, NDArray[Any]]:
            overviews.add(block.start, block.columns[name], block.missing)
            return self._frames.share(block.start, block.columns, block.missing)

        # The decoder goes on while the last blocks are looked at, in order: it is often one thread at work.
        with self._lock, ThreadPoolExecutor(1, thread_name_prefix="lazystore-statistics") as beside:
            waiting: deque[Future[dict[str, NDArray[Any]]]] = deque()
            for begin in range(first, stop, self._block_frames):
                block = self._video.read(begin, min(begin + self._block_frames, stop))
                damaged.append(replace(block, columns={}))
                waiting.append(beside.submit(look, block))
                if len(waiting) > WAITING_BLOCKS:
                    parts.append(waiting.popleft().result())
            parts += [future.result() for future in waiting]
        share = {
            path: self._joined(path, [part[path] for part in parts]) for path in (parts[0] if parts else ())
        }
        return {**share, **overviews.arrays(), **damage_shares(damaged, with_missing=True)}

    def _joined(self, path: str, parts: list[NDArray[Any]]) -> NDArray[Any]:
        if self._frames.is_per_frame(path, parts[0]) and path != HISTOGRAM:
            return np.concatenate(parts)
        levels = parts[0].shape[1]
        total = np.zeros((1, levels), np.int64 if parts[0].dtype.kind == "i" else np.uint64)
        for part in parts:
            total += part.sum(axis=0, dtype=total.dtype)
        return total

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
