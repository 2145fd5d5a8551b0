"""Nothing fills the memory by accident: what can grow streams, or says first what it would need."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from numpy.typing import NDArray

import lazystore as ls
from lazystore.analysis.event_plots import draw_frame
from lazystore.array import LazyArray
from lazystore.cache import guard
from lazystore.chunks import ChunkIndex
from lazystore.errors import MemoryBudgetError
from lazystore.schema import ArraySpec
from tests.samples import make_events, make_field, make_stack

BUDGET = 20_000
SAYS_IT_ALL = rf"\d+ bytes; the memory budget is {BUDGET} bytes\. .+, or set LAZYSTORE_MEMORY_BYTES"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of fields (960 kB), a stack of pages (30 kB) and events (260 kB)."""
    folder: Path = tmp_path_factory.mktemp("guard")
    for name, make in (("fields.npy", make_field), ("cells.tif", make_stack), ("drone.h5", make_events)):
        make(folder / name)
        ls.convert(folder / name, folder / "session.zarr")
    return folder


@pytest.fixture
def tiny_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "ALWAYS_FITS_BYTES", 0)
    monkeypatch.setenv(guard.MEMORY_VARIABLE, str(BUDGET))


def engine(store: ls.Store) -> Any:
    """The fields through xarray's engine, without dask."""
    return xr.open_datatree(store, engine="lazystore")["fields"]["data"]


REFUSED: dict[str, Callable[[Any], Any]] = {
    "np.asarray": lambda s: np.asarray(s["fields"]),
    "np.array in another type": lambda s: np.array(s["fields"][:3], "f8"),
    "list of frames": lambda s: s["fields"][list(range(100))],
    "mask of frames": lambda s: s["fields"][np.ones(200, bool)],
    "one frame often": lambda s: s["fields"][[3] * 500],
    "mask of values": lambda s: s["fields"][np.ones((200, 40, 30), bool)],
    "paired lists": lambda s: s["fields"][[0] * 9_000, [0] * 9_000, [1] * 9_000],
    "isel of a list": lambda s: s["fields"].isel(time=list(range(100))),
    "sel of a list": lambda s: s["fields"].sel(time=list(range(100)), method="nearest"),
    "arithmetic": lambda s: s["fields"] / 2,
    "a ufunc whose result alone is too large": lambda s: s["fields"][:3] * np.float64(2),
    "broadcasting": lambda s: s["fields"][0:1] + np.zeros((9, 1, 1), "f4"),
    "a numpy function": lambda s: np.median(s["fields"]),
    "to_xarray().values": lambda s: s["fields"].to_xarray().values,
    "xarray's mean": lambda s: s["fields"].to_xarray().mean(),
    "the engine's values": lambda s: engine(s).values,
    "the engine's load": lambda s: engine(s).load(),
    "a mean as long as the movie": lambda s: s["fields"].mean("x"),
    "many pictures": lambda s: s["fields"].preview(n=100, scale=1.0, from_frames=True),
    "all events": lambda s: s["drone"].window(0, 10**9),
    "all events of a polarity": lambda s: s["drone"].window(0, 10**9, polarity="on"),
    "events by number": lambda s: s["drone"][:],
    "a frame of all events": lambda s: s["drone"].frames(period=1, unit="s")[0],
    "voxels of all events": lambda s: s["drone"].frames(period=1, unit="s", mode="voxel")[0],
    "many frames of events": lambda s: np.asarray(s["drone"].frames(period=1000)),
    "labels of frames of events": lambda s: s["drone"].frames(period=1).coords["time"],
    "a column of events": lambda s: np.asarray(s["drone"].column("t")),
    "columns through xarray": lambda s: s["drone"].to_xarray()["t"].values,
    "a picture of all events": lambda s: draw_frame(
        str(s.location.url), "drone", Path("x.png"), start_s=0.0, duration_s=100.0, mode="count"
    ),
}


@pytest.mark.parametrize("way", REFUSED)
def test_what_needs_more_than_the_budget_says_so_first(folder: Path, tiny_budget: None, way: str) -> None:
    """One line with the bytes, the budget, and what to do."""
    with ls.open(folder / "session.zarr") as store, pytest.raises(MemoryBudgetError, match=SAYS_IT_ALL):
        REFUSED[way](store)


