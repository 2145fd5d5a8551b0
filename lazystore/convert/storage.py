"""What a recording is stored as: a video as the packets it came in, anything else as its values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lazystore.convert.plan import DEFAULT_CODEC, Settings, layout, read_samples
from lazystore.convert.trial import ENCODED, choose_shuffle, codec_of_preset
from lazystore.errors import UsageError
from lazystore.protocols import Source
from lazystore.sources.video.packets import PacketSource, why_not_encoded
from lazystore.sources.video.recording import VideoSource


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked of a recording.

    Attributes
    ----------
    source
        The records that are wanted, at the times and in the type that are wanted.
    records
        Their numbers in the recording.
    crop
        (y0, y1, x0, x1) of every record, or None.
    casts
        Whether values change on the way.
    """

    source: Source
    records: range
    crop: tuple[int, int, int, int] | None = None
    casts: bool = False


@dataclass(frozen=True, slots=True)
class Storage:
    """What gives the stored records, the codec's name, and what the user should know of the choice."""

    source: Source
    codec: str
    notes: tuple[str, ...] = ()


def choose_storage(stream: Source, asked: Asked, settings: Settings) -> Storage:
    """Packets where a video can be kept as it is and gets no larger by it, else values.

    A part of a video and other times are a view of its packets; other values are not.

    Parameters
    ----------
    stream
        What the format opened.
    settings
        A codec that is named is taken, or refused.

    Raises
    ------
    UsageError
        If ``encoded`` is named and does not fit.
    """
    name = stream.info.identity[0].name
    is_named = settings.codec == ENCODED
    if settings.codec is not None and not is_named:
        return Storage(asked.source, settings.codec)
    if not isinstance(stream, VideoSource):
        if is_named:
            what = "a recording in several files" if "concat" in stream.info.attributes else stream.info.kind
            raise UsageError(f"codec 'encoded' is for one video file, but {name!r} is {what}; leave it out")
        return Storage(asked.source, DEFAULT_CODEC, _note_of_joined_video(stream))
    packets, reason = packets_of(stream, asked)
    if packets is not None and not is_named:
        reason = why_pixels(packets, settings)
    if packets is not None and reason is None:
        return Storage(packets, ENCODED)
    if packets is not None:
        packets.close()
    if is_named:
        raise UsageError(f"{name!r} cannot be kept encoded: {reason}; choose codec 'balanced'")
    return Storage(asked.source, DEFAULT_CODEC, (f"kept as pixels ({DEFAULT_CODEC}): {reason}",))


def packets_of(video: VideoSource, asked: Asked) -> tuple[PacketSource | None, str | None]:
    """The packets that give what is asked for; or None, and why there are none."""
    if asked.casts:
        return None, "dtype and keep_bits change its values"
    packets = PacketSource(video, shown=asked.source, frames=asked.records, crop=asked.crop)
    reason = why_not_encoded(packets)
    if reason is None:
        return packets, None
    packets.close()
    return None, reason


def _note_of_joined_video(stream: Source) -> tuple[str, ...]:
    if stream.info.kind != "video" or "concat" not in stream.info.attributes:
        return ()
    return (f"kept as pixels ({DEFAULT_CODEC}): packets of several files do not join",)


def why_pixels(packets: PacketSource, settings: Settings) -> str | None:
    """Why pixels are kept where nobody named a codec; None where packets are.

    Sizes are asked of codecs without loss only, the others are far below.
    """
    if settings.chunks is not None or settings.shards is not None:
        return "chunks and shards lay out pixels"
    if not is_lossless(packets.video):
        return None
    estimate = stored_pixels(packets.shown, settings)
    size = packets.info.length
    if size <= estimate:
        return None
    codec = packets.video.info.attributes["codec"]
    return f"its {codec} packets take {size / 1e6:.3g} MB, pixels about {estimate / 1e6:.3g} MB"


def is_lossless(video: VideoSource) -> bool:
    """Whether a video's codec never drops anything (raw, GIF, FFV1, ...), and so may not be small."""
    from av.codec import Codec

    codec = Codec(str(video.info.attributes["codec"]), "r")
    return codec.lossless and not codec.lossy


def stored_pixels(source: Source, settings: Settings, preset: str = DEFAULT_CODEC) -> int:
    """About how many bytes the records take as values, from a few samples of them."""
    settings = replace(settings, codec=preset, chunks=None, shards=None)
    chunk, _ = layout(source.info.columns, settings)
    samples: Mapping[str, Any] = read_samples(source, chunk[0])
    total = 0
    for column in source.info.columns:
        trial = choose_shuffle(codec_of_preset(preset, source.info.kind), samples[column.name])
        size = column.dtype.itemsize
        for length in column.shape:
            size *= length
        total += int(size / trial.ratio)
    return total
