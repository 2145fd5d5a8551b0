"""Events in ROS 1 and ROS 2 bags: messages of type `EventArray`.

The package rosbags opens the container; the records inside a message are read as they lie, because
turning each event into an object is some 800 times slower.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lazystore.errors import LazystoreError, SourceError
from lazystore.protocols import Recognition, Source
from lazystore.sources.events.blocks import CheckpointedEvents, DecodedBlock
from lazystore.sources.events.columns import EventColumns
from lazystore.sources.events.info import SENSOR_OPTION, RecordingFacts
from lazystore.sources.events.ros_bounds import bound_chunks, bound_files, bound_mcap, inflate_message
from lazystore.sources.events.ros_messages import EVENT_ARRAYS, EventMessage, parse_cdr, parse_ros1

ROS1_MAGIC = b"#ROSBAG V2.0\n"
SQLITE_MAGIC = b"SQLite format 3\x00"
MCAP_MAGIC = b"\x89MCAP0\r\n"


def _is_ros1(path: Path) -> bool:
    if path.is_dir():
        return False
    with path.open("rb") as file:
        return file.read(len(ROS1_MAGIC)) == ROS1_MAGIC


def _open_bag(path: Path) -> Any:
    """An open reader of the package rosbags.

    Raises
    ------
    SourceError
        If it cannot be opened as a bag.
    """
    from rosbags import rosbag1, rosbag2

    try:
        bag: Any = rosbag1.Reader(path) if _is_ros1(path) else rosbag2.Reader(path)
        bound_mcap()
        bound_files()
        bag.open()
        bound_chunks(bag)
    except Exception as error:  # Whatever a library raises for a damaged container.
        raise SourceError(
            f"{path.name!r} cannot be opened as a ROS bag ({' '.join(str(error).split())[:200]}); "
            "repair it with 'rosbag reindex' or 'ros2 bag reindex'"
        ) from error
    return bag


def _event_topics(bag: Any) -> list[str]:
    return sorted({link.topic for link in bag.connections if link.msgtype in EVENT_ARRAYS and link.msgcount})


class RosDecoder:
    """A `BlockDecoder` of one topic; its checkpoints are times of messages."""

    def __init__(self, path: Path, topic: str, suffix: str) -> None:
        self._path = path
        self._topic = topic
        self._suffix = suffix
        self._parse = parse_ros1 if _is_ros1(path) else parse_cdr
        self._bag: Any = None
        self._messages: Iterator[tuple[Any, int, bytes]] | None = None
        self._sensor: tuple[int, int] | None = None
        self._other_messages = 0
        self.restore(None)
        try:
            self._sensor = self._find_sensor()
        except BaseException:
            self.close()
            raise
        self.restore(None)

    @property
    def sensor(self) -> tuple[int, int] | None:
        return self._sensor

    def restore(self, checkpoint: Any) -> None:
        # Messages of one time have no order of their own but the file's: they are counted.
        position: tuple[int | None, int] = checkpoint or (None, 0)
        self._time, self._count_at_time = position
        self._messages = None
        self._count = 0
        self._damaged = 0
        self._rounding_us = 0.0
        self._broken = ""

    def checkpoint(self) -> tuple[int | None, int]:
        return self._time, self._count_at_time

    def next_block(self) -> DecodedBlock | None:
        message = self._next_message()
        if message is None:
            return None
        rows = message.rows
        columns = EventColumns.empty(len(rows))
        np.copyto(columns.t, rows["sec"], casting="unsafe")
        columns.t[...] *= 1_000_000
        nanoseconds = rows["nsec"].astype(np.int64)
        columns.t[...] += (nanoseconds + 500) // 1000
        if len(rows):
            rest = nanoseconds % 1000
            self._rounding_us = max(self._rounding_us, int(np.minimum(rest, 1000 - rest).max()) / 1000)
        columns.x[...] = rows["x"]
        columns.y[...] = rows["y"]
        np.not_equal(rows["p"], 0, out=columns.p.view(np.bool_))
        return DecodedBlock(columns)

    def facts(self) -> RecordingFacts:
        problems = []
        if self._rounding_us:
            problems.append(f"times were rounded to whole µs, by up to {self._rounding_us:.3g} µs")
        if self._damaged:
            problems.append(f"{self._damaged} of {self._count} messages do not decode; their events are lost")
        if self._broken:
            problems.append(f"the bag cannot be read beyond message {self._count} ({self._broken})")
        return RecordingFacts(
            format="ros",
            decoder="lazystore.ros/1",
            sensor=self._sensor,
            file_time_unit="ns",
            unix_epoch=True,
            polarity="false/true",
            counts={
                "messages": self._count,
                "other_messages": self._other_messages,
                "decode_errors": self._damaged + bool(self._broken),
            },
            problems=tuple(problems),
            extra={"topic": self._topic},
            suffix=self._suffix,
        )

    def close(self) -> None:
        self._messages = None
        bag, self._bag = self._bag, None
        if bag is not None:
            bag.close()

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_bag": None, "_messages": None}

    def _find_sensor(self) -> tuple[int, int] | None:
        """Sensor size of the first message that says one; drivers leave it out rarely or always."""
        for _ in range(16):
            message = self._next_message()
            if message is None:
                break
            if message.width and message.height:
                return message.width, message.height
        return None

    def _next_message(self) -> EventMessage | None:
        """The next message; without events where it is damaged; None at the end of the bag."""
        try:
            if self._messages is None:
                self._messages = self._start_messages()
            found = next(self._messages, None)
        except LazystoreError:
            raise
        except Exception as error:  # Whatever a library raises for a damaged container.
            self._broken = " ".join(str(error).split())[:200] or type(error).__name__
            self._messages = iter(())
            return None
        if found is None:
            return None
        _, time, data = found
        self._count_at_time = self._count_at_time + 1 if time == self._time else 1
        self._time = time
        self._count += 1
        try:
            return self._parse(inflate_message(self._bag, bytes(data)))
        except ValueError:
            self._damaged += 1
            return EventMessage(0, 0, np.empty(0, [(name, "u4") for name in ("x", "y", "sec", "nsec", "p")]))

    def _start_messages(self) -> Iterator[tuple[Any, int, bytes]]:
        if self._bag is None:
            self._bag = _open_bag(self._path)
        links = [link for link in self._bag.connections if link.topic == self._topic]
        self._other_messages = sum(
            link.msgcount for link in self._bag.connections if link.msgtype not in EVENT_ARRAYS
        )
        messages: Iterator[tuple[Any, int, bytes]] = self._bag.messages(links, start=self._time)
        return itertools.islice(messages, self._count_at_time, None)


class RosFormat:
    """ROS bags with `EventArray` messages as a `SourceFormat`."""

    name = "ros"
    kinds = ("events",)
    extensions = (".bag", ".mcap", ".db3", "/")
    options = (SENSOR_OPTION,)

    def recognise(self, path: Path, head: bytes) -> Recognition | None:
        if path.is_dir():
            if not (path / "metadata.yaml").is_file():
                return None
        elif not head.startswith((ROS1_MAGIC, SQLITE_MAGIC, MCAP_MAGIC)):
            return None
        try:
            bag = _open_bag(path)
        except SourceError:
            return None
        try:
            topics = _event_topics(bag)
        finally:
            bag.close()
        return Recognition(True, f"events in {', '.join(topics)}") if topics else None

    def open(self, path: Path, options: Mapping[str, Any]) -> Sequence[Source]:
        bag = _open_bag(path)
        try:
            topics = _event_topics(bag)
            types = sorted({str(link.msgtype) for link in bag.connections})
        finally:
            bag.close()
        if not topics:
            raise SourceError(
                f"{path.name!r} holds no messages of {' or '.join(EVENT_ARRAYS)}; "
                f"it holds {', '.join(types) or 'none'}"
            )
        sources: list[Source] = []
        try:
            for number, topic in enumerate(topics):
                suffix = topic.strip("/").replace("/", "-") if number else ""
                sources.append(CheckpointedEvents(path, RosDecoder(path, topic, suffix), options))
        except BaseException:
            for source in sources:
                source.close()
            raise
        return sources


ROS = RosFormat()