def test_load_is_meant_but_cannot_exceed_the_machine(
    folder: Path, tiny_budget: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """load() ignores the budget, not the memory that is free; a larger budget is believed."""
    with ls.open(folder / "session.zarr") as store:
        fields, frames = store["fields"], store["drone"].frames(period=100_000)
        assert fields.load().shape == (200, 40, 30)
        monkeypatch.setattr(guard, "free_memory_bytes", lambda: 30_000)
        for lazy in (fields, frames):
            with pytest.raises(
                MemoryBudgetError, match=r"would load \d+ bytes; 30000 bytes of memory are free\. .*slice"
            ):
                lazy.load()
        assert fields[:5].load().shape == (5, 40, 30)
        monkeypatch.setenv(guard.MEMORY_VARIABLE, "1MB")
        assert fields.load().shape == (200, 40, 30)


def test_a_result_larger_than_its_box_is_seen_before_it_is_made(folder: Path, tiny_budget: None) -> None:
    """A key within the budget gives what numpy gives."""
    with ls.open(folder / "session.zarr") as store:
        fields = store["fields"]
        values = fields.load()
        np.testing.assert_array_equal(fields[[5, 5, 9], [1, 2, 3]], values[[5, 5, 9], [1, 2, 3]])
        np.testing.assert_array_equal(fields[:2] > 0.5, values[:2] > 0.5)
        np.testing.assert_array_equal(np.asarray(fields[:4]), values[:4])
        assert np.isclose(fields.mean(), values.mean(dtype=float))


# --- what streams -----------------------------------------------------------------------------------


class EndlessReader:
    """A movie of 240 MB that lies nowhere: every chunk is made when it is read."""

    def __init__(self) -> None:
        self._spec = ArraySpec("data", ("time", "y", "x"), (6000, 200, 200), np.dtype("u1"), (8, 200, 200))

    @property
    def spec(self) -> ArraySpec:
        return self._spec

    def read_chunk(self, chunk_index: ChunkIndex) -> NDArray[Any]:
        return np.full((8, 200, 200), chunk_index[0] % 251, np.uint8)

    def read_chunks(self, chunk_indices: Sequence[ChunkIndex]) -> list[NDArray[Any]]:
        return [self.read_chunk(index) for index in chunk_indices]

    def close(self) -> None:
        pass


STREAMED: dict[str, Callable[[LazyArray], Any]] = {
    "mean over time": lambda a: a.mean("time"),
    "std over time": lambda a: a.std("time"),
    "smallest": lambda a: a.min(),
    "mean of each frame": lambda a: a.mean(("y", "x")),
    "std of each frame": lambda a: a[::4].std(("y", "x")),
    "mean of a crop": lambda a: np.mean(a[:, 10:90, ::2], axis=0),
    "range": lambda a: a.range(),
    "percentiles": lambda a: a.range(percentile=(1, 99)),
    "preview": lambda a: a.preview(n=20, from_frames=True),
    "thumbnail": lambda a: a.thumbnail(n_frames=20),
    "frame by frame": lambda a: sum(int(frame[0, 0]) for frame in a),
    "repr": lambda a: a._repr_html_(),
}


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("way", STREAMED)
def test_what_streams_holds_a_part_of_the_movie(way: str, traced: None, monkeypatch: Any) -> None:
    """Under a budget far below its size, and with far less memory than that size."""
    monkeypatch.setenv(guard.MEMORY_VARIABLE, "33MB")
    lazy = LazyArray(EndlessReader())
    tracemalloc.reset_peak()
    STREAMED[way](lazy)
    assert tracemalloc.get_traced_memory()[1] < lazy.nbytes / 4


def test_export_of_events_streams(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Block by block: a budget below the recording does not stop it."""
    monkeypatch.setenv(guard.MEMORY_VARIABLE, str(BUDGET))
    with ls.open(folder / "session.zarr") as store:
        assert store["drone"].export(tmp_path / "all.npz") == 20_000
