"""Event recordings in memory, and the plain columns that everything is compared with."""

from __future__ import annotations

from functools import partial

import numpy as np

from lazystore.convert.event_summary import EventSummary
from lazystore.events.index import EventIndex
from lazystore.events.stream import EventStream
from lazystore.testing.fakes import ArrayChunkReader, CountingReader

SENSOR = (24, 18)
DTYPES = {"t": np.int64, "x": np.uint16, "y": np.uint16, "p": np.uint8}


def make_columns(n, seed=0, *, span=2000, start=0, ordered=True, sensor=SENSOR):
    """Random events; times often tie, and are in order if asked."""
    rng = np.random.default_rng(seed)
    t = rng.integers(start, start + span, n)
    values = (
        np.sort(t) if ordered else t,
        rng.integers(0, sensor[0], n),
        rng.integers(0, sensor[1], n),
        rng.integers(0, 2, n),
    )
    return {name: v.astype(DTYPES[name]) for name, v in zip("txyp", values, strict=True)}


def given(values):
    return values


def make_stream(columns, chunk_events=64, *, sensor=SENSOR, counting=False, **options):
    """A stream over columns in memory, with the index and side arrays that a conversion makes."""
    readers = {
        name: ArrayChunkReader(values, (chunk_events,), ("event",)) for name, values in columns.items()
    }
    summary = EventSummary(sensor, chunk_events)
    n = len(columns["t"])
    merged = summary.merge([summary.share(0, columns)] if n else [])
    side = {array.path: array.values for array in merged.side}
    index = EventIndex(
        n,
        chunk_events,
        **{path.removeprefix("index/"): values for path, values in side.items() if path.startswith("index/")},
    )
    loaders = {path: partial(given, values) for path, values in side.items() if "index/" not in path}
    if counting:
        readers = {name: CountingReader(reader) for name, reader in readers.items()}
    return EventStream(readers, index, sensor=sensor, side={**loaders, **options.pop("side", {})}, **options)


def masked(columns, keep):
    return {name: values[keep] for name, values in columns.items()}


def assert_same(window, columns):
    """The window holds exactly these events, in this order, in the stored dtypes."""
    for name, values in columns.items():
        np.testing.assert_array_equal(getattr(window, name), values, err_msg=name)
        assert getattr(window, name).dtype == DTYPES[name]
