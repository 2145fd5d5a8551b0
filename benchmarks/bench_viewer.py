"""Looking at a store in napari: `ls.view` beside plain napari on numpy and on dask, on the same pictures.

    python -m benchmarks.bench_viewer [--json FILE] [--tiny]

Each way has a process of its own on a screen (Xvfb and Mesa where there is none), and they take turns. A
picture counts as shown when the canvas has drawn it and OpenGL has finished; what is drawn is compared with
the recording. A window was opened and closed before, so that imports and shaders are never timed. "Open" ends
with the first picture: of numpy it begins with `np.load`, of dask with `xr.open_zarr`, the page cache warm. A
step forward comes 15 ms after the picture before it, a jump far away 150 ms after the last one: "anything" is
the first picture that is drawn then, for ours maybe a small one of that time, "exact" the frame itself. The
video is of $LAZYSTORE_CORPUS where there is one; the fields walk at random, a track of points over them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_cache import MEGABYTE, rss_bytes
from benchmarks.program import command_line, keep

SEED = 1
VIDEO, FIELDS = "a video", "fields with a track"
FIELD_LIMITS = (-30.0, 30.0)
STEP_PAUSE_S, JUMP_PAUSE_S, LONGEST_WAIT_S = 0.015, 0.15, 30.0
# What is compared of a picture: enough to tell frames apart, and a small picture from its frame.
PROBE = (slice(None, None, 8), slice(None, None, 8))
SCREEN = ["xvfb-run", "-a", "-s", "-screen 0 1280x1024x24 -noreset"]

type Row = dict[str, Any]
type Times = dict[str, list[float]]
# What a way gives: its viewer, the movie's layer, and one that closes.
type Opened = tuple[Any, Any, Callable[[], object]]


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured, in each of the rounds."""

    n_rounds: int
    # Beside the first one, which is warming up.
    n_openings: int
    n_steps: int
    n_jumps: int
    video: tuple[int, int, int]
    fields: tuple[int, int, int]


FULL = Effort(2, 1, 40, 8, (600, 480, 640), (1_000, 150, 150))
TINY = Effort(1, 0, 2, 2, (40, 64, 416), (40, 30, 40))


# --- the ways -------------------------------------------------------------------------------------


def our_view(folder: Path, item: str, *more: str) -> Opened:
    import lazystore

    session = lazystore.open(folder / "session.zarr")
    viewer = lazystore.view(session, [item, *more])  # type: ignore[arg-type]  # it is one of ours

    def close() -> None:
        viewer.close()
        session.close()

    return viewer, viewer.layers[item], close


def plain_view(data: Any, points: Any = None) -> Opened:
    import napari

    viewer = napari.Viewer()
    colours: dict[str, Any] = {"rgb": True}
    if data.dtype.kind == "f":
        colours = {"colormap": "viridis", "contrast_limits": FIELD_LIMITS}
    layer = viewer.add_image(data, multiscale=False, **colours)
    if points is not None:
        viewer.add_points(points, size=5, face_color="transparent", border_color="orange")
    return viewer, layer, viewer.close


def dask_of(folder: Path, item: str) -> Any:
    import xarray as xr

    return xr.open_zarr(folder / "session.zarr", group=item, consolidated=False)["data"].data


def track_of(folder: Path) -> Any:
    """(step, y, x) of each sample, as plain napari takes points that move."""
    times, x, y = np.loadtxt(folder / "track.csv", delimiter=",", skiprows=1).T
    return np.column_stack([np.arange(len(times)), y, x])


WAYS: dict[tuple[str, str], Callable[[Path], Opened]] = {
    (VIDEO, "lazystore, encoded"): lambda folder: our_view(folder, "video"),
    (VIDEO, "lazystore, pixels"): lambda folder: our_view(folder, "pixels"),
    (VIDEO, "napari, numpy in RAM"): lambda folder: plain_view(np.load(folder / "video.npy")),
    (VIDEO, "napari, dask"): lambda folder: plain_view(dask_of(folder, "pixels")),
    (FIELDS, "lazystore"): lambda folder: our_view(folder, "fields", "track"),
    (FIELDS, "napari, numpy in RAM"): lambda folder: plain_view(
        np.load(folder / "fields.npy"), track_of(folder)
    ),
    (FIELDS, "napari, dask"): lambda folder: plain_view(dask_of(folder, "fields"), track_of(folder)),
}
FRAMES = {VIDEO: "video.npy", FIELDS: "fields.npy"}


# --- measuring, in a process of its own -------------------------------------------------------------


