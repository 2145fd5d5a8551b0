"""Event arrays in ROS 1 and ROS 2 bags, against the package rosbags reading object by object."""

from __future__ import annotations

import pickle
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazystore.errors import SourceError
from lazystore.protocols import Source
from lazystore.sources.events import blocks as events_blocks
from lazystore.sources.events import ros_bounds as events_ros_bounds
from lazystore.sources.events.ros import ROS
from lazystore.sources.events.ros_messages import parse_cdr, parse_ros1
from lazystore.testing import check_source
from tests.sources.event_containers import ros_messages, ros_types, write_ros1, write_ros2
from tests.sources.event_files import HEIGHT, WIDTH, Events, some_events

EVENTS = some_events(700)
KINDS = {"ros1": "a.bag", "mcap": "mcap", "sqlite3": "sqlite3"}


def make_bag(folder: Path, kind: str) -> Path:
    path = folder / KINDS[kind]
    if kind == "ros1":
        write_ros1(path, EVENTS)
    else:
        write_ros2(path, EVENTS, kind.upper())
    return path


def open_one(path: Path) -> Source:
    (source,) = ROS.open(path, {})
    return source


@pytest.mark.parametrize("kind", KINDS)
def test_bags_keep_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Each kind of bag gives the events that were written, in any order of reads."""
    monkeypatch.setattr(events_blocks, "CHECKPOINT_EVENTS", 150)
    path = make_bag(tmp_path, kind)
    check_source(lambda: open_one(path), EVENTS.columns, max_records=300)
    with closing(open_one(path)) as source:
        assert source.info.item_attributes["sensor"] == [WIDTH, HEIGHT]
        assert source.info.attributes["topic"] == "/dvs/events"
        assert source.info.attributes["epoch_utc"] == "1970-01-01T00:00:00Z"
        assert source.info.problems == ()
        source.read(200, 300)
        source.close()
        again = pickle.loads(pickle.dumps(source))
        for one in (source, again):
            np.testing.assert_array_equal(one.read(260, 650).columns["x"], EVENTS.x[260:650])
        again.close()


@pytest.mark.parametrize("kind", ["mcap", "sqlite3"])
def test_a_file_of_ros2_alone(tmp_path: Path, kind: str) -> None:
    """The file inside a ROS 2 folder is a recording as well."""
    folder = make_bag(tmp_path, kind)
    (path,) = [file for file in folder.iterdir() if file.suffix != ".yaml"]
    claim = ROS.recognise(path, path.read_bytes()[:4096])
    assert claim is not None
    with closing(open_one(path)) as source:
        np.testing.assert_array_equal(source.read(0, 700).columns["t"], EVENTS.t)


def test_messages_of_one_time_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints between messages with the same time neither skip nor repeat one."""
    monkeypatch.setattr(events_blocks, "CHECKPOINT_EVENTS", 100)
    still = Events(np.full(700, EVENTS.t[0]), EVENTS.x, EVENTS.y, EVENTS.p)
    path = tmp_path / "a.bag"
    write_ros1(path, still)
    source: Any = open_one(path)
    assert len(source._checkpoints) > 5
    for start in (650, 350, 100, 0, 550):
        np.testing.assert_array_equal(
            source.read(start, start + 50).columns["x"], EVENTS.x[start : start + 50]
        )
    source.close()


def test_two_topics_give_two_items(tmp_path: Path) -> None:
    """Each camera is an item of its own, named by its topic."""
    path = tmp_path / "a.bag"
    write_ros1(path, EVENTS, ("/left/events", "/right/events"), compress=False)
    left, right = ROS.open(path, {})
    assert (left.info.suffix, right.info.suffix) == ("", "right-events")
    for source in (left, right):
        np.testing.assert_array_equal(source.read(0, 700).columns["y"], EVENTS.y)
        source.close()


