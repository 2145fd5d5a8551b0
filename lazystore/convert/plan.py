"""What a conversion will write and cost, settled before its first byte; nothing here writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.chunks import ceil_div, check_shards, frames_per_chunk, frames_per_shard
from lazystore.convert.estimate import bytes_of_shards, bytes_of_side, bytes_of_statistics
from lazystore.convert.summaries import side_of_arrays
from lazystore.convert.timing import Timing
from lazystore.convert.trial import ENCODED, TrialResult, choose_shuffle, codec_of_preset
from lazystore.errors import NoSpaceError, SourceError, UsageError
from lazystore.overviews.levels import Levels, choose_levels, estimated_bytes, memory_bytes
from lazystore.protocols import Column, Source, SourceInfo
from lazystore.schema import JSON, ArraySpec, Codec, check_array_limits, format_record, sha256_of_json
from lazystore.store.item_plan import ItemPlan

# Interpreter, numpy, numba, codecs and a decoder, measured: what a conversion holds besides blocks.
BASELINE_BYTES = 230 * 1024 * 1024
# Records that the codec trial reads, spread over the recording, so that a fade-in does not decide.
TRIAL_POSITIONS = (0.1, 0.5, 0.9)
TRIAL_BYTES = 4 * 1024 * 1024
# Packets: a frame's are read with their chunk, which must not cost more than decoding them.
BYTES_A_CHUNK = 128 * 1024
# What is done of a task is done again after a kill: half a minute of two cores.
DECODED_BYTES_A_TASK = 16 << 30
# A window of 50,000 events decodes 82,000 of chunks of this length, and 115,000 of twice as long ones; below
# it what each chunk costs, and each start of zstd, outweighs what is saved. Long matches make up for it at
# levels that find them: 3% of the bytes.
EVENTS_A_CHUNK, EVENTS_A_SMALL_CHUNK = 32_768, 65_536
DEFAULT_CODEC = "balanced"
MOVIES = ("field", "video", "stack")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a caller may choose of an item's layout.

    Attributes
    ----------
    codec
        A preset's name, or None for the kind's default.
    chunks, shards
        Records an inner chunk, a shard; or None for what the record's size suggests.
    workers
        Threads that compress; None for one a core.
    overview
        ``"none"``, ``"preview"``, ``"exact"``, or None for what costs little; see `choose_levels`.
    """

    codec: str | None = None
    chunks: int | tuple[int, ...] | None = None
    shards: int | None = None
    workers: int = 2
    overview: str | None = None


@dataclass(frozen=True, slots=True)
class ConversionPlan:
    """One item's conversion.

    Attributes
    ----------
    item
        What the store will hold.
    main
        The array that people will ask for: the first column, or the frames that packets stand for.
    info, timing
        The recording as it will be stored, and the times of its records.
    trials
        Codec and sampled ratio a column.
    source_bytes
        Size of the input.
    levels
        Overviews along time.
    decoded_bytes, stored_bytes
        Size of all columns decoded; estimate of what the item takes on disk, all its arrays together.
    overview_bytes
        Estimate of what the overviews alone take.
    peak_bytes
        Bound on the memory the conversion uses.
    notes
        What its owner should know of the choices made, one line each.
    """

    item: ItemPlan
    info: SourceInfo
    main: Column
    timing: Timing
    trials: Mapping[str, TrialResult]
    levels: Levels
    workers: int
    source_bytes: int
    decoded_bytes: int
    stored_bytes: int
    overview_bytes: int
    peak_bytes: int
    notes: tuple[str, ...] = ()

    def describe(self) -> dict[str, JSON]:
        """The plan as ``--dry-run --json`` prints it."""
        return {
            "item": self.item.name,
            "kind": self.info.kind,
            "format": self.info.format,
            "codec": self.item.attributes["codec"],
            "records": self.timing.n_records,
            "arrays": [
                {
                    "path": column.path,
                    "dims": list(column.dims),
                    "shape": list(column.shape),
                    "dtype": column.dtype.name,
                    "chunks": list(column.chunks),
                    "shards": list(column.shards or column.chunks),
                    "codec": asdict(column.codec),
                    "sampled_ratio": round(self.trials[column.path].ratio, 3),
                }
                for column in self.item.columns
            ],
            "tasks": self.item.n_tasks,
            "source_bytes": self.source_bytes,
            "decoded_bytes": self.decoded_bytes,
            "estimated_store_bytes": self.stored_bytes,
            "overview": {**self.levels.to_json(), "estimated_bytes": self.overview_bytes},
            "peak_memory_bytes": self.peak_bytes,
            "clock": self.timing.clock.describe(),
            "problems": list(self.info.problems),
            "notes": list(self.notes),
        }


