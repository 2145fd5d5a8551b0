"""One small recording of every event format, and the format that reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lazystore.protocols import SourceFormat
from lazystore.sources.events.aedat4 import AEDAT4
from lazystore.sources.events.dat import DAT
from lazystore.sources.events.hdf5 import DSEC, EVIO, MVSEC
from lazystore.sources.events.metavision import METAVISION
from lazystore.sources.events.nmnist import NMNIST
from lazystore.sources.events.numpy_files import NUMPY_EVENTS
from lazystore.sources.events.raw import EVT2, EVT3, EVT21
from lazystore.sources.events.ros import ROS
from lazystore.sources.events.text import TEXT_EVENTS
from tests.sources.event_containers import write_aedat4, write_ros1, write_ros2
from tests.sources.event_files import (
    Events,
    some_events,
    write_csv,
    write_dat,
    write_dsec,
    write_evio,
    write_metavision,
    write_mvsec,
    write_nmnist,
    write_npz,
    write_raw,
    write_rpg,
    write_structured_npy,
)


@dataclass(frozen=True)
class Sample:
    """How a recording is made, what reads it, and whether a cut leaves its beginning readable."""

    source_format: SourceFormat
    ending: str
    write: Callable[[Path, Events], None]
    is_sequential: bool = False
    in_child: bool = False
    width: int = 320

    def make(self, folder: Path, count: int = 300) -> tuple[Path, Events]:
        """A file of `count` events in `folder`, and what it holds."""
        events = some_events(count, width=self.width)
        path = folder / f"a{self.ending}"
        self.write(path, events)
        return path, events


def _write_mcap(path: Path, events: Events) -> None:
    folder = path.with_name("ros2")
    write_ros2(folder, events, "MCAP")
    (made,) = folder.glob("*.mcap")
    made.replace(path)


def _write_zstd(path: Path, events: Events) -> None:
    write_aedat4(path, events, 3)


SAMPLES = {
    "evt2": Sample(EVT2, ".raw", write_raw("evt2"), True),
    "evt21": Sample(EVT21, ".raw", write_raw("evt21"), True),
    "evt3": Sample(EVT3, ".raw", write_raw("evt3"), True),
    "dat": Sample(DAT, ".dat", write_dat, True),
    "nmnist": Sample(NMNIST, ".bin", write_nmnist, True, width=256),
    "evio": Sample(EVIO, ".h5", write_evio, in_child=True),
    "dsec": Sample(DSEC, ".h5", write_dsec, in_child=True),
    "mvsec": Sample(MVSEC, ".hdf5", write_mvsec, in_child=True),
    "metavision": Sample(METAVISION, ".hdf5", write_metavision, in_child=True),
    "rpg": Sample(TEXT_EVENTS, ".txt", write_rpg, True),
    "csv": Sample(TEXT_EVENTS, ".csv", write_csv),
    "npz": Sample(NUMPY_EVENTS, ".npz", write_npz),
    "npy": Sample(NUMPY_EVENTS, ".npy", write_structured_npy),
    "aedat4": Sample(AEDAT4, ".aedat4", write_aedat4, True),
    "aedat4-zstd": Sample(AEDAT4, ".aedat4", _write_zstd, True),
    "ros1": Sample(ROS, ".bag", write_ros1),
    "mcap": Sample(ROS, ".mcap", _write_mcap),
}