@settings(max_examples=60)
@given(
    name=st.text("abc", max_size=9),
    rows=st.lists(
        st.tuples(
            st.integers(0, 65535), st.integers(0, 65535), st.integers(0, 2**31 - 1),
            st.integers(0, 10**9 - 1), st.booleans(),
        ),
        max_size=5,
    ),
)  # fmt: skip
@pytest.mark.parametrize("version", [1, 2])
def test_messages_equal_rosbags(version: int, name: str, rows: list[tuple[int, int, int, int, bool]]) -> None:
    """Any message that rosbags serialises is read back, whatever its alignment."""
    store = ros_types(version)
    (_, message), *_ = ros_messages(store, version, some_events(1))
    time = type(message.header.stamp)
    event = type(message.events[0])
    message = type(message)(
        header=message.header,
        height=7,
        width=9,
        events=[event(x=x, y=y, ts=time(sec=s, nanosec=ns), polarity=p) for x, y, s, ns, p in rows],
    )
    message.header.frame_id = name
    kind = "dvs_msgs/msg/EventArray"
    if version == 1:
        parsed = parse_ros1(bytes(store.serialize_ros1(message, kind)))
    else:
        parsed = parse_cdr(bytes(store.serialize_cdr(message, kind)))
    assert (parsed.width, parsed.height) == (9, 7)
    assert [(*map(int, row.tolist()[:4]), bool(row["p"])) for row in parsed.rows] == rows


def test_messages_that_do_not_fit_are_refused() -> None:
    """Bytes that are too few, too many or of another byte order raise, and nothing is read beyond them."""
    store = {version: ros_types(version) for version in (1, 2)}
    kind = "dvs_msgs/msg/EventArray"
    first = bytes(store[1].serialize_ros1(ros_messages(store[1], 1, some_events(3))[0][1], kind))
    second = bytes(store[2].serialize_cdr(ros_messages(store[2], 2, some_events(3))[0][1], kind))
    for parse, data in ((parse_ros1, first), (parse_cdr, second)):
        assert len(parse(data).rows) == 3
        for length in range(len(data) - 4):
            with pytest.raises(ValueError, match=r"events in -?\d+ bytes|a message of \d+ bytes|an encoding"):
                parse(data[:length])
        with pytest.raises(ValueError, match=r"3 events in \d+ bytes"):
            parse(data + bytes(40))
    with pytest.raises(ValueError, match=r"an encoding 0000 that is not little-endian CDR"):
        parse_cdr(b"\0\0" + second[2:])


def test_nanoseconds_are_rounded_and_reported(tmp_path: Path) -> None:
    """Times that µs cannot hold are rounded to the nearest one."""
    from rosbags.rosbag1 import Writer

    store = ros_types(1)
    (time, message), *_ = ros_messages(store, 1, some_events(3))
    for event, nanoseconds in zip(message.events, (1499, 1500, 2000), strict=True):
        event.ts.sec, event.ts.nanosec = 1, nanoseconds
    path = tmp_path / "a.bag"
    with Writer(path) as writer:
        link = writer.add_connection("/e", "dvs_msgs/msg/EventArray", typestore=store)
        writer.write(link, time, store.serialize_ros1(message, "dvs_msgs/msg/EventArray"))
        writer.write(link, time + 1, b"\0" * 50)
    with closing(open_one(path)) as source:
        assert source.read(0, 3).columns["t"].tolist() == [1_000_001, 1_000_002, 1_000_002]
        assert source.info.problems == (
            "times were rounded to whole µs, by up to 0.5 µs",
            "1 of 2 messages do not decode; their events are lost",
        )


def test_a_damaged_chunk_ends_the_bag(tmp_path: Path) -> None:
    """What lies behind a chunk that does not decompress is lost, and that is said."""
    path = tmp_path / "a.bag"
    write_ros1(path, EVENTS)
    data = bytearray(path.read_bytes())
    at = data.index(b"\x04\x22\x4d\x18")
    data[at + 40 : at + 80] = bytes(40)
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"holds no events \(the bag cannot be read beyond message 0 "):
        open_one(path)


