"""What each codec would cost for a recording, in bytes and in waiting, measured on samples of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.convert.plan import Settings, layout, read_samples, record_bytes
from lazystore.convert.storage import Asked, packets_of
from lazystore.convert.trial import ENCODED, choose_shuffle, codec_of_preset
from lazystore.protocols import Source
from lazystore.schema import JSON, Codec
from lazystore.sources.video.packets import PacketSource
from lazystore.sources.video.recording import VideoSource
from lazystore.store.shard import compressor

PIXELS = ("fast", "balanced", "small")
KINDS = ("field", "video", "stack")
# Bytes of a packet table's row and of a frame's statistics, as they are stored.
TABLE_BYTES_A_FRAME = 16
# Looks: enough for a median, and a bound for long groups of frames.
RANDOM_LOOKS = 9
SEQUENTIAL_FRAMES = 64
MAX_SECONDS = 1.0
TRIAL_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Choice:
    """One codec.

    Attributes
    ----------
    codec
        Its name.
    stored_bytes
        Estimate of what the item takes.
    random_s
        Median seconds for a frame anywhere, not from a cache; of decoding alone, the file in memory.
    frames_per_s
        Frames a second in order, one reader.
    """

    codec: str
    stored_bytes: int
    random_s: float
    frames_per_s: float

    def to_json(self) -> dict[str, JSON]:
        """Plain values."""
        return asdict(self)


def choices(stream: Source, asked: Asked, settings: Settings) -> list[Choice]:
    """What each codec would cost, `encoded` first where it fits; nothing for other kinds than frames.

    Reads samples of the recording; takes a second or two.
    """
    source = asked.source
    if source.info.kind not in KINDS or len(source.info.columns) != 1:
        return []
    found = []
    if isinstance(stream, VideoSource):
        packets, _ = packets_of(stream, asked)
        if packets is not None:
            found.append(_encoded(packets))
            packets.close()
    chunk, _ = layout(source.info.columns, settings)
    samples = read_samples(source, chunk[0])[source.info.columns[0].name]
    found += [_pixels(source, settings, preset, samples) for preset in PIXELS]
    return found


def _encoded(packets: PacketSource) -> Choice:
    shown, n_frames = packets.shown, len(packets.frames)
    # The same places every time, spread so that they fall anywhere in a group of frames.
    numbers = [int(n_frames * (0.381966 * look % 1.0)) for look in range(1, RANDOM_LOOKS + 1)]
    looks = _timed(lambda look: shown.read(numbers[look], numbers[look] + 1), len(numbers))
    start = n_frames // 2
    shown.read(start, start + 1)
    count = min(SEQUENTIAL_FRAMES, n_frames - start)
    frames = _timed(lambda step: shown.read(start + step, start + step + 1), count)
    stored = packets.info.length + TABLE_BYTES_A_FRAME * n_frames
    # A few frames come out at once where decoders work in threads: their sum tells, no single one.
    return Choice(ENCODED, stored, median(looks), len(frames) / max(sum(frames), 1e-9))


def _pixels(source: Source, settings: Settings, preset: str, samples: list[NDArray[Any]]) -> Choice:
    column = source.info.columns[0]
    settings = replace(settings, codec=preset)
    chunk, _ = layout(source.info.columns, settings)
    # A chunk of small frames may have more than a sample; then it is made of them over and over.
    frames = np.concatenate(samples)
    fits = max(1, TRIAL_BYTES // len(samples) // max(1, frames[:1].nbytes))
    trial = choose_shuffle(codec_of_preset(preset, source.info.kind), [part[:fits] for part in samples])
    n_frames = min(chunk[0], column.shape[0])
    block = np.resize(frames, (n_frames, *frames.shape[1:]))
    seconds = median(_decoding_s(trial.codec, np.ascontiguousarray(block)))
    stored = int(record_bytes(column) * column.shape[0] / trial.ratio)
    return Choice(preset, stored, seconds, n_frames / max(seconds, 1e-9))


def _decoding_s(codec: Codec, chunk: NDArray[Any]) -> list[float]:
    blosc = compressor(codec)
    encoded, out = blosc.encode(chunk), np.empty_like(chunk)
    return _timed(lambda _: blosc.decode(encoded, out), RANDOM_LOOKS)


def _timed(action: Callable[[int], object], count: int) -> list[float]:
    """Seconds of each call; fewer calls where they take long."""
    seconds: list[float] = []
    while len(seconds) < count and (not seconds or sum(seconds) < MAX_SECONDS):
        began = time.perf_counter()
        action(len(seconds))
        seconds.append(time.perf_counter() - began)
    return seconds
