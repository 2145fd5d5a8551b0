"""Small recordings under the names that the documentation uses, one maker each."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np


def make_field(path: Path) -> None:
    """A place-field movie: 200 frames of 40 x 30 bins, float32."""
    time, y, x = np.ogrid[0:200, 0:40, 0:30]
    centre = 15 + 10 * np.sin(time / 20)
    np.save(path, np.exp(-((x - centre) ** 2 + (y - 20) ** 2) / 50).astype(np.float32))


def make_video(path: Path) -> None:
    """A moving bar: 60 frames of 64 x 48 at 30 frames a second, MPEG-4."""
    import av

    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(30))
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(60):
            image = np.full((48, 64, 3), 40, np.uint8)
            image[:, index : index + 6] = 200
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        container.mux(stream.encode())


def make_events(path: Path) -> None:
    """20,000 events of a 64 x 48 sensor over one second, in the evio layout."""
    import h5py

    rng = np.random.default_rng(7)
    with h5py.File(path, "w") as file:
        group = file.create_group("events")
        group.attrs["width"], group.attrs["height"] = 64, 48
        group["t"] = np.sort(rng.integers(0, 1_000_000, 20_000))
        group["x"] = rng.integers(0, 64, 20_000).astype(np.uint16)
        group["y"] = rng.integers(0, 48, 20_000).astype(np.uint16)
        group["p"] = rng.integers(0, 2, 20_000).astype(np.int8)


def make_stack(path: Path) -> None:
    """12 pages of 32 x 40, 16 bit."""
    import tifffile

    pages = np.random.default_rng(3).integers(0, 4096, (12, 32, 40)).astype(np.uint16)
    tifffile.imwrite(path, pages, photometric="minisblack")


def make_track(path: Path) -> None:
    """100 positions with their times, as text."""
    seconds = np.arange(100) / 25
    rows = zip(seconds, 20 + 10 * np.cos(seconds), 20 + 10 * np.sin(seconds), strict=True)
    path.write_text("time,x,y\n" + "".join(f"{t:.3f},{x:.4f},{y:.4f}\n" for t, x, y in rows))


def make_times(path: Path) -> None:
    """A time in seconds for each of the video's 60 frames."""
    path.write_text("seconds\n" + "".join(f"{5 + index / 29.97:.6f}\n" for index in range(60)))


SAMPLES: dict[str, Callable[[Path], None]] = {
    "fields.npy": make_field,
    "mouse.mp4": make_video,
    "drone.h5": make_events,
    "cells.tif": make_stack,
    "track.csv": make_track,
    "times.csv": make_times,
}
