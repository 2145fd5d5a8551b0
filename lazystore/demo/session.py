"""A session of one animal in an arena, recorded by devices whose clocks disagree.

All recordings show the same path. Each device starts at its own session second, and the event
camera's clock runs a little fast, so that only right clocks put the animal at one place.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import MissingExtraError

ARENA_CM = (100.0, 80.0)
BIN_CM = 2.0
PIXELS_PER_CM = 3.2
FRAME_PX = (320, 256)
DURATION_S = 40.0

FIELD_RATE_HZ, FIELD_START_S = 25.0, 3.0
VIDEO_RATE_HZ, VIDEO_START_S = 30, 1.5
EVENTS_START_S, EVENTS_RATE = 5.25, 1.0005
TRACK_RATE_HZ = 100.0


@dataclass(frozen=True, slots=True)
class Recording:
    """One file, and the words that convert it right."""

    item: str
    path: Path
    arguments: tuple[str, ...]


def position_cm(session_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the animal is: shape (time, 2), x and y in cm, y upwards.

    >>> position_cm(np.array([0.0])).shape
    (1, 2)
    """
    a, b = 2 * np.pi * session_s / 17.0, 2 * np.pi * session_s / 11.0
    x = ARENA_CM[0] / 2 + 32 * np.sin(a) + 6 * np.sin(3.1 * b)
    y = ARENA_CM[1] / 2 + 24 * np.cos(b) + 5 * np.sin(2.3 * a)
    return np.stack([x, y], axis=-1)