@cache
def codec_versions() -> dict[str, str]:
    """Versions of what decides the bytes of a shard."""
    return {name: version(name) for name in ("numcodecs", "numpy")}


def record_bytes(column: Column) -> int:
    """Decoded bytes of one record of a column."""
    return column.dtype.itemsize * int(np.prod(column.shape[1:], dtype=np.int64))


def layout(columns: Sequence[Column], settings: Settings) -> tuple[tuple[int, ...], int]:
    """Inner chunk of the first column and records a shard, shared by all columns.

    Raises
    ------
    UsageError
        If the chunks or shards asked for do not fit the arrays.
    """
    first, length = columns[0], columns[0].shape[0]
    widest = max(record_bytes(column) for column in columns)
    tail = tuple(max(1, size) for size in first.shape[1:])
    wanted = settings.chunks
    if wanted is None:
        if first.dims == ("byte",):
            frames = BYTES_A_CHUNK
        elif first.dims == ("event",):
            frames = EVENTS_A_SMALL_CHUNK if settings.codec == "small" else EVENTS_A_CHUNK
        else:
            frames = frames_per_chunk(widest)
        # A short recording must not be padded to a long chunk.
        frames = min(frames, 1 << max(0, length - 1).bit_length())
    elif isinstance(wanted, int):
        frames = wanted
    elif len(wanted) == len(first.shape) and len(columns) == 1:
        frames, tail = wanted[0], tuple(wanted[1:])
    else:
        raise UsageError(
            f"chunks {wanted!r} do not fit {len(columns)} array(s) of shape {first.shape}; "
            f"pass records a chunk, or one length for each of {first.dims}"
        )
    if frames < 1 or any(size < 1 for size in tail):
        raise UsageError(f"chunks {wanted!r} must be 1 or more along every axis")
    total = sum(record_bytes(column) for column in columns)
    shard = settings.shards
    if shard is None:
        shard = frames_per_shard(total, frames)
        shard = min(shard, frames * (1 << max(0, ceil_div(length, frames) - 1).bit_length()))
    check_shards((shard,), (frames,))
    return (frames, *tail), shard