class Watch:
    """When the canvas has drawn anything, and when what it should."""

    def __init__(self, viewer: Any, layer: Any, frames: Any) -> None:
        self._layer, self._frames = layer, frames
        self.viewer = viewer
        self.anything_s = self.exact_s = None
        self._wanted: Any = None
        # Private, and the only one that tells when something was drawn.
        canvas = viewer.window._qt_viewer.canvas._scene_canvas
        canvas.events.draw.connect(self._on_draw, position="last")
        canvas.update()

    def want(self, step: int) -> None:
        """Begin to wait for the picture of a step."""
        sample_of = getattr(self._layer.data, "sample_of", None)
        frame_index = step if sample_of is None else sample_of(step)
        self._wanted = np.array(self._frames[frame_index][PROBE])
        self.anything_s = self.exact_s = None

    def _on_draw(self, _: Any) -> None:
        from vispy.gloo import gl

        gl.glFinish()
        now = time.perf_counter()
        if self.anything_s is None:
            self.anything_s = now
        if self.exact_s is None and np.array_equal(self._layer._slice.image.raw[PROBE], self._wanted):
            self.exact_s = now

    def wait(self) -> tuple[float, float]:
        """When anything and when the picture itself was drawn; events are handled meanwhile."""
        from qtpy.QtWidgets import QApplication

        give_up_at = time.perf_counter() + LONGEST_WAIT_S
        while self.exact_s is None or self.anything_s is None:
            QApplication.processEvents()
            if time.perf_counter() > give_up_at:
                raise AssertionError(f"{self._layer}: the picture was not drawn within {LONGEST_WAIT_S} s")
        return self.anything_s, self.exact_s

    def go(self, step: int, pause_s: float) -> tuple[float, float]:
        """Seconds from the slider's move to anything drawn, and to the picture."""
        rest(pause_s)
        self.want(step)
        began = time.perf_counter()
        self.viewer.dims.set_current_step(0, step)
        anything_s, exact_s = self.wait()
        return anything_s - began, exact_s - began


def rest(pause_s: float) -> None:
    """What somebody does who looks: nothing, while the window lives."""
    from qtpy.QtWidgets import QApplication

    end = time.perf_counter() + pause_s
    while time.perf_counter() < end:
        QApplication.processEvents()
        time.sleep(0.001)


def measure(group: str, case: str, folder: Path, effort: Effort) -> Times:
    """Milliseconds of everything, and megabytes."""
    frames = np.load(folder / FRAMES[group], mmap_mode="r")
    times: Times = {name: [] for name in ("open", "step", "anything", "exact", "mb")}
    held = 0
    for opening in range(effort.n_openings + 1):
        began = time.perf_counter()
        viewer, layer, close = WAYS[group, case](folder)
        watch = Watch(viewer, layer, frames)
        watch.want(int(viewer.dims.current_step[0]))  # plain napari begins in the middle
        _, shown = watch.wait()
        if opening or not effort.n_openings:
            times["open"].append((shown - began) * 1e3)
        if opening == effort.n_openings:
            look_around(watch, times, effort)
            times["mb"].append((rss_bytes() - held) / MEGABYTE)
        close()
        rest(JUMP_PAUSE_S)
        held = held or rss_bytes()
    return times


def look_around(watch: Watch, times: Times, effort: Effort) -> None:
    """Steps forward from a tenth on, then jumps."""
    n_steps = int(watch.viewer.dims.nsteps[0])
    start = n_steps // 10
    watch.go(start, JUMP_PAUSE_S)
    rest(JUMP_PAUSE_S)
    for step in range(start + 1, start + 1 + effort.n_steps):
        times["step"].append(watch.go(step, STEP_PAUSE_S)[1] * 1e3)
    for jump in range(effort.n_jumps):
        # Far from the one before, and never the same.
        step = int(n_steps * (0.05 + 0.618034 * (jump + 1)) % n_steps)
        anything_s, exact_s = watch.go(step, JUMP_PAUSE_S)
        times["anything"].append(anything_s * 1e3)
        times["exact"].append(exact_s * 1e3)


def in_event_loop(action: Callable[[], Any]) -> Any:
    """An action amid an event loop, as where somebody uses the window; its result."""
    from qtpy.QtCore import QEventLoop, QTimer

    loop, done = QEventLoop(), []

    def act() -> None:
        try:
            done.append((action(), None))
        except BaseException as error:  # an error in a slot would end the process without a word
            done.append((None, error))
        loop.quit()

    QTimer.singleShot(0, act)
    loop.exec()
    result, error = done[0]
    if error is not None:
        raise error
    return result


def run_ways(ways: Sequence[tuple[str, str]], folder: Path, effort: Effort) -> list[Any]:
    """What each way took; called in a process that has a screen."""
    warnings.simplefilter("ignore")  # napari's and its friends', about each other
    import napari  # noqa: F401
    from napari.qt import get_qapp

    app = get_qapp()
    found = in_event_loop(lambda: [[*way, measure(*way, folder, effort)] for way in ways])
    del app
    return found


# --- the program ----------------------------------------------------------------------------------


