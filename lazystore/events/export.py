"""Events to files of other kinds: HDF5 in the layouts of evio and DSEC, NumPy's .npz, CSV.

Every layout is written block by block in bounded memory to a file beside the target, which takes
its name when it is whole.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from lazystore.errors import LazystoreError, StoreError, UsageError
from lazystore.events.compiling import loop_when_ready
from lazystore.events.window import COLUMNS

if TYPE_CHECKING:
    from lazystore.events.base import Events

LAYOUTS = {"evio": (".h5", ".hdf5"), "dsec": (".h5", ".hdf5"), "npz": (".npz",), "csv": (".csv", ".txt")}
_BY_ENDING = {".h5": "evio", ".hdf5": "evio", ".npz": "npz", ".csv": "csv", ".txt": "csv"}
_HDF5_CHUNK = 1 << 16
_BYTES_A_LINE = 48
_MOST_U4 = 2**32 - 1


def export_events(
    events: Events, path: str | os.PathLike[str], layout: str | None = None, *, overwrite: bool = False
) -> int:
    """Write all events, in file order, to a file.

    Parameters
    ----------
    events
        A recording, or a filtered view of one.
    path
        The file to write.
    layout
        ``"evio"``: HDF5 with events/t (int64), x, y (uint16), p (int8, 0/1), and the sensor's width and
        height. ``"dsec"``: HDF5 with events/t (uint32, µs since t_offset), x, y, p, ms_to_idx and
        t_offset. ``"npz"``: arrays t, x, y, p, width, height. ``"csv"``: lines t,x,y,p under that
        header, t in µs. Chosen by the file's ending where left out; ``.h5`` is evio.
    overwrite
        Replace a file that is there.

    Returns
    -------
    int
        Events written.

    Raises
    ------
    UsageError
        If the layout is unknown, or the file exists and `overwrite` is false, or the recording does
        not fit DSEC's layout: times that go back, or more than 71 minutes.
    """
    target = Path(path)
    chosen = layout or _BY_ENDING.get(target.suffix.lower())
    if chosen not in LAYOUTS:
        raise UsageError(
            f"layout={layout!r} for {target.name!r} is not one of {', '.join(LAYOUTS)}; say which"
        )
    if target.exists() and not overwrite:
        raise UsageError(f"{str(target)!r} exists; pass overwrite=True to replace it")
    writers = {"evio": _write_evio, "dsec": _write_dsec, "npz": _write_npz, "csv": _write_csv}
    with _whole_or_nothing(target) as temporary:
        return writers[chosen](events, temporary)


@contextlib.contextmanager
def _whole_or_nothing(target: Path) -> Iterator[Path]:
    """A path beside the target that takes its name at the end, and is gone after an error."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        yield temporary
        os.replace(temporary, target)
    except LazystoreError:
        raise
    except OSError as error:
        raise StoreError(f"cannot write {str(target)!r}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _write_evio(events: Events, path: Path) -> int:
    import h5py

    dtypes = {"t": "<i8", "x": "<u2", "y": "<u2", "p": "i1"}
    with h5py.File(path, "w") as file:
        group = file.create_group("events")
        group.attrs["width"], group.attrs["height"] = events.sensor
        datasets = _growing(group, dtypes)
        count = 0
        for block in events.blocks():
            count = _append(datasets, count, block.columns)
    return count


def _write_dsec(events: Events, path: Path) -> int:
    import h5py

    dtypes = {"t": "<u4", "x": "<u2", "y": "<u2", "p": "u1"}
    offset, latest = events.t_start, events.t_start
    if events.t_stop - 1 - offset > _MOST_U4:
        raise UsageError(
            f"{events.name!r} lasts {events.duration_us} us; DSEC's 32-bit times hold {_MOST_U4} us: export "
            "a part, or another layout"
        )
    # Number of the first event at or after each whole millisecond.
    first_of_ms: list[NDArray[np.uint64]] = []
    n_ms = 0
    with h5py.File(path, "w") as file:
        group = file.create_group("events")
        datasets = _growing(group, dtypes)
        count = 0
        for block in events.blocks():
            t = block.t
            if len(t) and (t[0] < latest or np.any(t[1:] < t[:-1])):
                raise UsageError(
                    f"times of {events.name!r} go back; DSEC's layout needs them in order: "
                    "choose another layout"
                )
            if len(t):
                latest = int(t[-1])
                edges = offset + 1000 * np.arange(n_ms, (latest - offset) // 1000 + 1)
                first_of_ms.append((count + t.searchsorted(edges, "left")).astype(np.uint64))
                n_ms += len(edges)
            count = _append(datasets, count, {**block.columns, "t": t - offset})
        file["ms_to_idx"] = np.concatenate([np.empty(0, np.uint64), *first_of_ms])
        file["t_offset"] = np.int64(offset)
    return count


def _growing(group: Any, dtypes: dict[str, str]) -> dict[str, Any]:
    return {
        name: group.create_dataset(
            name, (0,), dtype, maxshape=(None,), chunks=(_HDF5_CHUNK,), compression="gzip",
            compression_opts=1, shuffle=True,
        )
        for name, dtype in dtypes.items()
    }  # fmt: skip


def _append(datasets: dict[str, Any], count: int, columns: dict[str, NDArray[Any]]) -> int:
    stop = count + len(columns["t"])
    for name, dataset in datasets.items():
        dataset.resize(stop, axis=0)
        dataset[count:stop] = columns[name]
    return stop


def _write_npz(events: Events, path: Path) -> int:
    """Columns go through files on disk: a zip's members are written one after the other."""
    with contextlib.ExitStack() as stack:
        parts: dict[str, IO[bytes]] = {
            name: stack.enter_context(tempfile.TemporaryFile(dir=path.parent)) for name in COLUMNS
        }
        dtypes = {
            name: np.dtype(code) for name, code in zip(COLUMNS, ("<i8", "<u2", "<u2", "u1"), strict=True)
        }
        count = 0
        for block in events.blocks():
            count += len(block)
            for name, column in block.columns.items():
                parts[name].write(np.ascontiguousarray(column, dtypes[name]).data)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            for name, dtype in dtypes.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    header = {"descr": dtype.str, "fortran_order": False, "shape": (count,)}
                    npy_format.write_array_header_1_0(member, header)
                    parts[name].seek(0)
                    shutil.copyfileobj(parts[name], member, 1 << 20)
            for name, value in zip(("width", "height"), events.sensor, strict=True):
                with archive.open(f"{name}.npy", "w") as member:
                    npy_format.write_array(member, np.array(value, np.int64))
    return count


def _write_csv(events: Events, path: Path) -> int:
    write_digits = loop_when_ready("write_digits")
    count = 0
    with path.open("wb") as file:
        file.write(b"t,x,y,p\n")
        for block in events.blocks():
            text = np.empty(_BYTES_A_LINE * len(block), np.uint8)
            size = write_digits(*block.columns.values(), text)
            file.write(text[:size].data)
            count += len(block)
    return count
