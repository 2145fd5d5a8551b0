"""`convert`: from a source to items of a store. What is asked for becomes a plan, then a run."""

from __future__ import annotations

import os
import shutil
import time as wall
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.clock import Clock
from lazystore.convert.on_client import checked_client, stage_on_client
from lazystore.convert.plan import ConversionPlan, Settings, check_space, layout, make_plan, read_samples
from lazystore.convert.recording import Cut, Recording, absolute_paths, check_opens_anywhere
from lazystore.convert.report import ConversionReport, ItemReport
from lazystore.convert.run import ProgressCallback, StageElsewhere, run
from lazystore.convert.storage import Asked, choose_storage
from lazystore.convert.times import given_times
from lazystore.convert.timing import (
    NoRecordsError,
    Timing,
    native_span,
    place_in_recording,
    range_of_span,
    regular_ticks,
    resolve_clock,
)
from lazystore.convert.transform import read_transform
from lazystore.convert.trial import ENCODED
from lazystore.convert.worker import Job
from lazystore.errors import SourceError, UsageError
from lazystore.protocols import Source, SourceInfo
from lazystore.schema import JSON, check_item_name
from lazystore.sources.geometry import GeometrySource, load_geometry
from lazystore.sources.identity import check_unchanged
from lazystore.sources.registry import open_sources
from lazystore.sources.retimed import RetimedSource
from lazystore.store.location import LocalLocation
from lazystore.store.manifest import read_root
from lazystore.store.open_location import open_location
from lazystore.store.writer import check_output

type TimeSpan = tuple[float | None, float | None]


@dataclass(frozen=True, slots=True)
class Request:
    """What a caller asks of a conversion; every field is recorded in the item where it matters.

    Attributes
    ----------
    name
        The item's name; None for the source's stem.
    kind, format
        Override what the content says.
    settings
        Codec, chunks, shards, workers.
    time
        (start, stop) in session seconds, half-open; None leaves a side open.
    crop
        (y0, y1, x0, x1) in pixels, half-open.
    every
        Keep every k-th record.
    clock
        A `Clock`, its JSON, or the session seconds (or ISO instant) of the first record.
    rate_hz
        Records a second, for sources that do not say or say it wrong.
    times
        Session seconds of every record: an array, or a file with an optional ``:COLUMN``.
    times_mismatch
        ``"head"`` or ``"tail"``: how to pair times of another count; None refuses.
    dtype, keep_bits
        Smaller values, explicitly: a narrower dtype, mantissa bits to keep.
    transform
        Affine from pixels to world units: a 2 x 3 or 3 x 3 matrix, a file, a calibration object.
    env
        Geometry of a field's bins: an environment object, or the file it saves.
    source_options
        Options of the source's format.
    """

    name: str | None = None
    kind: str | None = None
    format: str | None = None
    settings: Settings = field(default_factory=Settings)
    time: TimeSpan | None = None
    crop: tuple[int, int, int, int] | None = None
    every: int | None = None
    clock: Clock | Mapping[str, Any] | str | float | None = None
    rate_hz: float | None = None
    times: Any = None
    times_mismatch: str | None = None
    dtype: str | None = None
    keep_bits: int | None = None
    transform: Any = None
    env: Any = None
    source_options: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """One stream, ready to run: its plan and the source that the plan was made over.

    `stream` is what the format opened, below any selection, `asked` what is wanted of it, and `recording`
    how another process opens it; None where that cannot be.
    """

    plan: ConversionPlan
    source: Source
    stream: Source
    asked: Asked | None = None
    recording: Recording | None = None

    def close(self) -> None:
        """Release the source's files."""
        self.source.close()
        self.stream.close()