def make_recordings(folder: Path, effort: Effort) -> None:
    """The video as packets and as pixels, fields and a track; and the frames for numpy."""
    import lazystore
    from benchmarks.video_samples import write

    n_frames, height, width = effort.video
    corpus = Path(os.environ.get("LAZYSTORE_CORPUS", "")) / "video" / "bulk-water.mov"
    video = corpus
    if effort is TINY or not os.environ.get("LAZYSTORE_CORPUS") or not corpus.is_file():
        video = write(
            folder / "video.mp4", "libx264", count=n_frames, size=(height, width), options={"g": "250"}
        )
    store = folder / "session.zarr"
    lazystore.convert(video, store, name="video")
    lazystore.convert(video, store, name="pixels", codec="balanced")
    with lazystore.open(store) as session:
        np.save(folder / "video.npy", session["video"].load())
    shape = effort.fields
    values = np.random.default_rng(SEED).standard_normal(shape, np.float32).cumsum(axis=0)
    np.save(folder / "fields.npy", values)
    lazystore.convert(folder / "fields.npy", store, name="fields", kind="field", rate_hz=30)
    seconds = np.arange(shape[0]) / 30
    places = [(0.5 + 0.4 * wave(seconds)) * size for wave, size in ((np.cos, shape[2]), (np.sin, shape[1]))]
    track = np.column_stack([seconds, *places])
    np.savetxt(folder / "track.csv", track, delimiter=",", header="time,x,y", comments="")
    lazystore.convert(folder / "track.csv", store, name="track")


def screen() -> list[str] | None:
    """What a command runs below to have a screen; None where there is no way."""
    if not sys.platform.startswith("linux") or os.environ.get("DISPLAY"):
        return []
    return SCREEN if shutil.which("xvfb-run") else None


def in_process(words: Sequence[str], folder: Path, effort: Effort, screen_words: Sequence[str]) -> list[Any]:
    """`run_ways` in a process of its own."""
    with tempfile.TemporaryDirectory() as settings:
        # napari keeps the sizes of windows in a file of the user's; Mesa is the same everywhere.
        environment = {"LIBGL_ALWAYS_SOFTWARE": "1", **os.environ}
        environment["NAPARI_CONFIG"] = str(Path(settings) / "settings.yaml")
        tiny = ["--tiny"] if effort is TINY else []
        command = [*screen_words, sys.executable, "-m", "benchmarks.bench_viewer", *tiny]
        command += ["--folder", str(folder), "--ways", *words]
        began = time.monotonic()
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        print(f"{', '.join(words)}: {time.monotonic() - began:.1f} s", flush=True)
    return list(json.loads(done.stdout.splitlines()[-1]))


def run_all(effort: Effort, screen_words: Sequence[str]) -> Iterator[Row]:
    # Tiny runs only show that it works: two ways, in one process.
    ways = [(VIDEO, "lazystore, encoded"), (FIELDS, "napari, dask")] if effort is TINY else list(WAYS)
    names = [f"{group}: {case}" for group, case in ways]
    found: dict[tuple[str, str], Times] = {}
    with tempfile.TemporaryDirectory() as temporary:
        make_recordings(Path(temporary), effort)
        for turn in range(effort.n_rounds):
            # Fields have one turn: all of it shall take three minutes.
            shown = [name for name in names if not turn or name.startswith(VIDEO)]
            for words in [shown] if effort is TINY else [[name] for name in shown]:
                for group, case, times in in_process(words, Path(temporary), effort, screen_words):
                    kept = found.setdefault((group, case), {name: [] for name in times})
                    for name, values in times.items():
                        kept[name] += values
    for (group, case), times in found.items():
        yield {
            "group": group,
            "case": case,
            "open_ms": float(np.median(times["open"])),
            **percentiles("step", times["step"]),
            **percentiles("anything", times["anything"]),
            **percentiles("exact", times["exact"]),
            "growth_mb": float(np.median(times["mb"])),
            "n_steps": len(times["step"]),
            "n_jumps": len(times["exact"]),
        }


def percentiles(name: str, times_ms: Sequence[float]) -> Row:
    p50, p99 = np.percentile(times_ms, (50, 99))
    return {f"{name}_p50_ms": float(p50), f"{name}_p99_ms": float(p99)}


def report(rows: Sequence[Row]) -> str:
    """A table a group; times in ms."""
    columns = [name for name in rows[0] if name.endswith(("_ms", "_mb"))] if rows else []
    lines = []
    for group in dict.fromkeys(row["group"] for row in rows):
        heads = (name.removesuffix("_ms").replace("_", " ") for name in columns)
        lines.append(f"\n{group + ' (ms)':<24}" + "".join(f"{head:>14}" for head in heads))
        for row in rows:
            if row["group"] == group:
                lines.append(f"  {row['case']:<22}" + "".join(f"{row[name]:>14.4g}" for name in columns))
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    parser = command_line(__doc__)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--ways", nargs="+", metavar="WAY", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    effort = TINY if options.tiny else FULL
    if options.ways:
        ways = [way for way in WAYS if f"{way[0]}: {way[1]}" in options.ways]
        print(json.dumps(run_ways(ways, options.folder, effort)), flush=True)
        return []
    screen_words = screen()
    if screen_words is None:
        print("there is no screen, and no xvfb-run to stand in for one: nothing is measured")
    rows = [] if screen_words is None else list(run_all(effort, screen_words))
    print(report(rows))
    keep(
        options.json,
        "viewer",
        rows,
        packages=("numpy", "zarr", "dask", "xarray", "av", "napari", "vispy", "pyside6"),
        seed=SEED,
        effort=asdict(effort),
    )
    return rows


if __name__ == "__main__":
    main()
