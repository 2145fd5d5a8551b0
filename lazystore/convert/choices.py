"""What each codec would cost for a recording, in bytes and in waiting, measured on samples of it."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.chunks import grid_shape
from lazystore.convert.api import Prepared
from lazystore.convert.plan import DEFAULT_CODEC, MOVIES, Settings, layout, make_plan, read_samples
from lazystore.convert.storage import packets_of, why_pixels
from lazystore.convert.timing import Timing
from lazystore.convert.trial import ENCODED
from lazystore.errors import DamagedStoreError
from lazystore.protocols import ChunkReader, Source
from lazystore.schema import JSON, ArraySpec
from lazystore.sources.video.packets import PacketSource
from lazystore.sources.video.recording import VideoSource
from lazystore.store.direct import DirectChunkReader
from lazystore.store.encoded import MAX_DECODERS, EncodedVideoReader, encoded_spec
from lazystore.store.location import LocalLocation
from lazystore.store.shard import encode_file
from lazystore.video.record import PAYLOAD

PIXELS = ("fast", "balanced", "small", "none")
DEFAULT = "default"
# Looks: enough for a median, and a bound for long groups of frames. One alone may have been held up by
# anything.
RANDOM_LOOKS, PACKET_LOOKS, LEAST_LOOKS = 9, 16, 3
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
        What the item takes, all its arrays together; an estimate, unless it is there already.
    ratio
        The same over what the source takes.
    random_s
        Median seconds for a frame anywhere, read from its file, checked and decoded; from no cache.
    frames_per_s
        Frames a second in order, one reader.
    mark
        ``"default"``, another word, or ``""``.
    """

    codec: str
    stored_bytes: int
    ratio: float
    random_s: float
    frames_per_s: float
    mark: str = ""

    def to_json(self) -> dict[str, JSON]:
        """Plain values."""
        return asdict(self)


def choices(one: Prepared, settings: Settings) -> list[Choice]:
    """What each codec would cost, `encoded` first where it fits; nothing for other kinds than frames.

    Reads samples of the recording; takes a second or two.

    Parameters
    ----------
    one
        A prepared conversion.
    settings
        What was asked; its codec does not matter.
    """
    asked = one.asked
    if asked is None or asked.source.info.kind not in MOVIES or len(asked.source.info.columns) != 1:
        return []
    source, timing, base_bytes = asked.source, one.plan.timing, one.plan.source_bytes
    default, found = DEFAULT_CODEC, []
    packets = packets_of(one.stream, asked)[0] if isinstance(one.stream, VideoSource) else None
    if packets is not None:
        if why_pixels(packets, settings) is None:
            default = ENCODED
        with closing(packets):
            found.append(_packets_choice(packets, timing, base_bytes, settings))
    found += pixel_choices(source, timing, settings, base_bytes)
    return [replace(choice, mark=DEFAULT) if choice.codec == default else choice for choice in found]


def pixel_choices(source: Source, timing: Timing, settings: Settings, base_bytes: int) -> list[Choice]:
    """One for each codec of pixels, by a shard of sampled frames that is written and read."""
    chunk, _ = layout(source.info.columns, settings)
    samples = read_samples(source, chunk[0])
    found = []
    for preset in PIXELS:
        plan = make_plan(source.info, preset, timing, replace(settings, codec=preset), samples, {})
        (spec,) = plan.item.columns
        seconds = _reading_s(spec, samples[spec.path])
        # A chunk has more frames than the recording where that is short.
        n_frames = min(spec.chunks[0], spec.shape[0])
        ratio = plan.stored_bytes / max(1, base_bytes)
        found.append(Choice(preset, plan.stored_bytes, ratio, seconds, n_frames / max(seconds, 1e-9)))
    return found


