"""Field frames in RGB: our renderers and neurospatial's, on the same fields, in the same run.

    python benchmarks/bench_renderer.py [--json FILE] [--tiny]

Each number is the best of several rounds, in microseconds a call; the median and the 95th percentile of
the single calls are in the JSON. Setting up is never timed. Fields lie in memory, so a "miss" is a frame
painted from decoded values. "first frame" is that of a new renderer while the painting loop is not compiled
yet, as the first of a process is; every other number of ours is after that.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.program import command_line, keep
from lazystore import render
from lazystore.render import kernels

SEED = 1
# neurospatial's figures in the literature are for these three: a full square, and two round mazes.
ENVIRONMENTS = ((1_681, 41), (8_682, 110), (17_103, 150))
TINY_ENVIRONMENTS = ((30, 7),)
LIMITS = (0.1, 0.9)


@dataclass(frozen=True, slots=True)
class Timing:
    """Microseconds a call: best round's mean, median and 95th percentile of all calls."""

    best_us: float
    median_us: float
    p95_us: float


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table."""

    case: str
    n_bins: int
    dtype: str
    ours: Timing
    neurospatial: Timing
    ours_frames_read: int
    neurospatial_frames_read: int

    @property
    def ratio(self) -> float:
        """Our time over neurospatial's."""
        return self.ours.best_us / self.neurospatial.best_us


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    n_frames: int
    n_calls: int
    n_rounds: int
    environments: Sequence[tuple[int, int]]
    dtypes: Sequence[str]


FULL = Effort(1_000, 200, 7, ENVIRONMENTS, ("f8", "f4", "u1"))
TINY = Effort(24, 6, 2, TINY_ENVIRONMENTS, ("f8",))


class CountedFields(np.ndarray[Any, np.dtype[Any]]):
    """An array that counts the rows that are taken: a numpy array, because neurospatial wants one."""

    n_read: int

    @classmethod
    def of(cls, values: NDArray[Any]) -> CountedFields:
        counted = values.view(cls)
        counted.n_read = 0
        return counted

    def __getitem__(self, index: Any) -> Any:
        self.n_read += 1 if isinstance(index, int | np.integer) else len(range(len(self))[index])
        return self.view(np.ndarray)[index]


class CountedRows:
    """The same for us, who look through numpy subclasses."""

    def __init__(self, values: NDArray[Any]) -> None:
        self.values, self.shape, self.dtype, self.n_read = values, values.shape, values.dtype, 0

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> NDArray[Any]:
        self.n_read += 1 if isinstance(index, int) else len(range(len(self.values))[index])
        return self.values[index]


def round_environment(n_bins: int, side: int) -> Any:
    """A square grid whose `n_bins` innermost cells are active."""
    from neurospatial import Environment

    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    inner = np.argsort((x**2 + y**2).ravel(), kind="stable")[:n_bins]
    mask = np.zeros(side * side, bool)
    mask[inner] = True
    edges = np.arange(side + 1.0)
    return Environment.from_grid_mask(mask.reshape(side, side), grid_edges=(edges, edges))


def timed(call: Callable[[int], Any], effort: Effort) -> Timing:
    """`call(i)` for i in range(n_calls), in rounds; the calls' own times from one further round."""
    best = float("inf")
    for _ in range(effort.n_rounds):
        start = time.perf_counter()
        for index in range(effort.n_calls):
            call(index)
        best = min(best, (time.perf_counter() - start) / effort.n_calls)
    single = []
    for index in range(effort.n_calls):
        start = time.perf_counter()
        call(index)
        single.append(time.perf_counter() - start)
    median, p95 = np.percentile(single, (50, 95))
    return Timing(best * 1e6, float(median) * 1e6, float(p95) * 1e6)


