"""Reading a store beside zarr-python, on whatever store somebody has."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from lazystore.dataset import Store, open_own
from lazystore.errors import UsageError
from lazystore.store.encoded_item import is_encoded

MOVIES = ("field", "video", "stack")
SEQUENTIAL_BYTES = 256 * 1024 * 1024


def bench_item(path: str, item: str | None, n_frames: int) -> dict[str, Any]:
    """Times of opening, random frames and a sequential read; medians, page cache as it is.

    Of a video that is kept as its packets, which plain zarr cannot decode, only ours are there.

    Raises
    ------
    UsageError
        If the store holds no movie, or not this one.
    """
    import zarr

    if n_frames < 1:
        raise UsageError(f"frames={n_frames} is not 1 or more")
    with open_own(path) as store:
        name = _movie(store, item)
        array = store[name]
        reader = store.reader(store.records[name], "data")
        theirs = None
        if not is_encoded(store.records[name]):
            theirs = zarr.open_array(store.location.url, path=f"{name}/data", mode="r")
        rng = np.random.default_rng(0)
        picks = [int(index) for index in rng.integers(0, len(array), n_frames)]
        rows = max(1, min(len(array), SEQUENTIAL_BYTES // max(1, array[:1].nbytes)))
        per_chunk = array.chunks[0]
        tail = (0,) * (array.ndim - 1)
        opens = range(5)
        chunks = range(0, rows, per_chunk)
        cases = [
            _case(
                "open",
                _times(lambda _: open_own(path).close(), opens),
                _times(lambda _: zarr.open_group(path, mode="r"), opens),
            ),
            _case(
                "random frame, uncached",
                _times(lambda i: reader.read_chunk((i // per_chunk, *tail))[i % per_chunk], picks),
                None if theirs is None else _times(lambda i: theirs[i], picks),
            ),
            _case(
                f"read {rows} frames in order",
                [sum(_times(lambda i: reader.read_chunk((i // per_chunk, *tail)), chunks))],
                None if theirs is None else [sum(_times(lambda i: theirs[i : i + per_chunk], chunks))],
            ),
        ]
        return {
            "store": store.location.url,
            "item": name,
            "shape": "x".join(map(str, array.shape)),
            "dtype": array.dtype.name,
            "nbytes": array.nbytes,
            "cases": cases,
        }


def _movie(store: Store, item: str | None) -> str:
    movies = [name for name, record in store.records.items() if record.kind in MOVIES]
    if item is None and movies:
        return movies[0]
    if item is None or item not in movies:
        raise UsageError(f"{item!r} is no movie of {store.location.url}; expected one of {', '.join(movies)}")
    return item


def _times(action: Callable[[int], Any], arguments: Iterable[int]) -> list[float]:
    times = []
    for argument in arguments:
        began = time.perf_counter()
        action(argument)
        times.append(time.perf_counter() - began)
    return times


def _case(name: str, ours: list[float], theirs: list[float] | None) -> dict[str, Any]:
    mine = statistics.median(ours)
    other = None if theirs is None else statistics.median(theirs)
    return {
        "case": name,
        "lazystore_s": mine,
        "zarr_s": other,
        "ratio": None if other is None else mine / other,
    }
