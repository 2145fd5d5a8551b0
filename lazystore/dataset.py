"""Opening a store: its items as arrays and event streams, wired to readers and the cache."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from numpy.typing import NDArray

from lazystore.array.labels import Coordinate
from lazystore.array.lazy_array import LazyArray
from lazystore.array.overviews import StoredOverviews
from lazystore.array.statistics import StoredStatistics
from lazystore.cache.pool import set_cache_bytes
from lazystore.cache.reader import CachedReader
from lazystore.clock import Clock
from lazystore.errors import (
    DamagedStoreError,
    HostileStoreError,
    IncompleteStoreError,
    StoreError,
    unknown_item,
)
from lazystore.events.index import INDEX_COLUMNS, EventIndex, index_of_readers
from lazystore.events.stream import EventStream
from lazystore.foreign import ForeignStore, open_foreign_store
from lazystore.overviews.levels import Levels
from lazystore.protocols import ChunkReader
from lazystore.schema import ArraySpec, UnfamiliarLayoutError, spec_from_metadata
from lazystore.store.direct import DirectChunkReader
from lazystore.store.encoded_item import is_encoded, open_encoded, spec_of_encoded
from lazystore.store.incomplete import UnfinishedItem, holds_chunks_only, read_unfinished
from lazystore.store.index import METADATA, ItemRecord, StoreIndex, parse_root, read_document
from lazystore.store.item_arrays import load_array
from lazystore.store.location import Location
from lazystore.store.manifest import read_root
from lazystore.store.open_location import open_location
from lazystore.store.together import is_far, read_together
from lazystore.store.verify import VerifyReport
from lazystore.store.verify import verify as verify_store

if TYPE_CHECKING:
    import xarray

# Columns and rows of events are two-byte numbers.
MAX_SENSOR_PIXELS = 1 << 16

type Item = LazyArray | EventStream

# The array that an item is known for; other arrays of it are reached as "item/path".
PRIMARY = {"tracks": "position", "events": "t", "spikes": "spike_time", "intervals": "start"}


def open(
    store: str | os.PathLike[str] | Any,
    *,
    cache_bytes: int | str | None = None,
    allow_incomplete: bool = False,
    storage_options: Mapping[str, Any] | None = None,
) -> Store | ForeignStore:
    """Open a store; reads its index and nothing else.

    Parameters
    ----------
    store
        A path, ``file://``, ``s3://``, ``gs://`` or ``https://`` address, or a zarr store object.
        A Zarr v2 or v3 store that lazystore did not write opens too, without statistics.
    cache_bytes
        Sets the budget of the process's chunk cache, in bytes or as text (``"2GB"``).
    allow_incomplete
        Also open items whose conversion has not finished: what is not there yet is masked, and
        reading it raises `MissingFrameError`.
    storage_options
        For remote stores: region, endpoint and the like. Credentials come from the environment.

    Raises
    ------
    StoreError
        If there is nothing there.
    IncompleteStoreError
        If nothing but unfinished items is there, and `allow_incomplete` is false.
    DamagedStoreError, FormatVersionError, HostileStoreError
        If it cannot be trusted or understood.
    """
    if cache_bytes is not None:
        set_cache_bytes(cache_bytes)
    location = open_location(store, storage_options=storage_options)
    unfinished = read_unfinished(location)
    document = read_document(location, METADATA)
    index = None if document is None else parse_root(location, document)
    if index is None:
        if document is None and unfinished:
            if not allow_incomplete:
                raise IncompleteStoreError("; ".join(item.describe() for item in unfinished.values()))
            index = StoreIndex({})
        else:
            return _open_foreign(location, is_empty=document is None)
    items: dict[str, ItemRecord] = dict(index.items)
    missing: dict[str, tuple[tuple[int, int], ...]] = {}
    if allow_incomplete:
        for name, item in unfinished.items():
            if name not in items:
                items[name], missing[name] = item.record, item.missing
    return Store(location, items, missing, unfinished)


def _open_foreign(location: Location, *, is_empty: bool) -> ForeignStore:
    try:
        return open_foreign_store(location)
    except StoreError as error:
        # The progress area, which would say more, lies beside a store and may not have been copied with it.
        if is_empty and type(error) is StoreError and holds_chunks_only(location):
            raise IncompleteStoreError(
                f"{location.url} holds chunks and no metadata: its conversion has not finished, or not all "
                "of it was copied; run the same convert-to-zarr command again, or copy the finished store"
            ) from error
        raise


def open_own(
    store: str | os.PathLike[str] | Any,
    *,
    allow_incomplete: bool = True,
    storage_options: Mapping[str, Any] | None = None,
) -> Store:
    """Open a store that lazystore wrote, finished or not; for work that needs its items' records.

    Raises
    ------
    StoreError
        If it is somebody else's Zarr store; and as `open`.
    """
    opened = open(store, allow_incomplete=allow_incomplete, storage_options=storage_options)
    if not isinstance(opened, Store):
        opened.close()
        raise StoreError(f"{opened.location.url} was not written by lazystore; convert it first")
    return opened


class Store(Mapping[str, Any]):
    """The items of a store by name; a context manager.

    ``store["mouse"]`` is a `LazyArray` (an `EventStream` for events); ``store["mouse/time"]`` is
    any other array of the item.

    Notes
    -----
    Thread-safe; pickles by location. Closing releases files; arrays taken from it reopen them.
    """

    def __init__(
        self,
        location: Location,
        items: Mapping[str, ItemRecord],
        missing: Mapping[str, tuple[tuple[int, int], ...]],
        unfinished: Mapping[str, UnfinishedItem],
    ) -> None:
        self.location = location
        self.records = dict(items)
        self._missing = dict(missing)
        self.unfinished = dict(unfinished)
        self._opened: dict[str, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.location, self.records, self._missing, self.unfinished)

    # --- a mapping ------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[str]:
        return iter(self.records)

    def __len__(self) -> int:
        return len(self.records)

    def __contains__(self, name: object) -> bool:
        return name in self.records

    def __getitem__(self, name: str) -> Any:
        if name not in self._opened:
            self._opened[name] = self._open(name)
        return self._opened[name]

    def _ipython_key_completions_(self) -> list[str]:
        """Names after ``store["`` and a tab."""
        return list(self.records)

    def _open(self, name: str) -> Any:
        if name in self.records:
            record = self.records[name]
            if record.kind == "events":
                return self._events(record)
            return self.array(record, _primary_path(record))
        for item, record in self.records.items():
            path = name[len(item) + 1 :]
            if name.startswith(f"{item}/") and path in record.documents:
                return self.array(record, path)
        if name in self.unfinished:
            raise IncompleteStoreError(self.unfinished[name].describe())
        raise unknown_item(name, self.location.url, self.records)

    # --- arrays ---------------------------------------------------------------------------------

    def specs(self, name: str) -> dict[str, ArraySpec]:
        """Records of an item's arrays by path; arrays of unknown layout are left out."""
        record = self.records[name]
        specs = {"data": spec_of_encoded(record)} if is_encoded(record) else {}
        for path, document in record.documents.items():
            if document.get("node_type") == "array":
                try:
                    specs[path] = spec_from_metadata(path, document)
                except UnfamiliarLayoutError:
                    continue
        return specs

    def reader(self, record: ItemRecord, path: str) -> ChunkReader:
        """An uncached reader of one array of numbers."""
        if path == "data" and is_encoded(record):
            return open_encoded(self.location, record)
        prefix = f"{record.name}/{path}"
        try:
            spec = spec_from_metadata(path, record.documents[path])
        except UnfamiliarLayoutError:
            from lazystore.store.fallback import ZarrPythonReader

            return ZarrPythonReader(self.location, prefix, record.documents[path])
        checksums = record.checksums(path)
        return DirectChunkReader(
            self.location, prefix, spec, generation=record.generation, checksums=checksums
        )

    def cached_reader(self, record: ItemRecord, path: str, *, prefetch: bool = True) -> ChunkReader:
        """A reader of one array through the process's cache."""
        # The manifest's hash changes with every commit: `lazystore set` rewrites arrays, too.
        commit = (record.attributes.get("manifest") or {}).get("sha256", record.generation)
        key = (self.location.url, record.name, path, commit)
        return CachedReader(self.reader(record, path), key=key, prefetch=prefetch)

    def _events(self, record: ItemRecord) -> EventStream:
        # Windows jump, and frames of events are read ahead as frames: reading chunks ahead as well
        # made a cold window wait for it (3.1 ms, 2.1 ms without).
        columns = {name: self.cached_reader(record, name, prefetch=False) for name in ("t", "x", "y", "p")}
        index = self._event_index(record, columns)
        side = {
            path: partial(load_array, self.location, record, path)
            for path, document in record.documents.items()
            if "/" in path and document["node_type"] == "array" and not path.startswith("index/")
        }
        return EventStream(
            columns,
            index,
            sensor=_sensor_of(record),
            name=record.name,
            clock=Clock.from_json(record.attributes["clock"]),
            attrs={**record.user_attributes, "lazystore": dict(record.attributes)},
            side=side,
            far=is_far(self.location),
        )

    def _event_index(self, record: ItemRecord, columns: Mapping[str, ChunkReader]) -> EventIndex:
        """Bounds of every chunk; found by reading where a conversion has not finished."""
        spec = columns["t"].spec
        if "index/t_min" not in record.documents:
            return index_of_readers(columns, self._missing_ranges(record))
        load = partial(load_array, self.location, record)
        paths = [f"index/{name}" for name in INDEX_COLUMNS]
        bounds = read_together(self.location, load, paths)
        columns_of_index = dict(zip(INDEX_COLUMNS, bounds.values(), strict=True))
        return EventIndex(spec.shape[0], spec.chunks[0], **columns_of_index)

    def array(self, record: ItemRecord, path: str) -> LazyArray:
        """One array of an item, cached, with the item's coordinates and statistics."""
        reader = self.cached_reader(record, path)
        primary = path == _primary_path(record)
        specs = self.specs(record.name)
        is_lost = reader.spec.dims[:1] == _record_dims(specs, record) and _is_lost_with_frames(reader.spec)
        return LazyArray(
            reader,
            name=record.name if primary else f"{record.name}/{path}",
            coords=self._coordinates(record, specs, reader.spec) if "/" not in path else {},
            attrs={**reader.spec.attributes, **record.user_attributes, "lazystore": dict(record.attributes)},
            statistics=self._statistics(record, specs, reader.spec) if primary else None,
            overviews=self._overviews(record) if primary else None,
            missing=self._missing_ranges(record) if is_lost else (),
            doubtful=record.attributes.get("doubtful") or () if is_lost else (),
        )

    def array_values(self, name: str, path: str) -> NDArray[Any]:
        """A whole small array of an item: a coordinate, a statistic, text."""
        return load_array(self.location, self.records[name], path)

    def primary_path(self, name: str) -> str:
        """Path of the array that an item is known for: ``"data"``, ``"position"``, ``"t"``."""
        return _primary_path(self.records[name])

    def _coordinates(
        self, record: ItemRecord, specs: Mapping[str, ArraySpec], of: ArraySpec
    ) -> dict[str, Coordinate]:
        coordinates = {}
        for path, spec in specs.items():
            fits = all(
                dim in of.dims and of.shape[of.dims.index(dim)] == size
                for dim, size in zip(spec.dims, spec.shape, strict=True)
            )
            if "/" in path or path == of.path or not fits or len(spec.dims) != 1:
                continue
            load = partial(load_array, self.location, record, path)
            coordinates[path] = Coordinate(spec.dims, load, spec.attributes)
        return coordinates

    def _overviews(self, record: ItemRecord) -> StoredOverviews | None:
        levels = Levels.from_json(record.attributes.get("overview"))
        if not levels or record.name in self.unfinished:
            return None
        return StoredOverviews(levels, partial(self.cached_reader, record, prefetch=False))

    def _statistics(
        self, record: ItemRecord, specs: Mapping[str, ArraySpec], data: ArraySpec
    ) -> StoredStatistics | None:
        readers = {
            path.removeprefix("stats/"): self.cached_reader(record, path, prefetch=False)
            for path in specs
            if path.startswith("stats/")
        }
        block_frames = record.attributes.get("frames_per_statistics_block")
        if block_frames is not None:
            block_frames = max(1, int(block_frames))  # metadata may say anything
        return StoredStatistics(readers, data, block_frames) if readers else None

    def _missing_ranges(self, record: ItemRecord) -> list[tuple[int, int]]:
        recorded = record.attributes.get("missing") or ()
        return sorted([*((int(a), int(b)) for a, b in recorded), *self._missing.get(record.name, ())])

    # --- the whole store ------------------------------------------------------------------------

    def info(self, item: str | None = None) -> dict[str, Any]:
        """What the store holds, from its metadata and manifests' roots, as plain values for JSON.

        Of one item alone, if it is named; raises UnknownItemError if it is not there.
        """
        if item is not None and item not in self.records:
            raise unknown_item(item, self.location.url, self.records)
        names = self.records if item is None else (item,)
        return {
            "store": self.location.url,
            "items": {name: self._item_info(self.records[name]) for name in names},
            "unfinished": {
                name: unfinished.describe()
                for name, unfinished in self.unfinished.items()
                if item in (None, name)
            },
        }

    def _item_info(self, record: ItemRecord) -> dict[str, Any]:
        specs = self.specs(record.name)
        primary = specs.get(_primary_path(record))
        return {
            "kind": record.kind,
            "arrays": {
                path: {
                    "dims": list(spec.dims),
                    "shape": list(spec.shape),
                    "dtype": "text" if spec.is_text else spec.dtype.name,
                    "chunks": list(spec.chunks),
                    "shards": None if spec.shards is None else list(spec.shards),
                    "nbytes": None if spec.is_text else spec.nbytes,
                }
                for path, spec in specs.items()
            },
            "shape": None if primary is None else list(primary.shape),
            "dtype": None if primary is None else primary.dtype.name,
            "stored_bytes": self._stored_bytes(record),
            "attributes": dict(record.attributes),
        }

    def _stored_bytes(self, record: ItemRecord) -> int | None:
        """Bytes of all files that an item consists of; None where no sound manifest tells."""
        try:
            return read_root(self.location, record.name, record.attributes).n_bytes
        except DamagedStoreError:
            return None

    def verify(self, level: str = "full", **options: Any) -> VerifyReport:
        """Check the store's bytes against its manifests; see `lazystore.store.verify.verify`."""
        return verify_store(self.location, level=level, **options)

    def to_xarray(self) -> xarray.DataTree:
        """Everything as an `xarray.DataTree`; lazy, and labelled as plain xarray would."""
        from lazystore.xarray_tree import tree_of_store

        return tree_of_store(self)

    def close(self) -> None:
        """Release files and cached chunks of this store. Idempotent."""
        opened, self._opened = self._opened, {}
        for item in opened.values():
            item.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        lines = [f"<lazystore.Store {self.location.url}>"]
        for name, record in self.records.items():
            specs = self.specs(name)
            primary = specs.get(_primary_path(record))
            size = "" if primary is None else f"({', '.join(map(_axis_text, primary.dims, primary.shape))})"
            lines.append(f"  {name:<16} {record.kind:<9} {size}")
        lines += [f"  {name:<16} unfinished" for name in self.unfinished if name not in self.records]
        return "\n".join(lines)


def _sensor_of(record: ItemRecord) -> tuple[int, int]:
    width, height = record.attributes["sensor"]
    if not (0 < width <= MAX_SENSOR_PIXELS and 0 < height <= MAX_SENSOR_PIXELS):
        raise HostileStoreError(
            f"item {record.name!r} declares a sensor of {width} x {height} pixels, and events have places of "
            "two bytes; at most 65536 each way are read"
        )
    return int(width), int(height)


def _axis_text(dim: str, size: int) -> str:
    return f"{dim}: {size:,}"


def _primary_path(record: ItemRecord) -> str:
    return PRIMARY.get(record.kind, "data")


def _is_lost_with_frames(spec: ArraySpec) -> bool:
    """Whether an array lacks what its source has lost: not so times, and how much is valid."""
    # Only what is read record by record is kept in shards; the rest was known whole beforehand.
    return spec.shards is not None or (spec.path.startswith("stats/") and spec.path != "stats/valid_count")


def _record_dims(specs: Mapping[str, ArraySpec], record: ItemRecord) -> tuple[str, ...]:
    primary = specs.get(_primary_path(record))
    return primary.dims[:1] if primary is not None else ()
