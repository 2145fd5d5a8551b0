"""`materialize`: frames of an encoded video as pixels, an item of the same store or of another."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from lazystore.convert.api import Prepared, available_cores, execute, local_output
from lazystore.convert.choices import DEFAULT, Choice, packet_looks, pixel_choices
from lazystore.convert.damage import Damage
from lazystore.convert.item_timing import timing_of_item
from lazystore.convert.plan import DEFAULT_CODEC, Settings, layout, make_plan, read_samples
from lazystore.convert.report import ConversionReport
from lazystore.convert.run import ProgressCallback
from lazystore.convert.timing import TimeSpan, range_of_span
from lazystore.convert.trial import ENCODED
from lazystore.errors import SourceChangedError, StoreError, UsageError
from lazystore.protocols import Block, Column, SideArray, SourceIdentity, SourceInfo
from lazystore.schema import JSON, check_item_name
from lazystore.sources.selection import SelectedSource
from lazystore.store.amend import amend, locked_item
from lazystore.store.encoded_item import is_encoded, open_encoded
from lazystore.store.index import ItemRecord, read_item
from lazystore.store.item_arrays import load_array
from lazystore.store.location import LocalLocation, Location
from lazystore.store.manifest import read_root
from lazystore.store.open_location import open_location
from lazystore.video.record import FRAME_PACKETS, PAYLOAD

SUFFIX = "_pixels"
AS_IT_IS = "as it is"
# The packets, and what the plan writes anew.
_NOT_COPIED = (PAYLOAD, FRAME_PACKETS, "time", "data")


class StoredVideo:
    """The frames of an encoded item, as a `Source`.

    Parameters
    ----------
    location, record
        The item.

    Raises
    ------
    UsageError
        If it holds no packets.
    """

    def __init__(self, location: Location, record: ItemRecord) -> None:
        if not is_encoded(record):
            raise UsageError(f"item {record.name!r} holds no packets but its values already; nothing to do")
        self._location, self._record = location, record
        self.user_attributes = dict(record.user_attributes)
        self._reader = open_encoded(location, record)
        spec = self._reader.spec
        damage = Damage.of_attributes(record.attributes)
        self._missing, self._doubtful = set(damage.missing), set(damage.doubtful)
        self.timing = timing_of_item(location, record)
        ticks = self.timing.ticks
        source = dict(record.attributes["source"])
        files = source.pop("files")
        # Lines that the new item's own damage will write again, with its own numbers.
        told: Any = damage.attributes(spec.shape[0], (), ()).get("problems", ())
        self._info = SourceInfo(
            kind=record.kind,
            format=source.pop("format"),
            columns=(Column("data", spec.dims, spec.shape, spec.dtype, spec.attributes),),
            identity=tuple(SourceIdentity(**file) for file in files),
            ticks=ticks,
            side=tuple(self._side(path) for path in self._labels()),
            attributes=source,
            problems=tuple(line for line in record.attributes.get("problems", ()) if line not in told),
        )

    def _labels(self) -> list[str]:
        ticks = self.timing.ticks
        left_out = (*_NOT_COPIED, None if ticks is None else ticks.name)
        return [
            path
            for path, document in self._record.documents.items()
            if "/" not in path and document["node_type"] == "array" and path not in left_out
        ]

    def _side(self, path: str) -> SideArray:
        document = self._record.documents[path]
        values = load_array(self._location, self._record, path)
        return SideArray(path, tuple(document["dimension_names"]), values, document["attributes"])

    @property
    def info(self) -> SourceInfo:
        return self._info

    def read(self, start: int, stop: int) -> Block:
        """Frames [start, stop), decoded in order."""
        spec = self._reader.spec
        data = np.empty((stop - start, *spec.shape[1:]), spec.dtype)
        tail = (0,) * (len(spec.shape) - 1)
        indices = [(number, *tail) for number in range(start, stop)]
        self._reader.fill_chunks(indices, [data[number : number + 1] for number in range(stop - start)])
        missing, doubtful = (
            tuple(sorted(numbers.intersection(range(start, stop))))
            for numbers in (self._missing, self._doubtful)
        )
        return Block(start, {"data": data}, missing, doubtful=doubtful)

    def looks(self, start: int, stop: int) -> tuple[float, float]:
        """Median seconds for one of the frames [start, stop), and how many of them a second in order."""
        return packet_looks(self._reader, start, stop)

    def stored_bytes(self, start: int, stop: int) -> int:
        """What the item takes for the frames [start, stop): of all its bytes their packets' share."""
        n_bytes = read_root(self._location, self._record.name, self._record.attributes).n_bytes
        packed = self._reader.packed_bytes
        return n_bytes * packed(start, stop) // max(1, packed(0, self._reader.spec.shape[0]))

    def check_unchanged(self) -> None:
        """Notice an item that was replaced while it was being read.

        Raises
        ------
        SourceChangedError
            If it was.
        """
        now = read_item(self._location, self._record.name)
        if now is None or now.generation != self._record.generation:
            raise SourceChangedError(
                f"item {self._record.name!r} was replaced meanwhile; materialize it again with overwrite"
            )

    def close(self) -> None:
        self._reader.close()


