"""neurospatial's front door for fields that do not fit in memory.

`animate_fields` takes what neurospatial's function of this name takes, its overlays included, and any
lazy fields. neurospatial keeps only numpy arrays lazy and makes a list of all frames of everything else;
so it is given an array that looks like all frames and reads one when that one is asked for. In the
viewer it returns, the movie is then ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lazystore.cache.guard import check_budget
from lazystore.errors import MissingExtraError, UsageError
from lazystore.geometry import Geometry
from lazystore.render import (
    ChunkedLazyFieldRenderer,
    LazyFieldRenderer,
    compute_global_colormap_range,
    create_lazy_field_renderer,
    estimate_colormap_range_from_subset,
    large_session_napari_config,
)
from lazystore.render.fields import Frames, frames_of
from lazystore.render.layout import frame_layout
from lazystore.render.ranges import range_for_display

__all__ = [
    "ChunkedLazyFieldRenderer",
    "LazyFieldRenderer",
    "animate_fields",
    "compute_global_colormap_range",
    "create_lazy_field_renderer",
    "estimate_colormap_range_from_subset",
    "large_session_napari_config",
]

MOVIE_SUFFIXES = frozenset({".mp4", ".webm", ".avi", ".mov", ".html"})


def animate_fields(
    env: Any,
    fields: Any,
    *,
    frame_times: ArrayLike,
    backend: str = "auto",
    save_path: str | None = None,
    overlays: Sequence[Any] | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    **options: Any,
) -> Any:
    """Show fields over time, reading only the frames that are shown.

    Parameters
    ----------
    env
        A neurospatial ``Environment``, or the geometry kept in a store (napari only).
    fields
        Shape (time, bin): a LazyArray, a zarr, dask or xarray array, a list, an array. A list of
        such is several movies side by side (napari only; `layout` in `options`).
    frame_times
        Shape (time,), float64, seconds, increasing.
    backend
        ``"auto"``, ``"napari"``, ``"video"``, ``"html"`` or ``"widget"``.
    save_path
        Where the video or HTML file goes.
    overlays
        neurospatial's overlay objects.
    vmin, vmax
        Value of the first and of the last colour. None: the fields' range, from a store's statistics
        at once, otherwise by one pass over the fields.
    **options
        All other parameters of neurospatial's function: `speed`, `cmap`, `show_regions`, `scale_bar`,
        `title`, `cache_size`, `chunk_size`, `max_chunks`, ...

    Returns
    -------
    Any
        What neurospatial returns: the napari viewer, the path of a file, or None.

    Raises
    ------
    MissingExtraError
        If neurospatial is not installed.
    UsageError
        If fields and environment do not fit each other.
    MemoryBudgetError
        If a backend that needs all frames at once is asked for more than the memory budget.
    """
    core = _neurospatial_core()
    sequences = list(fields) if _is_multi_field(fields) else [fields]
    movies = [_checked_frames(env, sequence) for sequence in sequences]
    if not movies or not movies[0].n_frames:
        raise UsageError("fields hold no frames: expected shape (time, bin) with at least one frame")
    if _is_kept_whole(backend, save_path, movies[0].n_frames, core):
        for frames in movies:
            _check_fits(frames, backend)
        if isinstance(env, Geometry):
            raise UsageError(
                f"backend {backend!r} draws with neurospatial's Environment: pass that as env, or take "
                "backend='napari'"
            )
    if vmin is None or vmax is None:
        vmin, vmax = range_for_display(sequences, vmin, vmax)
    stand_ins = [
        _FieldsStandIn(sequence, frames, int(env.n_bins))
        for sequence, frames in zip(sequences, movies, strict=True)
    ]
    result = core.animate_fields(
        EnvironmentView.of(env) if isinstance(env, Geometry) else env,
        [_ListStandIn(one) for one in stand_ins] if _is_multi_field(fields) else stand_ins[0],
        frame_times=np.asarray(frame_times, dtype=np.float64),
        backend=backend,
        save_path=save_path,
        overlays=None if overlays is None else list(overlays),
        vmin=vmin,
        vmax=vmax,
        **options,
    )
    sizes = {name: options[name] for name in ("cache_size", "chunk_size", "max_chunks") if name in options}
    for layer in getattr(result, "layers", ()):
        theirs: Any = getattr(layer, "data", None)
        stand_in = getattr(theirs, "fields", None)
        if isinstance(stand_in, _FieldsStandIn | _ListStandIn):
            layer.data = create_lazy_field_renderer(
                env, stand_in.source, theirs.cmap_lookup, theirs.vmin, theirs.vmax, **sizes
            )
    return result


@dataclass(frozen=True, slots=True, eq=False)
class EnvironmentView:
    """A stored geometry with the attributes that neurospatial's napari backend asks an environment for."""

    n_bins: int
    n_dims: int
    bin_centers: NDArray[np.float64]
    dimension_ranges: tuple[tuple[float, float], ...]
    units: str | None
    layout: _LayoutView
    regions: dict[str, Any] = field(default_factory=dict)
    frame: str | None = None
    _is_fitted: bool = True

    @classmethod
    def of(cls, geometry: Geometry) -> EnvironmentView:
        """The geometry in neurospatial's words; the bins' own extent where none was stored."""
        centers = geometry.bin_centers
        extent = geometry.extent or tuple(
            (float(low), float(high))
            for low, high in zip(centers.min(axis=0), centers.max(axis=0), strict=True)
        )
        layout = _LayoutView(geometry.grid_shape, geometry.active_mask, geometry.type == "grid")
        return cls(geometry.n_bins, geometry.n_dims, centers, extent, geometry.units or None, layout)


