"""Recordings that are decoded front to back, made random access by checkpoints.

Files without an index are decoded once when they are opened: that counts their events, finds what
is wrong with them, and remembers the decoder's state about every million events. A read starts at
the checkpoint before it, or goes on where the last one ended.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lazystore.errors import SourceChangedError
from lazystore.protocols import Block, SourceInfo
from lazystore.sources.events import scan
from lazystore.sources.events.columns import EventColumns, Triggers
from lazystore.sources.events.info import RecordingFacts, build_info, choose_sensor
from lazystore.sources.identity import identify_file, identify_folder

# A read in the middle decodes half of this on average before it reaches its first event: 2-20 ms.
CHECKPOINT_EVENTS = 1 << 20
# Long stretches without events (only time words) get checkpoints too.
CHECKPOINT_BLOCKS = 512
# Triggers are kept whole in memory; a file of nothing but trigger words must not fill it.
MAX_TRIGGERS = 1 << 22


@dataclass(frozen=True, slots=True)
class DecodedBlock:
    """Some events in file order, and the triggers met among them; valid until the next block."""

    events: EventColumns
    triggers: Triggers | None = None


class BlockDecoder(Protocol):
    """A decoder that goes through a file once, block by block.

    `sensor` is what the file declares. The facts are complete only after the last block.
    """

    @property
    def sensor(self) -> tuple[int, int] | None:
        """(width, height) that the file declares, known before the first block."""

    def restore(self, checkpoint: Any) -> None:
        """Go back to where `checkpoint` was taken; None is the beginning."""

    def checkpoint(self) -> Any:
        """All that the next block depends on; immutable, picklable, small."""

    def next_block(self) -> DecodedBlock | None:
        """Further events (perhaps none), or None at the end of the file."""

    def facts(self) -> RecordingFacts:
        """What the file is, and what was met since the beginning."""

    def close(self) -> None:
        """Release the file; the next call opens it again."""


class CheckpointedEvents:
    """A `Source` around a `BlockDecoder`.

    Opening it decodes the whole file once, in bounded memory.

    Raises
    ------
    SourceError
        If the file is damaged beyond recovery, or its events cannot be (see `build_info`).
    """

    def __init__(self, path: Path, decoder: BlockDecoder, options: Mapping[str, Any]) -> None:
        self._name = path.name
        self._decoder = decoder
        identity = identify_folder(path) if path.is_dir() else identify_file(path)
        sensor = choose_sensor(decoder.sensor, options)
        width, height = sensor.bounds
        totals = scan.initial_totals()
        self._checkpoints: list[Any] = [None]
        self._first_events: list[int] = [0]
        edges: list[Triggers] = []
        n_edges = blocks = 0
        decoder.restore(None)
        try:
            while (block := decoder.next_block()) is not None:
                columns = block.events
                scan.add_to_totals(columns.t, columns.x, columns.y, columns.p, width, height, totals)
                if block.triggers is not None and n_edges < MAX_TRIGGERS:
                    edges.append(block.triggers.copied(MAX_TRIGGERS - n_edges))
                    n_edges += len(edges[-1])
                blocks += 1
                events = int(totals[scan.EVENTS])
                if events - self._first_events[-1] >= CHECKPOINT_EVENTS or blocks >= CHECKPOINT_BLOCKS:
                    self._first_events.append(events)
                    self._checkpoints.append(decoder.checkpoint())
                    blocks = 0
            facts = decoder.facts()
            self._info = build_info(identity, facts, sensor, totals, Triggers.joined(edges))
        finally:
            # Whoever only looks at the info holds no file open; the first read opens it again.
            decoder.close()
        # Decoded events that no read has asked for yet, and the index of the first of them.
        self._pending = EventColumns.empty(0)
        self._pending_start = self._info.length

    @property
    def info(self) -> SourceInfo:
        return self._info

    def read(self, start: int, stop: int) -> Block:
        out = EventColumns.empty(stop - start)
        self._go_to(start)
        filled = 0
        while filled < len(out):
            offset = start + filled - self._pending_start
            if offset < len(self._pending):
                part = self._pending.part(offset, min(len(self._pending), offset + len(out) - filled))
                out.copy_from(part, filled)
                filled += len(part)
            else:
                self._decode_next()
        return Block(start, {"t": out.t, "x": out.x, "y": out.y, "p": out.p})

    def close(self) -> None:
        self._decoder.close()

    def __getstate__(self) -> dict[str, Any]:
        # Pending events are views of the decoder's scratch memory, which stays behind.
        state = dict(self.__dict__)
        state["_pending"] = EventColumns.empty(0)
        state["_pending_start"] = self._info.length
        return state

    def _go_to(self, start: int) -> None:
        """Restore the checkpoint before `start`, unless decoding on gets there sooner."""
        number = bisect.bisect_right(self._first_events, start) - 1
        pending_stop = self._pending_start + len(self._pending)
        if self._pending_start <= start and self._first_events[number] <= pending_stop:
            return
        self._pending = EventColumns.empty(0)
        self._pending_start = self._first_events[number]
        self._decoder.restore(self._checkpoints[number])

    def _decode_next(self) -> None:
        have = self._pending_start + len(self._pending)
        # Until the decoder has answered nothing is known of where it stands: a read after an
        # error must start at a checkpoint.
        self._forget_pending()
        block = self._decoder.next_block()
        if block is None:
            raise SourceChangedError(
                f"{self._name!r} gave {self._info.length} events when it was opened and {have} now; "
                "it changed meanwhile, convert it again with --overwrite"
            )
        self._pending_start = have
        self._pending = block.events

    def _forget_pending(self) -> None:
        self._pending = EventColumns.empty(0)
        self._pending_start = self._info.length