def packet_looks(reader: EncodedVideoReader, start: int, stop: int) -> tuple[float, float]:
    """Median seconds for one of the frames [start, stop), and how many of them a second in order."""

    def read(frame_index: int) -> None:
        # What a damaged frame takes is taken; the conversion will say that it is damaged.
        with suppress(DamagedStoreError):
            reader.read_chunk((frame_index, *tail))

    tail, n_frames = (0,) * (len(reader.spec.shape) - 1), stop - start
    # The same places every time. The first ones open decoders, which somebody who looks around does once.
    numbers = start + np.random.default_rng(0).integers(0, n_frames, MAX_DECODERS + PACKET_LOOKS)
    _timed(lambda look: read(int(numbers[look])), MAX_DECODERS)
    looks = _timed(lambda look: read(int(numbers[MAX_DECODERS + look])), PACKET_LOOKS)
    middle = start + n_frames // 2
    read(middle)
    frames = _timed(lambda step: read(middle + step), min(SEQUENTIAL_FRAMES, stop - middle))
    # A few frames come out at once where decoders work in threads: their sum tells, no single one.
    return median(looks), len(frames) / max(sum(frames), 1e-9)


def _packets_choice(packets: PacketSource, timing: Timing, base_bytes: int, settings: Settings) -> Choice:
    settings = replace(settings, codec=ENCODED, chunks=None, shards=None)
    samples = read_samples(packets, layout(packets.info.columns, settings)[0][0])
    main = packets.shown.info.columns[0]
    plan = make_plan(packets.info, ENCODED, timing, settings, samples, {}, main)
    reader = EncodedVideoReader(
        lambda offset, size: packets.read(offset, offset + size).columns[PAYLOAD].data,
        packets.record,
        packets.packets,
        packets.frames,
        encoded_spec(packets.record, len(packets.frames), {}),
        sound=packets.is_sound,
    )
    with closing(reader):
        random_s, frames_per_s = packet_looks(reader, 0, len(packets.frames))
    return Choice(ENCODED, plan.stored_bytes, plan.stored_bytes / max(1, base_bytes), random_s, frames_per_s)


def _reading_s(spec: ArraySpec, samples: Sequence[NDArray[Any]]) -> float:
    """Median seconds that a chunk's frames take, out of a shard that is made of the samples."""
    # Several chunks, or the processor's cache would hold them; those of small frames have more frames than
    # a sample.
    n_chunks = max(2, min(RANDOM_LOOKS, TRIAL_BYTES // max(1, spec.chunk_nbytes)))
    n_frames = n_chunks * spec.chunks[0]
    frames = np.concatenate(samples)
    block = np.resize(frames, (n_frames, *frames.shape[1:]))
    tail = (spec.shards or spec.chunks)[1:]
    spec = replace(spec, shape=block.shape, shards=(n_frames, *tail))
    # A user may have cut frames, too.
    cuts = list(itertools.product(*map(range, grid_shape(spec.shape, spec.chunks)[1:])))
    with tempfile.TemporaryDirectory(prefix="lazystore-") as folder:
        place = (0,) * len(spec.shape)
        file = Path(folder, spec.path, spec.key(place))
        file.parent.mkdir(parents=True)
        file.write_bytes(b"".join(encode_file(spec, place, block, generation=ENCODED).parts))
        reader: ChunkReader = DirectChunkReader(LocalLocation(folder), spec.path, spec, generation=ENCODED)
        with closing(reader):
            reader.read_chunk(place)  # opens the file
            looks = [[(look % n_chunks, *cut) for cut in cuts] for look in range(RANDOM_LOOKS)]
            return median(_timed(lambda look: reader.read_chunks(looks[look]), RANDOM_LOOKS))


def _timed(action: Callable[[int], object], count: int) -> list[float]:
    """Seconds of each call; fewer calls where they take long."""
    seconds: list[float] = []
    while len(seconds) < count and (len(seconds) < LEAST_LOOKS or sum(seconds) < MAX_SECONDS):
        began = time.perf_counter()
        action(len(seconds))
        seconds.append(time.perf_counter() - began)
    return seconds