@pytest.mark.parametrize("kind", ["lz4", "bz2", "mcap lz4", "mcap zstd", "messages"])
def test_bombs_in_bags_are_not_inflated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Chunks and messages beyond the limit are damage."""
    from rosbags.rosbag1 import Writer

    path = tmp_path / "bag"
    if kind in ("lz4", "bz2"):
        path = tmp_path / "a.bag"
        writer = Writer(path)
        writer.set_compression(Writer.CompressionFormat[kind.upper()])
        store = ros_types(1)
        with writer:
            link = writer.add_connection("/dvs/events", "dvs_msgs/msg/EventArray", typestore=store)
            for time, message in ros_messages(store, 1, EVENTS):
                writer.write(link, time, store.serialize_ros1(message, "dvs_msgs/msg/EventArray"))
    elif kind == "messages":
        write_ros2(path, EVENTS, "SQLITE3", "MESSAGE")
    else:
        write_ros2(path, EVENTS, "MCAP", "STORAGE")
    if kind == "mcap lz4":
        pytest.importorskip("lz4.frame")
        as_lz4(path)
    with closing(open_one(path)) as source:
        np.testing.assert_array_equal(source.read(0, 700).columns["t"], EVENTS.t)
    monkeypatch.setattr(events_ros_bounds, "MAX_CHUNK_BYTES", 100)
    with pytest.raises(SourceError, match=r"holds no events|declares \d+ bytes; at most 100 are read"):
        open_one(path)


@pytest.mark.parametrize("storage", ["MCAP", "SQLITE3"])
def test_a_bag_compressed_as_a_whole_is_inflated_within_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, storage: str
) -> None:
    """It goes to the disk first, which a few kilobytes must not fill; other users of the package stay."""
    from rosbags.rosbag2 import reader

    write_ros2(tmp_path / "bag", EVENTS, storage, "FILE")
    for _ in range(2):
        with closing(open_one(tmp_path / "bag")) as source:
            np.testing.assert_array_equal(source.read(0, 700).columns["t"], EVENTS.t)
    assert reader.zstd.decompress(reader.zstd.compress(b"abc")) == b"abc"
    monkeypatch.setattr(events_ros_bounds, "SMALL_FILE_BYTES", 10)
    monkeypatch.setattr(events_ros_bounds, "MAX_RATIO", 1)
    with pytest.raises(SourceError, match=r"a file of \d+ bytes that inflates beyond 1 times its size"):
        open_one(tmp_path / "bag")


def test_a_chunk_that_holds_more_than_it_declares_is_not_inflated(tmp_path: Path) -> None:
    """It stops at the declared size, whatever the limit."""
    pytest.importorskip("lz4.frame")
    write_ros2(tmp_path / "bag", EVENTS, "MCAP", "STORAGE")
    as_lz4(tmp_path / "bag", declared_bytes=500)
    with pytest.raises(SourceError, match=r"an LZ4 frame that is cut off or over 500 bytes"):
        open_one(tmp_path / "bag")


def as_lz4(folder: Path, declared_bytes: int | None = None) -> None:
    """The one chunk of an MCAP file compressed with LZ4, which rosbags reads and does not write."""
    from lz4.frame import compress
    from rosbags.rosbag2 import storage_mcap

    (path,) = folder.glob("*.mcap")
    plain = path.read_bytes()
    at = plain.index(b"zstd")
    chunk_at = at - 4 - 9 - 28
    size = int.from_bytes(plain[at + 4 : at + 12], "little")
    content = storage_mcap.zstd.decompress(plain[at + 12 : at + 12 + size])
    head = bytearray(plain[chunk_at + 9 : at - 4])
    if declared_bytes is not None:
        head[16:24] = declared_bytes.to_bytes(8, "little")
    body = bytes(head) + b"\x03\0\0\0lz4"
    stored = compress(content)
    body += len(stored).to_bytes(8, "little") + stored
    # Without an index the file is scanned from its start; the summary is left out.
    path.write_bytes(
        plain[: chunk_at + 1]
        + len(body).to_bytes(8, "little")
        + body
        + b"\x0f" + (4).to_bytes(8, "little") + bytes(4)
        + b"\x02" + (20).to_bytes(8, "little") + bytes(20)
        + b"\x89MCAP0\r\n"
    )  # fmt: skip


def test_bags_without_events_are_refused(tmp_path: Path) -> None:
    """A bag of other messages says what it holds; a cut one, how to repair it."""
    from rosbags.rosbag1 import Writer

    path = tmp_path / "a.bag"
    store = ros_types(1)
    with Writer(path) as writer:
        link = writer.add_connection("/s", "std_msgs/msg/String", typestore=store)
        message = store.types["std_msgs/msg/String"](data="hello")
        writer.write(link, 1, store.serialize_ros1(message, "std_msgs/msg/String"))
    assert ROS.recognise(path, path.read_bytes()[:4096]) is None
    with pytest.raises(SourceError, match=r"holds no messages of dvs_msgs/.*; it holds std_msgs"):
        ROS.open(path, {})
    write_ros1(path.with_name("b.bag"), EVENTS)
    cut = path.with_name("b.bag")
    cut.write_bytes(cut.read_bytes()[:-50])
    with pytest.raises(SourceError, match=r"cannot be opened as a ROS bag \(.*\); repair it with"):
        ROS.open(cut, {})
    assert ROS.recognise(tmp_path, b"") is None
