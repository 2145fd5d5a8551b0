"""The times of a stored item, as the converter had them."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from lazystore.clock import Clock
from lazystore.convert.timing import Timing
from lazystore.errors import StoreError
from lazystore.protocols import Ticks
from lazystore.schema import spec_from_metadata
from lazystore.store.index import ItemRecord
from lazystore.store.item_arrays import load_array
from lazystore.store.location import Location


def timing_of_item(location: Location, record: ItemRecord) -> Timing:
    """Clock, native ticks and, where somebody gave one for each record, session seconds.

    Raises
    ------
    StoreError
        If the item holds neither ticks nor given times.
    """
    clock = Clock.from_json(record.attributes["clock"])
    if "time" not in record.documents:
        # Events: their own column is their time; the clock alone moves them.
        return Timing(clock, None, 0, "event")
    time = spec_from_metadata("time", record.documents["time"])
    dim, length = time.dims[0], time.shape[0]
    is_given = record.attributes.get("times") == "given"
    times_s = load_array(location, record, "time") if is_given else None
    regular = record.attributes.get("ticks")
    if isinstance(regular, Mapping):
        ticks = Ticks(
            Fraction(*regular["time_base"]), None, regular["start"], regular["step"], known=regular["known"]
        )
        return Timing(clock, ticks, length, dim, times_s)
    for path, document in record.documents.items():
        base = (document.get("attributes") or {}).get("time_base")
        if base and "/" not in path:
            values = load_array(location, record, path)
            return Timing(clock, Ticks(Fraction(*base), values, name=path), length, dim, times_s)
    if times_s is None:
        raise StoreError(f"item {record.name!r} holds no native ticks; its clock cannot be moved")
    return Timing(clock, None, length, dim, times_s)
