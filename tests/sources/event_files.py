"""Small event recordings in every format, made by encoders that share nothing with the decoders."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 320, 240


@dataclass(frozen=True)
class Events:
    """What a recording holds: t in µs, x, y, p; triggers as (t, id, p)."""

    t: NDArray[np.int64]
    x: NDArray[np.uint16]
    y: NDArray[np.uint16]
    p: NDArray[np.uint8]
    triggers: tuple[tuple[int, int, int], ...] = ()

    @property
    def columns(self) -> dict[str, NDArray[Any]]:
        return {"t": self.t, "x": self.x, "y": self.y, "p": self.p}

    def __len__(self) -> int:
        return len(self.t)


def some_events(
    count: int = 400, *, seed: int = 5, start: int = 1000, width: int = WIDTH, height: int = HEIGHT
) -> Events:
    """Sorted events with rows of neighbours at one time, as sensors give them."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, height, count // 4 + 1).repeat(4)[:count]
    first = rng.integers(0, width - 40, count // 4 + 1).repeat(4)[:count]
    steps = rng.integers(0, 40, count // 4 + 1)
    times = start + np.cumsum(steps).repeat(4)[:count]
    x = first + np.tile([0, 1, 3, 20], count // 4 + 1)[:count]
    p = rng.integers(0, 2, count // 4 + 1).repeat(4)[:count]
    middle = int(times[count // 2]) if count else 0
    triggers = ((int(times[0]), 0, 1), (middle, 3, 0), (middle + 1, 1, 1)) if count else ()
    return Events(times, x.astype(np.uint16), rows.astype(np.uint16), p.astype(np.uint8), triggers)


# --- Prophesee words ----------------------------------------------------------------------------

type Timed = list[tuple[int, str, tuple[int, ...]]]


def in_time_order(events: Events) -> Timed:
    """Events and triggers as one stream; an event comes before a trigger of its time."""
    stream: Timed = [
        (int(t), "event", (int(x), int(y), int(p)))
        for t, x, y, p in zip(events.t, events.x, events.y, events.p, strict=True)
    ]
    stream += [(t, "trigger", (number, p)) for t, number, p in events.triggers]
    return sorted(stream, key=lambda item: item[0])


def evt2_words(events: Events) -> list[int]:
    """EVT 2.0 words."""
    words, high = [], None
    for time, kind, values in in_time_order(events):
        if time >> 6 != high:
            high = time >> 6
            words.append(0x8 << 28 | high & 0xFFFFFFF)
        if kind == "event":
            x, y, p = values
            words.append(p << 28 | (time & 63) << 22 | x << 11 | y)
        else:
            number, p = values
            words.append(0xA << 28 | (time & 63) << 22 | number << 8 | p)
    return words


def evt21_words(events: Events) -> list[int]:
    """EVT 2.1 words, up to 32 neighbours in one."""
    words, high = [], None
    stream = in_time_order(events)
    at = 0
    while at < len(stream):
        time, kind, values = stream[at]
        if time >> 6 != high:
            high = time >> 6
            words.append(0x8 << 60 | (high & 0xFFFFFFF) << 32)
        if kind == "trigger":
            words.append(0xA << 60 | (time & 63) << 54 | values[0] << 40 | values[1] << 32)
            at += 1
            continue
        x, y, p = values
        mask = 0
        last = -1
        while at < len(stream) and stream[at][1] == "event":
            other_time, _, (other_x, other_y, other_p) = stream[at]
            if (other_time, other_y, other_p) != (time, y, p) or not last < other_x - x < 32:
                break
            last = other_x - x
            mask |= 1 << last
            at += 1
        words.append(p << 60 | (time & 63) << 54 | x << 43 | y << 32 | mask)
    return words


def evt3_words(events: Events) -> list[int]:
    """EVT 3.0 words; runs of three and more neighbours as vectors, others one by one."""
    words: list[int] = []
    high = low = row = None
    stream = in_time_order(events)
    at = 0
    while at < len(stream):
        time, kind, values = stream[at]
        if time >> 12 & 0xFFF != high:
            # The low bits are said again, as sensors do: decoders differ in what they are until then.
            high, low = time >> 12 & 0xFFF, None
            words.append(0x8000 | high)
        if time & 0xFFF != low:
            low = time & 0xFFF
            words.append(0x6000 | low)
        if kind == "trigger":
            words.append(0xA000 | values[0] << 8 | values[1])
            at += 1
            continue
        x, y, p = values
        if y != row:
            row = y
            words.append(y)
        stop = at + 1
        while (
            stop < len(stream)
            and stream[stop][:2] == (time, "event")
            and stream[stop][2][1:] == (y, p)
            and stream[stop - 1][2][0] < stream[stop][2][0] < x + 32
        ):
            stop += 1
        if stop - at < 3:
            words.append(0x2000 | p << 11 | x)
            at += 1
            continue
        mask = sum(1 << stream[index][2][0] - x for index in range(at, stop))
        words += [
            0x3000 | p << 11 | x,
            0x4000 | mask & 0xFFF,
            0x4000 | mask >> 12 & 0xFFF,
            0x5000 | mask >> 24,
        ]
        at = stop
    return words


WORD_DTYPES = {"evt2": "<u4", "evt21": "<u8", "evt3": "<u2"}
_ENCODERS = {"evt2": evt2_words, "evt21": evt21_words, "evt3": evt3_words}
_VERSIONS = {"evt2": "2.0", "evt21": "2.1", "evt3": "3.0"}


def raw_header(name: str, *, extra: str = "", size: bool = True) -> bytes:
    """The text header of a RAW file."""
    geometry = f";height={HEIGHT};width={WIDTH}" if size else ""
    lines = (
        "date 2024-02-03 04:05:06",
        f"evt {_VERSIONS[name]}",
        f"format {name.upper()}{geometry}{extra}",
        "end",
    )
    return "".join(f"% {line}\n" for line in lines).encode()


def words_file(path: Path, name: str, words: Sequence[int], header: bytes | None = None) -> Path:
    """A RAW file of given words."""
    body = np.array(words, WORD_DTYPES[name]).tobytes()
    path.write_bytes((raw_header(name) if header is None else header) + body)
    return path


def write_raw(name: str) -> Callable[[Path, Events], None]:
    return lambda path, events: words_file(path, name, _ENCODERS[name](events)) and None


def write_dat(path: Path, events: Events) -> None:
    header = f"% Data file containing CD events\n% Version 2\n% Width {WIDTH}\n% Height {HEIGHT}\n".encode()
    words = np.empty((len(events), 2), "<u4")
    words[:, 0] = events.t % (1 << 32)
    words[:, 1] = events.p.astype("u4") << 28 | events.y.astype("u4") << 14 | events.x
    path.write_bytes(header + b"\x0c\x08" + words.tobytes())


def write_nmnist(path: Path, events: Events) -> None:
    rows = bytearray()
    for t, x, y, p in zip(events.t, events.x, events.y, events.p, strict=True):
        word = int(p) << 23 | int(t) % (1 << 23)
        rows += bytes([int(x) & 255, int(y), word >> 16, word >> 8 & 255, word & 255])
    path.write_bytes(rows)


# --- tables -------------------------------------------------------------------------------------


def write_rpg(path: Path, events: Events) -> None:
    path.write_text(
        "".join(
            f"{t // 10**6}.{t % 10**6:06d}000 {x} {y} {p}\n"
            for t, x, y, p in zip(*(column.tolist() for column in events.columns.values()), strict=True)
        )
    )


def write_csv(path: Path, events: Events) -> None:
    rows = zip(*(events.columns[name].tolist() for name in "xypt"), strict=True)
    lines = [f"{x},{y},{'-1' if p == 0 else '1'},{t}\r\n" for x, y, p, t in rows]
    path.write_bytes(("x,y,polarity,timestamp_us\r\n" + "".join(lines)).encode())


def write_npz(path: Path, events: Events) -> None:
    np.savez_compressed(path, t=events.t, x=events.x, y=events.y, p=events.p.astype(bool))


def write_structured_npy(path: Path, events: Events) -> None:
    rows = np.empty(len(events), [("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")])
    for name, values in events.columns.items():
        rows[name] = values
    np.save(path, rows)


# --- HDF5 ---------------------------------------------------------------------------------------


def write_evio(path: Path, events: Events, **settings: Any) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["width"], file.attrs["height"] = WIDTH, HEIGHT
        group = file.create_group("events")
        settings = settings or {"chunks": (150,), "compression": "gzip"}
        for name, dtype in (("t", "i8"), ("x", "u2"), ("y", "u2"), ("p", "i1")):
            group.create_dataset(name, data=events.columns[name].astype(dtype), **settings)


def write_dsec(path: Path, events: Events) -> None:
    import h5py
    import hdf5plugin

    offset = int(events.t[0])
    with h5py.File(path, "w") as file:
        group = file.create_group("events")
        for name, dtype in (("t", "u4"), ("x", "u2"), ("y", "u2"), ("p", "u1")):
            values = events.columns[name] - (offset if name == "t" else 0)
            group.create_dataset(
                name, data=values.astype(dtype), chunks=(128,), **hdf5plugin.Blosc("zstd", 5, 1)
            )
        file["t_offset"] = np.int64(offset)
        milliseconds = np.arange(0, int(events.t[-1]) - offset + 1000, 1000)
        file["ms_to_idx"] = np.searchsorted(events.t - offset, milliseconds).astype("u8")


def write_mvsec(path: Path, events: Events) -> None:
    import h5py

    rows = np.stack([events.x, events.y, events.t / 1e6, events.p * 2.0 - 1.0], axis=1)
    with h5py.File(path, "w") as file:
        file.create_dataset("davis/left/events", data=rows, chunks=(100, 4), compression="gzip")


METAVISION_EVENT = np.dtype([("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
METAVISION_CHUNK = 128


def write_metavision(path: Path, events: Events, encode: Callable[..., bytes] | None = None) -> None:
    """`/CD/events` in ECF chunks, as the vendor writes them: the last one only as long as needed."""
    import h5py

    from tests.sources.event_oracles import encode_ecf

    with h5py.File(path, "w") as file:
        file.attrs["geometry"] = f"{WIDTH}x{HEIGHT}"
        file.attrs["format"] = "EVT3"
        file.attrs["date"] = "2024-02-03 04:05:06"
        group = file.create_group("CD")
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((METAVISION_CHUNK,))
        plist.set_filter(0x8ECF, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple((len(events),), (h5py.h5s.UNLIMITED,))
        dataset = h5py.h5d.create(group.id, b"events", h5py.h5t.py_create(METAVISION_EVENT), space, plist)
        for number, start in enumerate(range(0, len(events), METAVISION_CHUNK)):
            part = {name: column[start : start + METAVISION_CHUNK] for name, column in events.columns.items()}
            mode = ("masked", "columns", "rows")[number % 3]
            dataset.write_direct_chunk((start,), (encode or encode_ecf)(**part, mode=mode))
        triggers = np.zeros(len(events.triggers), [("p", "<i2"), ("t", "<i8"), ("id", "<i2")])
        for row, (t, number, p) in zip(triggers, events.triggers, strict=True):
            row["t"], row["id"], row["p"] = t, number, p
        file.create_dataset("EXT_TRIGGER/events", data=triggers, chunks=(64,), maxshape=(None,))
