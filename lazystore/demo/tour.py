"""Convert the session with the real command, open the store, measure, and say what was done."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.dataset import Store
from lazystore.demo.session import Recording
from lazystore.store.manifest import read_root


@dataclass(frozen=True, slots=True)
class Measured:
    """One item: what it was, what it is, and how soon its first frame is there.

    `first_frame_s` is a store's first access of the item; `numpy_s` the way without a store: load
    the file whole with the package one would use, then take the same frame.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    source_bytes: int
    decoded_bytes: int
    stored_bytes: int
    convert_s: float
    first_frame_s: float
    numpy_s: float
    numpy_way: str


def command_of(recording: Recording, store: Path) -> list[str]:
    """The words after ``convert-to-zarr``."""
    return [str(recording.path), str(store), "--name", recording.item, *recording.arguments]


def first_frame(store: Store, name: str, session_s: float) -> Any:
    """What an item shows at a session second: a frame, a window of events, a position."""
    item = store[name]
    if store.records[name].kind == "events":
        return item.window(session_s, session_s + 0.04, unit="s")
    return item.sel(time=session_s, method="nearest")


def numpy_way(recording: Recording, kind: str) -> tuple[str, Callable[[], Any]]:
    """How one gets the same frame without a store, and its name."""
    path = recording.path
    if kind == "field":
        return "np.load", lambda: np.load(path)[100]
    if kind == "video":
        return "decode all", lambda: _decode_video(path)[100]
    if kind == "events":
        return "h5py, whole", lambda: _load_events(path)
    return "np.loadtxt", lambda: np.loadtxt(path, delimiter=",", skiprows=1)[100]


def _decode_video(path: Path) -> NDArray[np.uint8]:
    import av

    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def _load_events(path: Path) -> Any:
    import h5py

    with h5py.File(path) as file:
        columns = {name: file["events"][name][:] for name in "txyp"}
    inside = (columns["t"] >= 10_000_000) & (columns["t"] < 10_040_000)
    return {name: values[inside] for name, values in columns.items()}


def measure(recording: Recording, store: Store, convert_s: float, session_s: float) -> Measured:
    """Take one item's first frame from the store and without it, on the clock."""
    name = recording.item
    record, specs = store.records[name], store.specs(name)
    first_frame_s, _ = timed(lambda: first_frame(store, name, session_s))
    way, action = numpy_way(recording, record.kind)
    numpy_s, _ = timed(action)
    return Measured(
        name,
        record.kind,
        specs[store.primary_path(name)].shape,
        recording.path.stat().st_size,
        sum(spec.nbytes for spec in specs.values() if spec.shards is not None),
        read_root(store.location, name, record.attributes).n_bytes,
        convert_s,
        first_frame_s,
        numpy_s,
        way,
    )


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds an action took, and what it gave."""
    began = time.perf_counter()
    result = action()
    return time.perf_counter() - began, result
