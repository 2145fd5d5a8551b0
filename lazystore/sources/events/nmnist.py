"""The 5-byte ``.bin`` files of N-MNIST and N-Caltech101; they have no header."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lazystore.errors import SourceError
from lazystore.protocols import Recognition, Source
from lazystore.sources.events.blocks import CheckpointedEvents
from lazystore.sources.events.info import SENSOR_OPTION
from lazystore.sources.events.words import Kernel, WordDecoder, WordFile, WordFormat

RECORD_BYTES = 5
# The ATIS of these data sets has 304 x 240 pixels; x has eight bits.
OVERFLOW_ROW = 240
# Times of the data sets are sorted; those of any other data step back about half of the time.
MAX_BACKWARD_SHARE = 0.02
MIN_RECORDS = 8
# A flash of many pixels at one time is real; a second between neighbours in such a short file is not.
MAX_STEP_US = 1_000_000


def _kernel() -> Kernel:
    from lazystore.sources.events.kernels.nmnist import decode_nmnist

    return decode_nmnist


WORDS = WordFormat("nmnist", "N-MNIST binary", "lazystore.nmnist/1", RECORD_BYTES, "u1", 1, _kernel)


def objection(head: bytes, size: int) -> str:
    """Why the first bytes of a file cannot be such records; empty if they can.

    The records carry no mark of their own, so that only their times tell.
    """
    if size % RECORD_BYTES:
        return f"{size} bytes are no whole number of {RECORD_BYTES}-byte records"
    whole = len(head) // RECORD_BYTES * RECORD_BYTES
    records = np.frombuffer(head, np.uint8, whole).reshape(-1, RECORD_BYTES)
    if len(records) < MIN_RECORDS:
        return f"{len(records)} records are too few to tell"
    events = records[records[:, 1] != OVERFLOW_ROW].astype(np.int64)
    times = (events[:, 2] & 127) << 16 | events[:, 3] << 8 | events[:, 4]
    steps = np.diff(times)
    if np.count_nonzero(steps < 0) > MAX_BACKWARD_SHARE * len(steps):
        return f"times step back {np.count_nonzero(steps < 0)} times in the first {len(times)} records"
    if len(steps) == 0 or steps.max() > MAX_STEP_US or not steps.any():
        return "times do not run on like those of a recording"
    if np.any(events[:, 1] > OVERFLOW_ROW):
        return f"y is up to {events[:, 1].max()}, the sensor has {OVERFLOW_ROW} rows"
    return ""


class NMnistFormat:
    """N-MNIST and N-Caltech101 as a `SourceFormat`."""

    name = "nmnist"
    kinds = ("events",)
    extensions = (".bin",)
    options = (SENSOR_OPTION,)

    def recognise(self, path: Path, head: bytes) -> Recognition | None:
        # Without a mark in the content the name has to fit as well.
        if path.suffix.lower() not in self.extensions or path.is_dir():
            return None
        if objection(head, path.stat().st_size):
            return None
        return Recognition(False, "5-byte records with running times")

    def open(self, path: Path, options: Mapping[str, Any]) -> Sequence[Source]:
        try:
            with path.open("rb") as file:
                head = file.read(4096)
        except OSError as error:
            raise SourceError(f"cannot read {str(path)!r}: {error.strerror}") from error
        why = objection(head, path.stat().st_size // RECORD_BYTES * RECORD_BYTES)
        if why:
            raise SourceError(
                f"{path.name!r} is not in the 5-byte format of N-MNIST: {why}; expected records x, y, p and "
                "23 bits of µs"
            )
        return [CheckpointedEvents(path, WordDecoder(WORDS, WordFile(path, 0)), options)]


NMNIST = NMnistFormat()