def materialize(
    store: str | os.PathLike[str] | Any,
    item: str,
    *,
    to: str | os.PathLike[str] | None = None,
    name: str | None = None,
    time: TimeSpan | None = None,
    codec: str | None = None,
    chunks: int | None = None,
    shards: int | None = None,
    workers: int | None = None,
    resume: bool = True,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> ConversionReport:
    """Decode an encoded video, or a part of it, into pixels that plain Zarr reads.

    Parameters
    ----------
    store, item
        The encoded item. The store may be remote if `to` is given.
    to
        The store to write to; the same one by default.
    name
        The new item's name; ``ITEM_pixels`` in the same store, ``ITEM`` in another.
    time
        (start, stop) in session seconds, half-open; None leaves a side open.
    codec
        ``"balanced"`` (default), ``"fast"``, ``"small"``, ``"none"``.
    chunks, shards, workers, resume, overwrite, progress
        As in `convert`.
    storage_options
        For a remote `store`.

    Raises
    ------
    UsageError
        If the item holds no packets, or an argument does not fit.
    StoreError, NoSpaceError
        If there is no such item, or the output cannot be written or will not fit.
    DamagedStoreError
        If packets are damaged.
    """
    if workers is not None and workers < 1:
        raise UsageError(f"workers={workers!r} is not 1 or more")
    settings = Settings(codec, chunks, shards, workers or available_cores())
    prepared, output = prepare_item(
        store, item, to=to, name=name, time=time, settings=settings, storage_options=storage_options
    )
    try:
        return run_item(prepared, output, resume=resume, overwrite=overwrite, progress=progress)
    finally:
        prepared.close()


def prepare_item(
    store: Any,
    item: str,
    *,
    to: Any,
    name: str | None,
    time: TimeSpan | None,
    settings: Settings,
    storage_options: Mapping[str, Any] | None = None,
) -> tuple[Prepared, LocalLocation]:
    """The plan of `materialize`, and where it goes. Writes nothing."""
    if settings.codec == ENCODED:
        raise UsageError("codec 'encoded' is what the item has; choose balanced, fast, small or none")
    location = open_location(store, storage_options=storage_options)
    output = local_output(store, storage_options) if to is None else local_output(to)
    new_name = check_item_name(name or (f"{item}{SUFFIX}" if to is None else item))
    if new_name == item and output.url == location.url:
        raise UsageError(f"name {new_name!r} is the encoded item itself; choose another name")
    record = read_item(location, item)
    if record is None:
        raise StoreError(f"there is no item {item!r} in {location.url}; see lazystore info")
    stream = StoredVideo(location, record)
    try:
        timing = stream.timing
        low, high = 0, timing.n_records
        if time is not None:
            low, high = range_of_span(timing if timing.times_s is None else timing.times_s, time)
        is_whole = (low, high) == (0, timing.n_records)
        source = stream if is_whole else SelectedSource(stream, records=(low, high))
        times_s = None if timing.times_s is None else timing.times_s[low:high]
        part = replace(timing, ticks=source.info.ticks, n_records=high - low, times_s=times_s)
        settings = replace(settings, codec=settings.codec or DEFAULT_CODEC)
        recorded: dict[str, JSON] = {
            "materialized": {"item": item, "generation": record.generation, "records": [low, high]}
        }
        if "transform" in record.attributes:
            recorded["transform"] = record.attributes["transform"]
        chunk, _ = layout(source.info.columns, settings)
        samples = read_samples(source, chunk[0])
        plan = make_plan(source.info, new_name, part, settings, samples, recorded)
    except BaseException:
        stream.close()
        raise
    return Prepared(plan, source, stream), output


def item_choices(prepared: Prepared, settings: Settings) -> list[Choice]:
    """What the frames take now, as packets, and what each codec of pixels would cost; measured on samples.

    Parameters
    ----------
    prepared, settings
        From, and for, `prepare_item`.
    """
    stream, plan = prepared.stream, prepared.plan
    assert isinstance(stream, StoredVideo)
    made_of: Any = plan.item.attributes["materialized"]
    start, stop = made_of["records"]
    now = stream.stored_bytes(start, stop)
    random_s, frames_per_s = stream.looks(start, stop)
    found = pixel_choices(prepared.source, plan.timing, settings, now)
    marked = [replace(choice, mark=DEFAULT) if choice.codec == DEFAULT_CODEC else choice for choice in found]
    return [Choice(ENCODED, now, 1.0, random_s, frames_per_s, AS_IT_IS), *marked]


def run_item(
    prepared: Prepared,
    output: LocalLocation,
    *,
    resume: bool = True,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> ConversionReport:
    """Carry out the plan; the item's free attributes come along by a commit of their own."""
    report = execute([prepared], output, None, resume=resume, overwrite=overwrite, progress=progress)
    assert isinstance(prepared.stream, StoredVideo)
    user = prepared.stream.user_attributes
    name = prepared.plan.item.name
    if user:
        with locked_item(output, name) as record:
            if dict(record.user_attributes) != user:
                amend(
                    output,
                    record,
                    attributes=dict(record.attributes),
                    user_attributes={**user, **record.user_attributes},
                    arrays=[],
                    documents={},
                )
    return report