def cases(
    effort: Effort, n_frames: int
) -> dict[str, Callable[[Any, Any], tuple[Any, Callable[[Any, int], Any]]]]:
    """For each case how to make a renderer from a module of classes and a maker, and what to do with it."""
    jumps = np.random.default_rng(SEED).permutation(n_frames).tolist()
    jump_apart = [index * 10 % n_frames + index * 10 // n_frames for index in range(n_frames)]

    def slice_of(index: int) -> tuple[slice, ...]:
        return (slice(index, index + 1), slice(None), slice(None))

    def kept(module: Any, make: Any) -> Any:
        renderer = make(module.LazyFieldRenderer, cache_size=n_frames)
        for index in range(effort.n_calls):
            renderer[index]
        return renderer

    def unkept(module: Any, make: Any) -> Any:
        return make(module.LazyFieldRenderer, cache_size=1)

    def chunked(module: Any, make: Any) -> Any:
        return make(module.ChunkedLazyFieldRenderer, chunk_size=10, max_chunks=1)

    return {
        "hit": lambda module, make: (kept(module, make), lambda renderer, index: renderer[index]),
        "hit, napari's slice": lambda module, make: (
            kept(module, make), lambda renderer, index: renderer[slice_of(index)],
        ),
        "miss": lambda module, make: (unkept(module, make), lambda renderer, index: renderer[index]),
        "miss, napari's slice": lambda module, make: (
            unkept(module, make), lambda renderer, index: renderer[slice_of(index)],
        ),
        "chunked, in order": lambda module, make: (
            chunked(module, make), lambda renderer, index: renderer[index],
        ),
        "chunked, a new chunk each": lambda module, make: (
            chunked(module, make), lambda renderer, index: renderer[jump_apart[index]],
        ),
        "chunked, at random": lambda module, make: (
            chunked(module, make), lambda renderer, index: renderer[jumps[index]],
        ),
        "creation and shape": lambda module, make: (
            None, lambda _, index: make(module.LazyFieldRenderer).shape,
        ),
    }  # fmt: skip


def measure(effort: Effort) -> Iterator[Result]:
    """All cases, smallest environment first; checks that both give the same frames."""
    from neurospatial.animation.backends import napari_backend

    lookup = np.random.default_rng(SEED).integers(0, 256, (256, 3), dtype=np.uint8)
    for n_bins, side in effort.environments:
        env = round_environment(n_bins, side)
        for dtype in effort.dtypes:
            values = np.random.default_rng(SEED).random((effort.n_frames, n_bins))
            values = (values if dtype[0] == "f" else values * 250).astype(dtype)
            limits = LIMITS if dtype[0] == "f" else (20.0, 200.0)

            def maker(fields: Any, env: Any = env, limits: Any = limits) -> Callable[..., Any]:
                return lambda cls, **sizes: cls(env, fields, lookup, *limits, **sizes)

            kernels.warm()
            same_frames(maker(values), napari_backend)
            if dtype == effort.dtypes[0]:
                yield first_frame(maker(values), napari_backend, n_bins, dtype, effort)
            for case, start in cases(effort, effort.n_frames).items():
                timings = []
                for module in (render, napari_backend):
                    renderer, call = start(module, maker(values))
                    timings.append(timed(lambda index, r=renderer, c=call: c(r, index), effort))
                read = [
                    frames_read(start, module, maker(counted), counted, effort)
                    for module, counted in (
                        (render, CountedRows(values)),
                        (napari_backend, CountedFields.of(values)),
                    )
                ]
                yield Result(case, n_bins, dtype, *timings, *read)


def frames_read(start: Any, module: Any, make: Any, fields: Any, effort: Effort) -> int:
    """Frames that one untimed round of a case reads."""
    renderer, call = start(module, make)
    fields.n_read = 0
    for index in range(effort.n_calls):
        call(renderer, index)
    return int(fields.n_read)


def same_frames(make: Callable[..., Any], theirs: Any) -> None:
    """Stop where the two renderers differ: a fast wrong frame is no result."""
    ours, reference = make(render.LazyFieldRenderer), make(theirs.LazyFieldRenderer)
    for index in (0, len(ours) // 2, len(ours) - 1):
        if not np.array_equal(ours[index], reference[index]):
            raise AssertionError(f"frame {index} differs from neurospatial's")


def first_frame(make: Callable[..., Any], theirs: Any, n_bins: int, dtype: str, effort: Effort) -> Result:
    """The first frame of a renderer while nothing is compiled, nor being compiled."""
    states: tuple[Any, ...] = (kernels._ready, kernels._compiling, kernels._asked)
    kept = [state.copy() for state in states]
    seconds: dict[Any, list[float]] = {render: [], theirs: []}
    try:
        for _ in range(4 * effort.n_rounds):
            for module, times in seconds.items():
                for state in states:
                    state.clear()
                renderer = make(module.LazyFieldRenderer)
                start = time.perf_counter()
                frame = renderer[0]
                times.append(time.perf_counter() - start)
                if module is render:
                    ours = frame
            if not np.array_equal(ours, frame):
                raise AssertionError("the uncompiled frame differs from neurospatial's")
    finally:
        for state, before in zip(states, kept, strict=True):
            state.update(before)
    timings = [
        Timing(min(times) * 1e6, *(float(value) * 1e6 for value in np.percentile(times, (50, 95))))
        for times in seconds.values()
    ]
    return Result("first frame, uncompiled", n_bins, dtype, *timings, 1, 1)


def report(results: Sequence[Result]) -> str:
    """The table."""
    head = ("case", "bins", "dtype", "ours µs", "neurospatial µs", "ratio", "frames read")
    lines = ["{:<28}{:>7} {:<6}{:>10}{:>17}{:>8}{:>14}".format(*head)]
    for result in results:
        reads = f"{result.ours_frames_read} | {result.neurospatial_frames_read}"
        lines.append(
            f"{result.case:<28}{result.n_bins:>7} {result.dtype:<6}{result.ours.best_us:>10.2f}"
            f"{result.neurospatial.best_us:>17.2f}{result.ratio:>8.3f}{reads:>14}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> list[Result]:
    parser = command_line(__doc__)
    options = parser.parse_args(arguments)
    results = list(measure(TINY if options.tiny else FULL))
    print(report(results))
    rows = [{**asdict(result), "ratio": result.ratio} for result in results]
    keep(options.json, "renderer", rows, packages=("numpy", "numba", "neurospatial"), seed=SEED)
    return results


if __name__ == "__main__":
    main()