def make_session(folder: Path, *, duration_s: float = DURATION_S) -> list[Recording]:
    """Write the recordings into a folder; deterministic.

    Raises
    ------
    MissingExtraError
        If the packages that write video or HDF5 are not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(20)
    return [
        _make_field(folder, rng, duration_s),
        _make_video(folder, rng, duration_s),
        _make_events(folder, rng, duration_s),
        _make_track(folder, duration_s),
    ]


def _make_field(folder: Path, rng: np.random.Generator, duration_s: float) -> Recording:
    """A decoded-position movie over the bins of an arena whose corners are out of reach."""
    nx, ny = (round(size / BIN_CM) for size in ARENA_CM)
    x, y = ((np.arange(n) + 0.5) * BIN_CM for n in (nx, ny))
    grid_x, grid_y = np.meshgrid(x, y, indexing="ij")
    radius = np.hypot((grid_x - 50) / 52, (grid_y - 40) / 42)
    active = radius <= 1.0
    centers = np.stack([grid_x[active], grid_y[active]], axis=-1)
    times = FIELD_START_S + np.arange(int((duration_s - 6) * FIELD_RATE_HZ)) / FIELD_RATE_HZ
    places = position_cm(times)
    distance = ((centers[None] - places[:, None]) ** 2).sum(axis=-1)
    rates = (18 * np.exp(-distance / (2 * 6.0**2)) + rng.gamma(1.5, 0.5, distance.shape)).astype(np.float32)
    path = folder / "place_field.npy"
    np.save(path, rates)
    environment = folder / "arena"
    facts = {
        "layout_type": "RegularGrid",
        "grid_shape": [nx, ny],
        "units": "cm",
        "dimension_ranges": [[0.0, ARENA_CM[0]], [0.0, ARENA_CM[1]]],
        "n_bins": int(active.sum()),
    }
    environment.with_suffix(".json").write_text(json.dumps(facts))
    np.savez(environment.with_suffix(".npz"), bin_centers=centers, active_mask=active)
    words = ("--env", str(environment), "--rate", str(FIELD_RATE_HZ), "--start", str(FIELD_START_S))
    return Recording("place_field", path, words)


def _make_video(folder: Path, rng: np.random.Generator, duration_s: float) -> Recording:
    """The animal from above, as a camera's H.264 file."""
    try:
        import av
    except ImportError as error:
        raise MissingExtraError(f'the demo writes a video: pip install "lazystore[all]" ({error})') from error
    width, height = FRAME_PX
    path = folder / "mouse.mp4"
    times = VIDEO_START_S + np.arange(int((duration_s - 4) * VIDEO_RATE_HZ)) / VIDEO_RATE_HZ
    floor = _floor(rng)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=VIDEO_RATE_HZ, options={"crf": "20", "preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for center in _pixels(position_cm(times)):
            picture = _draw_animal(floor, center)
            frame = av.VideoFrame.from_ndarray(np.repeat(picture[..., None], 3, axis=-1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    calibration = folder / "camera.json"
    scale = 1 / PIXELS_PER_CM
    matrix = [[scale, 0.0, 0.0], [0.0, -scale, ARENA_CM[1]]]
    calibration.write_text(json.dumps({"matrix": matrix, "units": "cm"}))
    return Recording("mouse", path, ("--start", str(VIDEO_START_S), "--transform", str(calibration)))


def _floor(rng: np.random.Generator) -> NDArray[np.uint8]:
    width, height = FRAME_PX
    y, x = np.mgrid[:height, :width]
    inside = np.hypot((x / PIXELS_PER_CM - 50) / 52, (y / PIXELS_PER_CM - 40) / 42) <= 1.0
    texture = rng.normal(0, 5, (height, width)).cumsum(axis=1).cumsum(axis=0)
    texture = 6 * (texture - texture.mean()) / texture.std()
    return np.clip(np.where(inside, 150 + texture, 60), 0, 255).astype(np.uint8)


def _pixels(places_cm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Image coordinates, y downwards."""
    return np.stack([places_cm[:, 0], ARENA_CM[1] - places_cm[:, 1]], axis=-1) * PIXELS_PER_CM


def _draw_animal(floor: NDArray[np.uint8], center: NDArray[np.float64]) -> NDArray[np.uint8]:
    y, x = np.mgrid[: floor.shape[0], : floor.shape[1]]
    body = np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2 * 9.0**2))
    drawn: NDArray[np.uint8] = (floor * (1 - 0.9 * np.clip(body * 1.6, 0, 1))).astype(np.uint8)
    return drawn


def _make_events(folder: Path, rng: np.random.Generator, duration_s: float) -> Recording:
    """What an event camera sees of the same path: OFF where the dark animal arrives, ON where it left."""
    try:
        import h5py
    except ImportError as error:
        raise MissingExtraError(f'the demo writes HDF5: pip install "lazystore[all]" ({error})') from error
    n = int((duration_s - 8) * 25_000)
    native_s = np.sort(rng.uniform(0, duration_s - 8, n))
    session_s = EVENTS_START_S + EVENTS_RATE * native_s
    here, soon = position_cm(session_s), position_cm(session_s + 0.01)
    heading = np.arctan2(-(soon - here)[:, 1], (soon - here)[:, 0])
    is_off = rng.random(n) < 0.5
    side = heading + np.where(is_off, 0, np.pi) + rng.normal(0, 0.7, n)
    center = _pixels(here)
    radius = 10 + rng.normal(0, 1.5, n)
    x = np.round(center[:, 0] + radius * np.cos(side))
    y = np.round(center[:, 1] + radius * np.sin(side))
    noise = rng.random(n) < 0.03
    x = np.where(noise, rng.integers(0, FRAME_PX[0], n), np.clip(x, 0, FRAME_PX[0] - 1)).astype(np.uint16)
    y = np.where(noise, rng.integers(0, FRAME_PX[1], n), np.clip(y, 0, FRAME_PX[1] - 1)).astype(np.uint16)
    path = folder / "drone.h5"
    with h5py.File(path, "w") as file:
        group = file.create_group("events")
        group.attrs["width"], group.attrs["height"] = FRAME_PX
        columns = {"t": (native_s * 1e6).astype(np.int64), "x": x, "y": y, "p": (~is_off).astype(np.int8)}
        for name, values in columns.items():
            group.create_dataset(name, data=values, chunks=(65_536,), compression="gzip", compression_opts=1)
    # Pulses that both clocks heard: the event camera's runs 0.05 % fast.
    own_s = np.arange(0.0, duration_s - 8, 2.0)
    np.savetxt(folder / "pulses_own.txt", own_s, fmt="%.6f")
    np.savetxt(folder / "pulses_session.txt", EVENTS_START_S + EVENTS_RATE * own_s, fmt="%.6f")
    # It looks through the same lens as the video camera.
    pulses = (str(folder / "pulses_own.txt"), str(folder / "pulses_session.txt"))
    words = ("--sync", *pulses, "--transform", str(folder / "camera.json"))
    return Recording("drone", path, words)


def _make_track(folder: Path, duration_s: float) -> Recording:
    """The tracked position, in session seconds already."""
    times = np.arange(int(duration_s * TRACK_RATE_HZ)) / TRACK_RATE_HZ
    path = folder / "trajectory.csv"
    rows = np.column_stack([times, position_cm(times)])
    np.savetxt(path, rows, delimiter=",", header="time,x,y", comments="", fmt=("%.2f", "%.4f", "%.4f"))
    return Recording("trajectory", path, ())
