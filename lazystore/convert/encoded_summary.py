"""Statistics of a video that is stored as packets: decoded once on the way, a block at a time.

Tasks cut the packets by bytes; each also looks after an equal share of the frames, so that the
statistics resume with the shards like everybody's. Groups of frames that stand alone are shared out
to as many decoders as there are workers.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.chunks import ceil_div
from lazystore.convert.damage import damage_shares
from lazystore.convert.frame_summary import FrameSummary, Shares, SidePieces
from lazystore.convert.overview_summary import OverviewShare, OverviewSummary
from lazystore.convert.watch import Watch
from lazystore.overviews.levels import Levels
from lazystore.protocols import Block, Source, TwinSource
from lazystore.schema import JSON, ArraySpec

# Small frames are looked at a few at a time, larger ones alone: what the decoder has just written is
# still in the processor's cache then, and a frame alone is not copied. Counts of 16 bits take half a
# megabyte a block.
BLOCK_BYTES, WIDE_BLOCK_BYTES = 512 * 1024, 4 * 1024 * 1024
# Frames that a decoder may hold, one it is turned into pixels in among them, and what decoders take together.
FRAMES_A_DECODER, DECODING_BYTES = 8, 256 * 1024 * 1024
# A decoder has to seek to where its next piece begins.
MIN_PIECE_FRAMES, PIECES_A_DECODER = 48, 4
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
    groups
        First frame of each group that can be decoded without those before it, ascending.
    workers
        Threads that decode.
    watch
        Hears of frames that were looked at, and may stop it.
    """

    def __init__(
        self,
        video: Source,
        packets: ArraySpec,
        n_tasks: int,
        levels: Levels,
        *,
        groups: Sequence[int] | NDArray[np.int64] = (0,),
        workers: int = 1,
        watch: Watch | None = None,
    ) -> None:
        column = video.info.columns[0]
        self._video = video
        self._lock = threading.Lock()
        self._n_bytes, self._bytes_per_task = packets.shape[0], packets.write_shape[0]
        self._n_frames = column.shape[0]
        self._groups = groups
        self._watch = watch or Watch()
        self._workers = workers
        self.frames_per_task = ceil_div(self._n_frames, n_tasks)
        frame_bytes = max(1, column.dtype.itemsize * int(np.prod(column.shape[1:])))
        most_bytes = BLOCK_BYTES if column.dtype.itemsize == 1 else WIDE_BLOCK_BYTES
        self._block_frames = max(1, most_bytes // frame_bytes)
        self._max_decoders = min(workers, DECODING_BYTES // (FRAMES_A_DECODER * frame_bytes))
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
        with self._lock:
            looked = self._look_together(first, stop)
            self._watch.forget()
            if looked is None:
                looked = self._nothing_yet()
                looked.look(self._video, first, stop, self._block_frames)
                self._watch.forget()
        return {**looked.arrays(), **damage_shares(looked.damaged, with_missing=True)}

    def _nothing_yet(self) -> _Looked:
        column = self._video.info.columns[0].name
        return _Looked(self._frames, self._overviews.begin(), column, self._on_frames)

    def _on_frames(self, n_frames: int) -> None:
        self._watch.check()
        self._watch.add(n_frames * self._n_bytes // self._n_frames)

    def _look_together(self, first: int, stop: int) -> _Looked | None:
        """Several decoders at once; None where there is one group, one decoder, or damage.

        What is made up for damage may depend on what was decoded before, so it is looked at in order.
        """
        pieces = self._pieces(first, stop)
        n_decoders = min(self._max_decoders, len(pieces))
        if n_decoders < 2 or not isinstance(self._video, TwinSource):
            return None
        video, threads = self._video, max(1, self._workers // n_decoders)
        turns = iter(pieces)
        is_over = threading.Event()

        def look() -> _Looked | None:
            if (twin := video.twin(threads)) is None:
                return None
            looked = self._nothing_yet()
            with contextlib.closing(twin):
                try:
                    for piece in turns:
                        looked.look(twin, *piece, self._block_frames)
                        if looked.damaged or is_over.is_set():
                            break
                finally:
                    # All pieces are taken, or there is no use in the others.
                    is_over.set()
            return looked

        with ThreadPoolExecutor(n_decoders, "lazystore-look") as pool:
            found = [future.result() for future in [pool.submit(look) for _ in range(n_decoders)]]
        parts = [looked for looked in found if looked is not None]
        if len(parts) < n_decoders or any(looked.damaged for looked in parts):
            return None
        for other in parts[1:]:
            parts[0].join(other)
        return parts[0]

    def _pieces(self, first: int, stop: int) -> list[tuple[int, int]]:
        """Whole groups side by side, first frame and end of each piece."""
        per_decoder = PIECES_A_DECODER * max(1, self._max_decoders)
        least = max(MIN_PIECE_FRAMES, ceil_div(stop - first, per_decoder))
        pieces: list[tuple[int, int]] = []
        begin = first
        for border in [int(group) for group in self._groups if first < group < stop]:
            if border - begin >= least and stop - border >= MIN_PIECE_FRAMES:
                pieces.append((begin, border))
                begin = border
        return [*pieces, (begin, stop)]

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
    """A task's share so far: rows a frame laid end to end, counts added up."""

    def __init__(
        self,
        frames: FrameSummary,
        overviews: OverviewShare,
        column: str,
        on_frames: Callable[[int], None],
    ) -> None:
        self._frames = frames
        self._overviews = overviews
        self._column = column
        self._on_frames = on_frames
        self._parts: dict[str, dict[int, NDArray[Any]]] = {}  # by the first frame
        self._totals: dict[str, NDArray[Any]] = {}
        self.damaged: list[Block] = []
        """Blocks with anything odd, without their pixels."""

    def look(self, video: Source, first: int, stop: int, block_frames: int) -> None:
        """Look at the frames [first, stop), so many at a time."""
        for begin in range(first, stop, block_frames):
            block = video.read(begin, min(begin + block_frames, stop))
            self._add(block)
            if block.missing or block.doubtful or block.broken_packets:
                self.damaged.append(replace(block, columns={}))
            self._on_frames(len(block.columns[self._column]))
            del block

    def _add(self, block: Block) -> None:
        self._overviews.add(block.start, block.columns[self._column], block.missing)
        for path, values in self._frames.share(block.start, block.columns, block.missing).items():
            if self._frames.is_per_frame(path, values) and path != HISTOGRAM:
                self._parts.setdefault(path, {})[block.start] = values
            else:
                wide = np.int64 if values.dtype.kind == "i" else np.uint64
                self._count(path, values.sum(axis=0, dtype=wide)[None])

    def _count(self, path: str, counts: NDArray[Any]) -> None:
        if path in self._totals:
            self._totals[path] += counts
        else:
            self._totals[path] = counts

    def join(self, other: _Looked) -> None:
        """Add what another has seen of the same task."""
        self._overviews.join(other._overviews)
        for path, parts in other._parts.items():
            self._parts.setdefault(path, {}).update(parts)
        for path, counts in other._totals.items():
            self._count(path, counts)
        self.damaged += other.damaged

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The share."""
        rows = {
            path: np.concatenate([parts[start] for start in sorted(parts)])
            for path, parts in self._parts.items()
        }
        return dict(sorted({**rows, **self._totals}.items())) | self._overviews.arrays()