@dataclass(frozen=True, slots=True, eq=False)
class _LayoutView:
    grid_shape: tuple[int, ...] | None
    active_mask: NDArray[np.bool_] | None
    is_grid_compatible: bool


class _FieldsStandIn(np.ndarray[Any, np.dtype[Any]]):
    """An array (time, bin) that takes no memory and reads a frame when it is indexed.

    neurospatial asks it for its shape, its length and single frames. Whoever looks past indexing sees
    NaN, never values that could be taken for data.
    """

    source: Any
    frames: Frames

    def __new__(cls, source: Any, frames: Frames, n_bins: int) -> _FieldsStandIn:
        blank = np.broadcast_to(np.float64(np.nan), (frames.n_frames, n_bins)).view(cls)
        blank.source, blank.frames = source, frames
        return blank

    def __getitem__(self, index: Any) -> Any:
        frames, *rest = index if isinstance(index, tuple) else (index,)
        numbers = np.arange(self.frames.n_frames)[frames]
        if np.ndim(numbers) == 0:
            return self.frames.frame(int(numbers))[tuple(rest)]
        return np.stack([self.frames.frame(int(number)) for number in numbers])[(slice(None), *rest)]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return (self.frames.frame(number) for number in range(self.frames.n_frames))


class _ListStandIn(list[NDArray[Any]]):
    """The same for one of several movies, which neurospatial wants as lists."""

    def __init__(self, fields: _FieldsStandIn) -> None:
        super().__init__()
        self._fields = fields

    @property
    def source(self) -> Any:
        """The fields themselves."""
        return self._fields.source

    def __len__(self) -> int:
        return len(self._fields)

    def __getitem__(self, index: Any) -> Any:
        return self._fields[index]

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return iter(self._fields)


def _neurospatial_core() -> Any:
    try:
        from neurospatial.animation import core
    except ImportError as error:
        raise MissingExtraError(
            "lazystore.neurospatial needs neurospatial 0.6 or newer: pip install neurospatial"
        ) from error
    return core


def _is_multi_field(fields: Any) -> bool:
    """Whether `fields` is a list of movies rather than of frames: its first entry has frames itself."""
    if not isinstance(fields, list | tuple) or not fields:
        return False
    first = fields[0]
    return isinstance(first, list | tuple) or len(getattr(first, "shape", ())) >= 2


def _checked_frames(env: Any, fields: Any) -> Frames:
    """Fields as frames, refused here rather than at the first frame if they do not fit `env`."""
    frames = frames_of(fields)
    frame_layout(env, frames.value_shape)
    if frames.value_shape is not None and len(frames.value_shape) != 1:
        raise UsageError(
            f"fields have frames of shape {frames.value_shape!r}: expected one value for each of "
            f"{env.n_bins} bins, shape (time, bin). Images are shown by lazystore.view."
        )
    return frames


def _is_kept_whole(backend: str, save_path: str | None, n_frames: int, core: Any) -> bool:
    """Whether the backend that neurospatial will take holds all frames at once."""
    if backend != "auto":
        return backend != "napari"
    if save_path is not None:
        return Path(save_path).suffix in MOVIE_SUFFIXES
    return bool(core._select_backend(n_frames, save_path) != "napari")


def _check_fits(frames: Frames, backend: str) -> None:
    nbytes = frames.n_frames * frames.frame(0).nbytes
    # Some of them hold it once more in each worker process.
    what = f"backend {backend!r} holds all frames at once, here"
    check_budget(nbytes, what, "Pass a part of the fields, fields[start:stop], use backend='napari'")