def read_samples(source: Source, chunk_frames: int) -> dict[str, list[NDArray[Any]]]:
    """A few chunks of every column, spread over the recording; at most about 12 MB."""
    info = source.info
    widest = max(1, sum(record_bytes(column) for column in info.columns))
    count = max(1, min(info.length, chunk_frames, TRIAL_BYTES // widest))
    samples: dict[str, list[NDArray[Any]]] = {column.name: [] for column in info.columns}
    starts = sorted({int(fraction * (info.length - count)) for fraction in TRIAL_POSITIONS})
    for start in starts:
        block = source.read(start, start + count)
        for name, values in block.columns.items():
            samples[name].append(values)
    return samples


def make_plan(
    info: SourceInfo,
    name: str,
    timing: Timing,
    settings: Settings,
    samples: Mapping[str, Sequence[NDArray[Any]]],
    recorded: Mapping[str, JSON],
    main: Column | None = None,
    notes: tuple[str, ...] = (),
) -> ConversionPlan:
    """The plan of one item. Pure: equal arguments give equal plans.

    Parameters
    ----------
    info
        The recording, as it will be stored.
    name
        Name of the item.
    samples
        Chunks of every column for the codec trial, from `read_samples`.
    recorded
        Further entries for ``attrs.lazystore``: selection, transform.
    main
        The array that people will ask for, where it is not the first column.
    notes
        For `ConversionPlan.notes`.

    Raises
    ------
    SourceError
        If there are no records.
    UsageError
        If a setting is unknown or does not fit.
    """
    if info.length == 0:
        names = ", ".join(identity.name for identity in info.identity)
        raise SourceError(f"{names} holds no records; there is nothing to convert")
    chunk, shard_records = layout(info.columns, settings)
    # Packets stand for the frames that they decode to; otherwise what is stored is what is there.
    stands_for = info.columns if main is None or main in info.columns else (main,)
    decoded = sum(record_bytes(column) * column.shape[0] for column in stands_for)
    if stands_for is not info.columns and settings.shards is None:
        # A shard of packets is a task, and may be an hour of video.
        n_tasks = ceil_div(decoded, DECODED_BYTES_A_TASK)
        if n_tasks > 1:
            shard_records = min(shard_records, frames_per_shard(1, chunk[0], ceil_div(info.length, n_tasks)))
    preset = settings.codec or DEFAULT_CODEC
    trials = {
        column.name: choose_shuffle(codec_of_preset(preset, info.kind, column.name), samples[column.name])
        for column in info.columns
    }
    columns = tuple(
        _column_spec(column, chunk, shard_records, trials[column.name].codec) for column in info.columns
    )
    for column in columns:
        check_array_limits(column)
    stored = sum(int(column.nbytes / trials[column.path].ratio) for column in columns)
    movie = main or info.columns[0]
    levels = _levels(info.kind, movie, stored, shard_records, settings)
    body: dict[str, JSON] = {
        "format": format_record(["encoded-video"] if settings.codec == ENCODED else []),
        "kind": info.kind,
        "source": {
            "format": info.format,
            "files": [asdict(identity) for identity in info.identity],
            **info.attributes,
        },
        **info.item_attributes,
        **timing.attributes(),
        **recorded,
        "codec": settings.codec or DEFAULT_CODEC,
        "problems": list(info.problems),
        **({"overview": levels.to_json()} if levels else {}),
    }
    times = None if timing.times_s is None else sha256_of_json(timing.times_s.tolist())
    fingerprint: dict[str, JSON] = {
        "attributes": body,
        "documents": {column.path: column.to_metadata() for column in columns},
        "versions": codec_versions(),
        "times": times,
    }
    generation = sha256_of_json(fingerprint)[:16]
    item = ItemPlan(name, generation, columns, shard_records, info.length, {**body, "generation": generation})
    overview_bytes = estimated_bytes(levels, movie.shape, movie.dtype)
    adding_bytes = memory_bytes(levels, movie.shape, movie.dtype)
    beside = bytes_of_shards(columns) + overview_bytes
    beside += bytes_of_side([*timing.side(), *side_of_arrays(info.side)])
    if info.kind in MOVIES:
        frames = None if stands_for is not info.columns else samples[movie.name]
        beside += bytes_of_statistics(movie, item.n_tasks, frames)
    block = sum(record_bytes(column) for column in info.columns) * min(shard_records, info.length)
    return ConversionPlan(
        item,
        info,
        movie,
        timing,
        trials,
        levels,
        settings.workers,
        sum(identity.size_bytes for identity in info.identity),
        decoded,
        stored + beside,
        overview_bytes,
        # One block being read, one waiting, one with each worker beside its encoded form.
        BASELINE_BYTES + block * (2 + 2 * settings.workers) + adding_bytes * settings.workers,
        notes,
    )


def _levels(kind: str, movie: Column, stored_bytes: int, task_frames: int, settings: Settings) -> Levels:
    """The overviews of a recording; only movies have any."""
    if kind not in MOVIES:
        if settings.overview in ("preview", "exact"):
            raise UsageError(
                f"overview {settings.overview!r} is for fields, video and stacks, not for {kind}"
            )
        return Levels()
    return choose_levels(
        movie.shape, movie.dims, movie.dtype, stored_bytes, settings.overview,
        task_frames=task_frames, is_encoded=settings.codec == ENCODED,
    )  # fmt: skip


def _column_spec(column: Column, chunk: tuple[int, ...], shard_records: int, codec: Codec) -> ArraySpec:
    if len(column.dims) != len(column.shape):
        # Written down, it would be a store that no reader opens.
        raise SourceError(
            f"column {column.name!r} has shape {column.shape}, but dimensions {column.dims}; "
            "expected a name for each: its source is at fault"
        )
    tail = tuple(max(1, size) for size in column.shape[1:])
    inner = chunk if len(chunk) == len(column.shape) and len(chunk) > 1 else (chunk[0], *tail)
    shard_tail = tuple(ceil_div(size, part) * part for size, part in zip(tail, inner[1:], strict=True))
    return ArraySpec(
        column.name,
        column.dims,
        column.shape,
        column.dtype,
        inner,
        (shard_records, *shard_tail),
        codec,
        column.attributes,
    )


def check_space(plan: ConversionPlan, free_bytes: int) -> None:
    """Refuse what will not fit.

    Raises
    ------
    NoSpaceError
        If the estimate is above the free space.
    """
    if plan.stored_bytes > free_bytes:
        raise NoSpaceError(
            f"{plan.item.name!r} needs about {plan.stored_bytes / 1e6:,.0f} MB "
            f"and {free_bytes / 1e6:,.0f} MB are free; free some space, choose another output, "
            "or a smaller --codec"
        )
