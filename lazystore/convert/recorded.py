"""The source of a committed item, opened and cut as the item's own record says it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.clock import Clock
from lazystore.convert.materialize import StoredVideo
from lazystore.convert.remake import Remaker
from lazystore.convert.times import given_times
from lazystore.convert.timing import Timing
from lazystore.convert.trial import ENCODED
from lazystore.errors import LazystoreError, SourceChangedError, SourceError
from lazystore.protocols import Source, SourceInfo, Ticks
from lazystore.schema import ArraySpec, spec_from_metadata
from lazystore.sources.casting import CastSource
from lazystore.sources.geometry import GeometrySource, load_geometry
from lazystore.sources.identity import identify_file
from lazystore.sources.registry import open_sources
from lazystore.sources.rows import select_source
from lazystore.sources.selection import SelectedSource
from lazystore.sources.video.packets import PacketSource
from lazystore.sources.video.recording import VideoSource
from lazystore.store.index import ItemRecord, read_item
from lazystore.store.item_arrays import load_array
from lazystore.store.location import Location

_ROWS = ("events", "spikes", "intervals")


@dataclass(frozen=True, slots=True)
class Given:
    """What a person gives for a repair.

    Attributes
    ----------
    sources
        Paths, or what else `convert` takes: the recordings that items were made from.
    options
        Options of the source's format, for items that did not record theirs.
    env
        Geometry of a field's bins, where its own files are damaged.
    times, times_mismatch
        Session seconds of every record, as they were given to the conversion, where the item's are damaged.
    """

    sources: tuple[Any, ...] = ()
    options: Mapping[str, Any] | None = None
    env: Any = None
    times: Any = None
    times_mismatch: str | None = None


def remaker_of(location: Location, record: ItemRecord, given: Given) -> Remaker:
    """The source of an item beside the item; the caller closes it.

    Raises
    ------
    SourceError
        If it was not given, or does not give the item's arrays.
    SourceChangedError
        If what was given under its name is another recording now.
    """
    if "materialized" in record.attributes:
        return _of_stored_video(location, record)
    problems: list[str] = []
    for streams in _openings(record, given, problems):
        # The stream that the item is named after first.
        ordered = sorted(streams, key=lambda one: not record.name.endswith(one.info.suffix or "\0"))
        for stream in ordered:
            try:
                return _fitted(location, record, stream, given, tuple(streams))
            except LazystoreError as error:
                problems.append(str(error))
        for stream in streams:
            stream.close()
    raise SourceError(problems[-1])


def _openings(record: ItemRecord, given: Given, problems: list[str]) -> Iterator[list[Source]]:
    """Streams of each recording given that is the item's source, by its sampled hash."""
    files: Sequence[Mapping[str, Any]] = record.attributes["source"]["files"]
    wanted = [str(file["sha256_sampled"]) for file in files]
    names = ", ".join(str(file["name"]) for file in files[:3]) + (", ..." if len(files) > 3 else "")
    problems.append(f"item {record.name!r} was made from {names}; pass it with --source")
    options = record.attributes.get("source_options") or given.options or {}
    for source in _candidates(given.sources, files):
        # A format takes its own word for the kind, unless one was asked for.
        for kind in (None, record.kind):
            try:
                streams = open_sources(source, kind=kind, options=options)
            except LazystoreError as error:
                problems.append(str(error))
                continue
            if [identity.sha256_sampled for identity in streams[0].info.identity] == wanted:
                yield streams
                continue
            for stream in streams:
                stream.close()
            if [identity.name for identity in streams[0].info.identity] == [str(f["name"]) for f in files]:
                raise SourceChangedError(
                    f"{names} is no longer what item {record.name!r} was made from: its size or content "
                    "changed; bring the old one back, or convert again with --overwrite"
                )


