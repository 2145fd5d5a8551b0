"""`lazystore set`: correcting what an item says of itself, later, without touching its shards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from lazystore.clock import Clock
from lazystore.convert.item_timing import timing_of_item
from lazystore.convert.timing import Timing
from lazystore.convert.transform import read_transform
from lazystore.errors import ClockError, StoreError, UsageError
from lazystore.overviews.levels import GROUP, Levels
from lazystore.schema import JSON, ArraySpec, spec_from_metadata
from lazystore.store.amend import amend, flipped, locked_item
from lazystore.store.index import ItemRecord
from lazystore.store.location import LocalLocation
from lazystore.units import parse_unit

CLOCK_KEYS = ("clock.start", "clock.offset_s", "clock.rate", "clock.epoch_utc", "clock.id")
# What the converter measured or decided; another value would be a lie about the bytes.
FIXED_KEYS = (
    "format",
    "kind",
    "generation",
    "manifest",
    "source",
    "source_options",
    "codec",
    "sensor",
    "time",
    "times",
    "ticks",
    "missing",
)

# Words of the converter's options and of the clock, which people try first.
CLOCK_WORDS = {
    "start": "clock.start",
    "offset": "clock.offset_s",
    "offset_s": "clock.offset_s",
    "rate": "clock.rate",
    "epoch_utc": "clock.epoch_utc",
}


def hints(changes: Mapping[str, str]) -> list[str]:
    """What to say of keys that become attributes of the user's own, and were probably meant otherwise.

    >>> hints({"start": "12.5", "subject": "M1"})
    ["'start' is now an attribute of yours and moves no time; clock.start=12.5 would"]
    """
    return [
        f"{key!r} is now an attribute of yours and moves no time; {CLOCK_WORDS[key.lower()]}={value} would"
        for key, value in changes.items()
        if key.lower() in CLOCK_WORDS and value
    ]


def correct(location: LocalLocation, name: str, changes: Mapping[str, str]) -> ItemRecord:
    """Commit corrections of one item.

    Parameters
    ----------
    location, name
        The item.
    changes
        ``clock.offset_s``, ``clock.rate``, ``clock.start`` (session seconds or an ISO instant of
        the first record), ``clock.epoch_utc``, ``clock.id``; ``transform`` (a file); ``units`` of
        the main array; any other key is an attribute of the user's own, such as ``subject``
        (a value that is JSON is stored as such, an empty one removes the attribute).

    Raises
    ------
    UsageError
        If a key or a value does not fit.
    StoreError
        If there is no such item, or it has no times that a clock could move.
    """
    fixed = sorted(key for key in changes if key.partition(".")[0] in FIXED_KEYS)
    if fixed:
        raise UsageError(
            f"{fixed[0]!r} says how the bytes were made and cannot be set; convert again instead"
        )
    unknown = sorted(key for key in changes if key.startswith("clock.") and key not in CLOCK_KEYS)
    if unknown:
        raise UsageError(f"unknown key {unknown[0]!r}; expected one of {', '.join(CLOCK_KEYS)}")
    with locked_item(location, name) as record:
        attributes: dict[str, JSON] = dict(record.attributes)
        user: dict[str, JSON] = dict(record.user_attributes)
        documents: dict[str, dict[str, JSON]] = {}
        arrays: list[tuple[ArraySpec, list[NDArray[Any]]]] = []
        for key, value in changes.items():
            if key == "transform":
                attributes["transform"] = read_transform(value)
            elif key == "units":
                path = _main_path(record)
                document: dict[str, JSON] = dict(record.documents[path])
                document["attributes"] = {
                    **record.documents[path]["attributes"],
                    "units": parse_unit(value).symbol,
                }
                documents[path] = document
            elif not key.startswith("clock."):
                _set_user(user, key, value)
        clock_changes = {key: value for key, value in changes.items() if key.startswith("clock.")}
        if clock_changes:
            timing = timing_of_item(location, record)
            if timing.times_s is not None:
                raise StoreError(
                    f"item {record.name!r} was given a time for each record and has no clock to move; "
                    "convert it again with other --times"
                )
            clock = _changed_clock(timing, clock_changes)
            moved = replace(timing, clock=clock)
            attributes.update(moved.attributes())
            bins = Levels.from_json(record.attributes.get("overview")).bins
            for spec, pieces in [*moved.side(), *moved.side_of_bins(bins)]:
                if spec.path == "time" or (spec.path in record.documents and spec.path.startswith(GROUP)):
                    old = spec_from_metadata(spec.path, record.documents[spec.path])
                    new = flipped(replace(spec, separator=old.separator))
                    arrays.append((new, list(pieces())))
        return amend(
            location, record, attributes=attributes, user_attributes=user, arrays=arrays, documents=documents
        )


def _main_path(record: ItemRecord) -> str:
    for path in ("data", "position"):
        if path in record.documents:
            return path
    raise UsageError(f"item {record.name!r} of kind {record.kind} has no array whose units could be set")


def _set_user(user: dict[str, JSON], key: str, value: str) -> None:
    if not value:
        user.pop(key, None)
        return
    try:
        user[key] = json.loads(value)
    except ValueError:
        user[key] = value


def _changed_clock(timing: Timing, changes: Mapping[str, str]) -> Clock:
    clock = timing.clock
    if clock.knots is not None and {"clock.offset_s", "clock.rate", "clock.start"} & set(changes):
        raise UsageError("a synchronised clock has no offset or rate to set; convert again with --sync")
    values: dict[str, Any] = {}
    for key, value in changes.items():
        field = key.removeprefix("clock.")
        if field in ("offset_s", "rate"):
            try:
                values[field] = float(value)
            except ValueError:
                raise UsageError(f"{key}={value!r} is no number") from None
        elif field != "start":
            values[field] = value
    if "clock.start" in changes:
        first = 0.0
        if timing.ticks is not None:
            first = float(clock.to_native(float(timing.seconds(0, 1)[0])))
        started = Clock.from_start(changes["clock.start"], first_native_s=first)
        values["offset_s"] = started.offset_s
        if started.epoch_utc is not None:
            values["epoch_utc"] = started.epoch_utc
    try:
        return replace(clock, known="given", **values)
    except ClockError as error:
        raise UsageError(str(error)) from None