def convert(
    source: Any,
    store: str | os.PathLike[str] | Any,
    *,
    name: str | None = None,
    kind: str | None = None,
    codec: str | None = None,
    chunks: int | tuple[int, ...] | None = None,
    shards: int | None = None,
    time: TimeSpan | None = None,
    crop: tuple[int, int, int, int] | None = None,
    every: int | None = None,
    clock: Clock | Mapping[str, Any] | str | float | None = None,
    transform: Any = None,
    env: Any = None,
    workers: int | None = None,
    client: Any = None,
    resume: bool = True,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    source_options: Mapping[str, Any] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> ConversionReport:
    """Convert one recording into an item of a store; killed at any point, the same call resumes it.

    Parameters
    ----------
    source
        A path (file or folder), several paths that make one recording, an array, or an xarray
        object.
    store
        The output folder; made if absent. Other items in it stay.
    name
        The item's name, ``/`` nests; None for the source's stem.
    kind
        One of `lazystore.protocols.KINDS`; None recognises it by content.
    codec
        ``"balanced"`` (zstd, the default), ``"fast"`` (lz4), ``"small"``, ``"none"``; for video
        also ``"encoded"``: its packets as they are, decoded when frames are asked for.
    chunks, shards
        Records an inner chunk and a shard; None chooses by the record's size.
    time
        (start, stop) in session seconds, half-open.
    crop
        (y0, y1, x0, x1) in pixels, half-open.
    every
        Keep every k-th record.
    clock
        How the recording's time maps to session seconds: a `Clock`, its JSON, or the session
        seconds or ISO instant at which it starts.
    transform
        Affine from pixels to world units.
    env
        Geometry of a field's bins.
    workers
        Threads that compress; None for one a core.
    client
        A dask.distributed `Client`: its workers read the recording and write the shards, to the same
        bytes. They must see both at the same paths, as on a network folder, and run the same versions.
        Not for arrays in memory and .npz archives.
    resume
        Go on with an unfinished conversion of the same source and settings.
    overwrite
        Replace an item of the same name. Not atomic: the old one goes first.
    progress
        Called with a `Progress` after every shard.
    source_options
        Options of the source's format; see ``lazystore info FILE``.
    storage_options
        For remote stores.
    **options
        `format`, `rate_hz`, `times`, `times_mismatch`, `dtype`, `keep_bits` as in `Request`;
        `overview`: ``"none"``, ``"preview"`` (small pictures along time), ``"exact"`` (also sums of
        every pixel), or None (default) for both where they cost less than a seventh of the movie.

    Raises
    ------
    UsageError
        If an argument is unknown or does not fit.
    SourceError, SourceChangedError
        If the input cannot be read, or changed on the way.
    StoreError, NoSpaceError
        If the output cannot be written.
    """
    if client is not None and workers is not None:
        raise UsageError(f"workers={workers!r} are threads here, client= works elsewhere; pass one of them")
    overview = options.pop("overview", None)
    unknown = sorted(set(options) - {"format", "rate_hz", "times", "times_mismatch", "dtype", "keep_bits"})
    if unknown:
        raise UsageError(f"unknown option {unknown[0]!r}; see help(lazystore.convert) for those there are")
    if workers is not None and workers < 1:
        raise UsageError(f"workers={workers!r} is not 1 or more")
    request = Request(
        name=name,
        kind=kind,
        settings=Settings(codec, chunks, shards, workers or available_cores(), overview),
        time=time,
        crop=crop,
        every=every,
        clock=clock,
        transform=transform,
        env=env,
        source_options=source_options,
        **options,
    )
    location = local_output(store, storage_options)
    prepared = prepare(source, request)
    try:
        return execute(
            prepared, location, source, resume=resume, overwrite=overwrite, progress=progress, client=client
        )
    finally:
        for one in prepared:
            one.close()


def available_cores() -> int:
    """Cores that this process may use, which a container or a batch system may have limited."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def local_output(store: Any, storage_options: Mapping[str, Any] | None = None) -> LocalLocation:
    """The output as a folder.

    Raises
    ------
    UsageError
        If it is a remote store, which this version reads and does not write.
    StoreError
        If it holds something else.
    """
    location = open_location(store, storage_options=storage_options)
    if not isinstance(location, LocalLocation):
        raise UsageError(
            f"output {location.url} is remote; this version writes to folders: copy it there after"
        )
    check_output(location)
    return location


def prepare(source: Any, request: Request) -> list[Prepared]:
    """Open the source, apply the request, plan every stream. Writes nothing."""
    sources = open_sources(
        source, kind=request.kind, format=request.format, options=dict(request.source_options or {})
    )
    stem = check_item_name(request.name) if request.name else default_name(source, sources[0].info)
    prepared: list[Prepared] = []
    left_out: list[NoRecordsError] = []
    notes = []
    try:
        for stream in sources:
            suffix = stream.info.suffix
            item = f"{stem}_{suffix}" if suffix else stem
            try:
                prepared.append(_prepare_stream(stream, item, request, absolute_paths(source)))
            except NoRecordsError as error:
                left_out.append(error)
                notes.append(f"{item!r} is left out: {error}")
                stream.close()
        if not prepared:
            raise left_out[0]
    except BaseException:
        for stream in sources:
            stream.close()
        raise
    if notes:
        plan = prepared[0].plan
        prepared[0] = replace(prepared[0], plan=replace(plan, notes=(*plan.notes, *notes)))
    return prepared


def default_name(source: Any, info: SourceInfo) -> str:
    """The item's name where none is given: the first file's stem, made storable.

    Raises
    ------
    UsageError
        If nothing usable is left of it.
    """
    if isinstance(source, str | os.PathLike):
        text = Path(os.fspath(source)).name
    elif isinstance(source, Sequence) and source and isinstance(source[0], str | os.PathLike):
        text = Path(os.fspath(source[0])).name
    else:
        text = str(getattr(source, "name", None) or info.kind)
    return check_item_name(safe_stem(text) or info.kind)


def safe_stem(file_name: str) -> str:
    """A file's name without its ending, with every character that is not storable as ``_``.

    >>> safe_stem("mouse 1.tar.mp4"), safe_stem("images")
    ('mouse_1.tar', 'images')
    """
    stem = Path(file_name).stem
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in stem).strip("._")


def _prepare_stream(
    stream: Source, name: str, request: Request, paths: str | tuple[str, ...] | None
) -> Prepared:
    source = stream
    if request.env is not None:
        source = GeometrySource(source, load_geometry(request.env))
    first_record, whole = place_in_recording(stream, source.info)
    if request.rate_hz is not None:
        ticks = regular_ticks(whole, request.rate_hz)
        whole = replace(whole, ticks=ticks)
        source = RetimedSource(source, replace(ticks, start=first_record))
    clock = resolve_clock(request.clock, whole)
    given = None if request.times is None else given_times(request.times, stream, request.times_mismatch)
    records, span = (0, source.info.length), None
    kept: NDArray[np.float64] | None = None
    if given is not None:
        # Given times are session seconds already: they choose the records themselves.
        times_s, first = given.times_s, given.first_record
        low, high = range_of_span(times_s, request.time)
        records, kept = (first + low, first + high), times_s[low : high : request.every or 1]
    elif request.time is not None and source.info.ticks is None:
        span = native_span(clock, request.time)
    elif request.time is not None:
        timed = Timing(clock, source.info.ticks, source.info.length, source.info.columns[0].dims[0])
        records = range_of_span(timed, request.time)
    cut = Cut(
        None if records == (0, source.info.length) else records,
        span, request.crop, request.every, request.dtype, request.keep_bits,
    )  # fmt: skip
    source = cut.of(source)
    info = source.info
    if given is not None:
        clock = replace(clock, known="given") if clock.known == "assumed" else clock
    main = info.columns[0]
    timing = Timing(clock, info.ticks, info.length, main.dims[0], kept)
    recorded: dict[str, JSON] = {}
    if request.transform is not None:
        corner = (request.crop[2], request.crop[0]) if request.crop else (0, 0)
        recorded["transform"] = read_transform(request.transform, corner)
    if request.source_options:
        # For a repair; how many threads decode changes nothing of what comes out.
        recorded["source_options"] = {
            key: value if isinstance(value, int | float | str) else str(value)
            for key, value in request.source_options.items()
            if key != "decode_threads"
        }
    if not info.length:
        raise SourceError(f"{info.identity[0].name!r} holds no records; there is nothing to convert")
    asked = Asked(source, range(*records, request.every or 1), request.crop, casts=cut.casts)
    storage = choose_storage(stream, asked, request.settings)
    source, settings = storage.source, replace(request.settings, codec=storage.codec)
    chunk, _ = layout(source.info.columns, settings)
    samples = read_samples(source, chunk[0])
    plan = make_plan(source.info, name, timing, settings, samples, recorded, main, storage.notes)
    recording = None if paths is None else Recording(
        paths, request.kind, request.format, dict(request.source_options or {}), stream.info.suffix, cut,
        settings.codec == ENCODED, stream.info.identity,
    )  # fmt: skip
    return Prepared(plan, source, stream, asked, recording)


def execute(
    prepared: Sequence[Prepared],
    location: LocalLocation,
    source: Any,
    *,
    resume: bool = True,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    client: Any = None,
) -> ConversionReport:
    """Run plans one after the other; refuses first what will not fit on the disk, or suit the client."""
    elsewhere = [None if client is None else _on_client(client, one, source, location) for one in prepared]
    parent = location.root
    while not parent.exists():
        parent = parent.parent
    free_bytes = shutil.disk_usage(parent).free
    for one in prepared:
        check_space(one.plan, free_bytes)
    items = []
    for one, stage in zip(prepared, elsewhere, strict=True):
        began = wall.monotonic()
        result = run(
            one.plan,
            one.source,
            location,
            resume=resume,
            overwrite=overwrite,
            progress=progress,
            before_commit=lambda one=one: _check_source(source, one),  # type: ignore[misc]  # a default binds the loop's value
            elsewhere=stage,
        )
        items.append(_report(one.plan, result, location, wall.monotonic() - began))
    return ConversionReport(location.url, tuple(items))


def _on_client(client: Any, one: Prepared, source: Any, location: LocalLocation) -> StageElsewhere:
    """What stages the tasks of a plan on a client's workers."""
    checked = checked_client(client)
    recording = check_opens_anywhere(one.recording, type(source).__name__)
    return lambda tasks, token: stage_on_client(checked, Job.of(one.plan, recording, location, token), tasks)


def _check_source(source: Any, prepared: Prepared) -> None:
    """Notice a file that was written to while it was being read."""
    # A source that took some files of a folder knows which; the path alone does not say.
    check = getattr(prepared.stream, "check_unchanged", None)
    if check is not None:
        check()
        return
    info = prepared.plan.info
    paths = [source] if isinstance(source, str | os.PathLike) else source
    if not isinstance(paths, Sequence) or not all(isinstance(path, str | os.PathLike) for path in paths):
        return
    if len(paths) == len(info.identity):
        for identity, path in zip(info.identity, paths, strict=True):
            check_unchanged(identity, path)


def _report(plan: ConversionPlan, result: Any, location: LocalLocation, seconds: float) -> ItemReport:
    record = result.record
    main = plan.main
    return ItemReport(
        name=record.name,
        kind=plan.info.kind,
        format=plan.info.format,
        shape=main.shape,
        dtype=main.dtype.name,
        records=main.shape[0],
        source_bytes=plan.source_bytes,
        decoded_bytes=plan.decoded_bytes,
        stored_bytes=read_root(location, record.name, record.attributes).n_bytes,
        tasks_done=result.tasks_done,
        tasks_resumed=result.tasks_resumed,
        already_there=result.already_there,
        missing_records=len(result.missing),
        seconds=seconds,
        codec=str(record.attributes.get("codec", "")),
        problems=(*record.attributes.get("problems", ()), *plan.notes),
    )
