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
WORTH_LEAVING_THE_NAMED_ONE = 0.95
BITS_OF_BYTES_WORTH_THEIR_TIME = 0.90


@dataclass(frozen=True, slots=True)
class TrialResult:
    """The chosen codec and its ratio (decoded bytes over stored bytes) on the sample."""

    codec: Codec
    ratio: float


# Columns of events, by measurement on a real EVT2 recording in chunks of 32,768. One level more takes 2%
# off t, x and y. p by lz4 decodes in 0.6 instead of 1.0 ns an event, for 0.02 bytes. lz4hc is 0.3 bytes
# an event smaller than lz4, decodes as fast, and still encodes 20 million events a second on a core.
# Bits of x and y decode in 1.8 ns where zstd's matches among unshuffled numbers take 2.8.
EVENT_CODECS = {
    "balanced": {
        "t": Codec("zstd", 4),
        **dict.fromkeys("xy", Codec("zstd", 4, "bitshuffle")),
        "p": Codec("lz4", 5),
    },
    "fast": {**dict.fromkeys("txy", Codec("lz4hc", 5)), "p": Codec("lz4", 5)},
}


def codec_of_preset(name: str, kind: str = "field", column: str = "") -> Codec:
    """The codec of a preset's name for one kind of recording, and one of its columns.

    Raises
    ------
    UsageError
        If there is none of that name.

    >>> codec_of_preset("fast").cname, codec_of_preset("fast", "events", "x").cname
    ('lz4', 'lz4hc')
    """
    if name == ENCODED:
        # Packets do not shrink, and are copied through; the padding of the last chunk vanishes.
        return Codec("lz4", 1)
    if name not in CODEC_PRESETS:
        raise UsageError(
            f"unknown codec {name!r}; expected one of {', '.join(CODEC_PRESETS)}, or {ENCODED} for video"
        )
    codecs = EVENT_CODECS.get(name, {}) if kind == "events" else {}
    return codecs.get(column, CODEC_PRESETS[name])


def choose_shuffle(codec: Codec, samples: Sequence[NDArray[Any]]) -> TrialResult:
    """Try the codec with each shuffle on sample chunks and keep what is worth its time.

    Parameters
    ----------
    codec
        A shuffle that it names stays unless another one is 5% smaller.
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
        if shuffle == codec.shuffle != "noshuffle":
            score = size * WORTH_LEAVING_THE_NAMED_ONE
        if score < best_score:
            best, best_score, best_size = candidate, score, size
    return TrialResult(best, decoded / max(1, best_size))


def _worth(shuffle: str, itemsize: int) -> float:
    if shuffle == "noshuffle":
        return 1.0
    return BITS_OF_BYTES_WORTH_THEIR_TIME if itemsize == 1 else WORTH_ITS_TIME
