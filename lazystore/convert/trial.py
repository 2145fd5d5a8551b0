"""Which shuffle suits an array, and how small it gets: tried on a few of its own chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import UsageError
from lazystore.schema import CODEC_PRESETS, SHUFFLES, Codec
from lazystore.store.shard import compressor

# A video kept as the packets it came in; nothing is left for a codec to do.
ENCODED = "encoded"

# A shuffle must earn its decoding time; sizes alone decide, so that plans are repeatable. Measured:
# bitshuffle decodes 1-byte camera frames 2.2 times slower than none, wider numbers no slower.
WORTH_ITS_TIME = 0.98
BITS_OF_BYTES_WORTH_THEIR_TIME = 0.90


@dataclass(frozen=True, slots=True)
class TrialResult:
    """The chosen codec and its ratio (decoded bytes over stored bytes) on the sample."""

    codec: Codec
    ratio: float


def codec_of_preset(name: str, kind: str = "field") -> Codec:
    """The codec of a preset's name for one kind of recording.

    Raises
    ------
    UsageError
        If there is none of that name.

    >>> codec_of_preset("fast").cname
    'lz4'
    """
    if name == ENCODED:
        # Packets do not shrink, and are copied through; the padding of the last chunk vanishes.
        return Codec("lz4", 1)
    if name not in CODEC_PRESETS:
        raise UsageError(
            f"unknown codec {name!r}; expected one of {', '.join(CODEC_PRESETS)}, or {ENCODED} for video"
        )
    codec = CODEC_PRESETS[name]
    # Columns of events: one level more takes 2% off a real EVT2 recording (1.91 to 1.87 bytes an
    # event) and still encodes 19 million events a second on a core.
    return replace(codec, level=4) if kind == "events" and name == "balanced" else codec


def choose_shuffle(codec: Codec, samples: Sequence[NDArray[Any]]) -> TrialResult:
    """Try the codec with each shuffle on sample chunks and keep what is worth its time.

    Parameters
    ----------
    codec
        Its own shuffle is ignored.
    samples
        A few chunks of the array, C-contiguous.
    """
    decoded = sum(sample.nbytes for sample in samples)
    if codec.cname == "none" or not decoded:
        return TrialResult(codec, 1.0)
    best, best_score, best_size = codec, np.inf, decoded
    for shuffle in SHUFFLES:
        if shuffle == "shuffle" and samples[0].dtype.itemsize == 1:
            continue  # Shuffling single bytes moves nothing.
        candidate = replace(codec, shuffle=shuffle)
        size = sum(len(compressor(candidate).encode(np.ascontiguousarray(sample))) for sample in samples)
        score = size / _worth(shuffle, samples[0].dtype.itemsize)
        if score < best_score:
            best, best_score, best_size = candidate, score, size
    return TrialResult(best, decoded / max(1, best_size))


def _worth(shuffle: str, itemsize: int) -> float:
    if shuffle == "noshuffle":
        return 1.0
    return BITS_OF_BYTES_WORTH_THEIR_TIME if itemsize == 1 else WORTH_ITS_TIME