def _candidates(sources: Sequence[Any], files: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
    if len(files) == 1:
        yield from sources
        return
    # A recording in several files: those of its hashes, in its order.
    by_hash = {identify_file(path).sha256_sampled: path for path in sources if isinstance(path, str)}
    if all(file["sha256_sampled"] in by_hash for file in files):
        yield [by_hash[str(file["sha256_sampled"])] for file in files]


def _fitted(
    location: Location, record: ItemRecord, stream: Source, given: Given, streams: tuple[Source, ...]
) -> Remaker:
    if stream.info.kind != record.kind:
        raise SourceError(
            f"the source is of kind {stream.info.kind!r}, and item {record.name!r} of kind {record.kind!r}"
        )
    source = stream
    if given.env is not None and "geometry" in record.attributes:
        source = GeometrySource(source, load_geometry(given.env))
    selection = record.attributes["source"].get("selection") or {}
    source = _selected(source, selection)
    timing = _timing_of(location, record, source.info)
    if timing.ticks is None and timing.times_s is None and given.times is not None:
        timing = replace(timing, ticks=source.info.ticks, times_s=_given_again(given, stream, selection))
    if record.attributes.get("codec") == ENCODED:
        if not isinstance(stream, VideoSource):
            raise SourceError(f"the source of {record.name!r} holds no packets")
        start, stop = selection.get("records") or (0, len(stream.frames))
        crop = selection.get("crop")
        source = PacketSource(
            stream,
            shown=source,
            frames=range(start, stop, selection.get("every") or 1),
            crop=tuple(crop) if crop else None,
        )
    return Remaker(record, source, _columns(record, source.info), timing, streams)


def _selected(source: Source, selection: Mapping[str, Any]) -> Source:
    """The part that was chosen; a selection of a selection names the inner one."""
    if selection.get("of"):
        source = _selected(source, selection["of"])
    crop = tuple(selection["crop"]) if selection.get("crop") else None
    every = selection.get("every")
    if source.info.kind in _ROWS:
        time = tuple(selection["time"]) if selection.get("time") else None
        source = select_source(source, time=time, crop=crop, every=every)
    elif selection.get("records") or crop or every:
        records = tuple(selection["records"]) if selection.get("records") else None
        source = SelectedSource(source, records=records, crop=crop, every=every)
    if selection.get("dtype") or selection.get("keep_bits"):
        source = CastSource(source, dtype=selection.get("dtype"), keep_bits=selection.get("keep_bits"))
    return source


def _columns(record: ItemRecord, info: SourceInfo) -> tuple[ArraySpec, ...]:
    columns = []
    for column in info.columns:
        document = record.documents.get(column.name)
        spec = None if document is None else spec_from_metadata(column.name, document)
        if spec is None or spec.shards is None or (spec.shape, spec.dtype) != (column.shape, column.dtype):
            stored = "none" if spec is None else f"{spec.dtype}{spec.shape}"
            raise SourceError(
                f"the source gives {column.name!r} as {column.dtype}{column.shape}, and item {record.name!r} "
                f"holds {stored}; pass the --option that it was converted with"
            )
        columns.append(spec)
    return tuple(columns)


def _timing_of(location: Location, record: ItemRecord, info: SourceInfo) -> Timing:
    """Times by the item's clock; ticks from the item where it names them, else from the source."""
    clock = Clock.from_json(record.attributes["clock"])
    length, dim = info.columns[0].shape[0], info.columns[0].dims[0]
    ticks = info.ticks
    regular = record.attributes.get("ticks")
    if isinstance(regular, Mapping):
        base = Fraction(*regular["time_base"])
        ticks = Ticks(base, None, regular["start"], regular["step"], known=regular["known"])
    if record.attributes.get("times") != "given":
        return Timing(clock, ticks, length, dim)
    try:
        times_s = load_array(location, record, "time").astype(np.float64)
    except LazystoreError:
        # They were somebody's, and are nowhere else: no array of times can be made again.
        return Timing(clock, None, length, dim)
    return Timing(clock, ticks, length, dim, times_s)


def _given_again(given: Given, stream: Source, selection: Mapping[str, Any]) -> NDArray[np.float64]:
    """Given times of the records that were chosen; of all of them where the conversion took all."""
    matched = given_times(given.times, stream, given.times_mismatch)
    start, stop = selection.get("records") or (0, stream.info.length)
    first = matched.first_record
    return matched.times_s[start - first : stop - first : selection.get("every") or 1]


def _of_stored_video(location: Location, record: ItemRecord) -> Remaker:
    """Of pixels that were decoded from an item of the same store."""
    made_of = record.attributes["materialized"]
    encoded = read_item(location, str(made_of["item"]))
    if encoded is None or encoded.generation != made_of["generation"]:
        raise SourceError(
            f"item {record.name!r} was decoded from item {made_of['item']!r}, which is not in this store; "
            "materialize it again with --overwrite"
        )
    stream = StoredVideo(location, encoded)
    records = tuple(made_of["records"])
    whole = records == (0, stream.info.length)
    source: Source = stream if whole else SelectedSource(stream, records=records)
    timing = _timing_of(location, record, source.info)
    return Remaker(record, source, _columns(record, source.info), timing, (stream,))
