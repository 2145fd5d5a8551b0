"""Metavision HDF5: the Event Compression Format against vectors by hand, a slow encoder, and junk."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lazystore.errors import SourceError
from lazystore.sources.events.kernels import ecf
from lazystore.sources.events.metavision import METAVISION
from lazystore.testing import check_source
from tests.sources.event_files import HEIGHT, METAVISION_EVENT, WIDTH, Events, some_events, write_metavision
from tests.sources.event_oracles import encode_ecf

EVENTS = some_events(1000)


def test_metavision_keeps_the_contract(tmp_path: Path) -> None:
    """ECF chunks of all three packings, the last one shorter, decode to the events that went in."""
    path = tmp_path / "a.hdf5"
    write_metavision(path, EVENTS)
    check_source(lambda: METAVISION.open(path, {})[0], EVENTS.columns, max_records=300)
    with closing(METAVISION.open(path, {})[0]) as source:
        side = {array.path: array.values.tolist() for array in source.info.side}
        assert [side[f"triggers/{name}"] for name in ("t", "id", "p")] == [
            list(c) for c in zip(*EVENTS.triggers, strict=True)
        ]
        assert source.info.item_attributes["sensor"] == [WIDTH, HEIGHT]
        assert source.info.attributes["recorded"] == "2024-02-03 04:05:06"
        again = pickle.loads(pickle.dumps(source))
        np.testing.assert_array_equal(again.read(5, 900).columns["x"], EVENTS.x[5:900])
        again.close()


def test_a_heap_that_hangs_hdf5_is_refused(tmp_path: Path) -> None:
    """A text heap with an endless entry is an error; HDF5 itself would never come back from it."""
    path = tmp_path / "a.hdf5"
    write_metavision(path, EVENTS)
    data = bytearray(path.read_bytes())
    at = data.index(b"2024-02-03 04:05:06") + 24
    assert int.from_bytes(data[at + 8 : at + 16], "little") > 0
    data[at : at + 16] = bytes(16)
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"the heap of its text attributes is damaged; rewrite the file"):
        METAVISION.open(path, {})


def test_damaged_triggers_do_not_cost_the_events(tmp_path: Path) -> None:
    """Events without their triggers are better than nothing, and the loss is told."""
    path = tmp_path / "a.hdf5"
    write_metavision(path, EVENTS)
    with h5py.File(path, "r+") as file:
        del file["EXT_TRIGGER/events"]
        file["EXT_TRIGGER/events"] = np.zeros(3, [("t", "i8"), ("id", "i2")])
    with closing(METAVISION.open(path, {})[0]) as source:
        assert source.info.length == len(EVENTS)
        (problem,) = source.info.problems
        assert problem.startswith("triggers cannot be read: ")


def test_chunks_that_were_stored_without_ecf(tmp_path: Path) -> None:
    """A chunk that HDF5 marks as not filtered holds the rows themselves."""
    path = tmp_path / "a.hdf5"
    write_metavision(path, EVENTS)
    rows = np.zeros(128, METAVISION_EVENT)
    for name, values in EVENTS.columns.items():
        rows[name] = values[256:384]
    with h5py.File(path, "r+") as file:
        file["CD/events"].id.write_direct_chunk((256,), rows.tobytes(), 1)
    with closing(METAVISION.open(path, {})[0]) as source:
        np.testing.assert_array_equal(source.read(200, 500).columns["x"], EVENTS.x[200:500])
    with h5py.File(path, "r+") as file:
        file["CD/events"].id.write_direct_chunk((256,), rows.tobytes()[:99], 1)
    with pytest.raises(SourceError, match=r"from event 256 on does not decode \(the chunk is cut"):
        METAVISION.open(path, {})


def test_other_compounds_are_not_events(tmp_path: Path) -> None:
    """A dataset of that name with other fields is left alone; one without triggers is fine."""
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        file["CD/events"] = np.zeros(5, [("a", "i8")])
    assert METAVISION.recognise(path, path.read_bytes()[:4096]) is None
    write_metavision(path, Events(EVENTS.t, EVENTS.x, EVENTS.y, EVENTS.p))
    with closing(METAVISION.open(path, {})[0]) as source:
        assert source.info.side == ()
        assert source.info.problems == ()


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_metavision_without_ecf(tmp_path: Path, compression: str | None) -> None:
    """The same rows stored plainly, or by another filter, read the same."""
    rows = np.zeros(len(EVENTS), METAVISION_EVENT)
    for name, values in EVENTS.columns.items():
        rows[name] = values
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        file.create_dataset("CD/events", data=rows, chunks=(70,), compression=compression)
    check_source(lambda: METAVISION.open(path, {})[0], EVENTS.columns, max_records=300)


def decoded(data: bytes) -> list[tuple[int, int, int, int]]:
    raw = np.frombuffer(data, np.uint8)
    count = int(ecf.count_ecf(raw))
    columns = [np.zeros(count, kind) for kind in ("i8", "u2", "u2", "u1")]
    read = ecf.decode_ecf(raw, *columns)
    assert read == len(data)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def u32(*values: int) -> bytes:
    return np.array(values, "<u4").tobytes()


def u16(*values: int) -> bytes:
    return np.array(values, "<u2").tobytes()


ECF_VECTORS = {
    "one event, everything packed": (
        u32(1 << 2 | 2) + (1000).to_bytes(8, "little") + bytes([0x01]) + u32(0x900B << 8, 0, 0),
        [(1000, 5, 9, 1)],
    ),
    "steps below 15 and a run": (
        u32(3 << 2 | 1) + bytes(8) + bytes([0x71, 0xE2]) + u16(4 << 5 | 3)
        + u16((10 << 1 | 1) << 4 | (11 << 1) & 15, (11 << 1) >> 4 << 8 | (12 << 1 | 1) & 255, 0),
        [(7, 10, 4, 1), (21, 11, 4, 0), (21, 12, 4, 1)],
    ),
    "a long step in parts of four bits, a run of 15 and more, masked columns": (
        u32(18 << 2) + (5).to_bytes(8, "little") + bytes([0xF4, 0xF3, 0xF2, 0x0F, 18, 0])
        + u16(2 << 5 | 18) + b"".join(u16(x << 5 | 31) for x in (0, 100, 200)) + bytes([0x80 | 18]),
        [(5 + 0x234, first + step, 2, 1) for first in (0, 100, 200) for step in range(6)],
    ),
    "long runs of rows and polarities": (
        u32(200 << 2) + bytes(8) + bytes([0x0F, 200, 0]) + u16(6 << 5 | 31, 200)
        + u16(3 << 5) * 200 + bytes([127, 200, 0]),
        [(0, 3, 6, 0)] * 200,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ECF_VECTORS)
def test_ecf_vectors(case: str) -> None:
    """Chunks put together by hand from the published layout."""
    data, expected = ECF_VECTORS[case]
    assert decoded(data) == expected


# Chunks that the camera maker's own encoder made (prophesee-ai/hdf5_ecf, Apache-2.0) of events drawn at
# random: what was packed, its bytes, and the columns that went in.
VENDOR_VECTORS: dict[str, tuple[str, dict[str, list[int]]]] = {
    "rows, columns and polarities packed together": (
        "6200000041420f00000000000111171111111111111111111112111292f0930b8b65b81b554011224ba6b7147738d72c"
        "c0212c24a1e5101138c0d81e6a451d2affcdd025cfa4f21e3a84111f480964270c0010063f71201ab414002641e5a617"
        "79f60d10",
        {
            "t": [
                1000001,
                1000002,
                1000003,
                1000003,
                1000003,
                1000003,
                1000003,
                1000003,
                1000003,
                1000004,
                1000005,
                1000006,
                1000007,
                1000008,
                1000009,
                1000010,
                1000011,
                1000012,
                1000013,
                1000014,
                1000014,
                1000015,
                1000016,
                1000016,
            ],
            "x": [
                504,
                1097,
                709,
                42,
                979,
                933,
                1083,
                224,
                114,
                1104,
                28,
                693,
                102,
                383,
                615,
                541,
                516,
                36,
                6,
                159,
                10,
                858,
                672,
                828,
            ],
            "y": [
                185,
                443,
                550,
                276,
                331,
                717,
                579,
                706,
                273,
                493,
                684,
                468,
                605,
                495,
                506,
                280,
                630,
                97,
                416,
                519,
                608,
                378,
                270,
                223,
            ],
            "p": [0, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0, 0, 1, 1, 1, 0, 1, 0, 0, 1, 0, 0, 1, 1],
        },
    ),
    "columns and polarities packed": (
        "6100000041420f0000000000011117111111111111111111111211126823284de83146054b7a7778141ca10e3980bd56"
        "ff0ccf24a94348400d00f513b501406582672629a367",
        {
            "t": [
                1000001,
                1000002,
                1000003,
                1000003,
                1000003,
                1000003,
                1000003,
                1000003,
                1000003,
                1000004,
                1000005,
                1000006,
                1000007,
                1000008,
                1000009,
                1000010,
                1000011,
                1000012,
                1000013,
                1000014,
                1000014,
                1000015,
                1000016,
                1000016,
            ],
            "x": [
                42,
                979,
                933,
                1083,
                224,
                114,
                1104,
                28,
                693,
                102,
                383,
                615,
                541,
                516,
                36,
                6,
                159,
                10,
                858,
                672,
                828,
                329,
                787,
                977,
            ],
            "y": [
                283,
                283,
                283,
                283,
                283,
                283,
                283,
                283,
                617,
                617,
                617,
                617,
                617,
                617,
                617,
                617,
                399,
                399,
                399,
                399,
                399,
                399,
                399,
                399,
            ],
            "p": [0, 0, 1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 0, 1, 0, 1, 1, 1, 1, 0, 0, 0, 0, 1],
        },
    ),
    "masked columns": (
        "6000000041420f0000000000011117111111111111111111111211126823284de8311905240680072009b972c4732075"
        "c076796d846ee06f80718c0c",
        {
            "t": [
                1000001,
                1000002,
                1000003,
                1000003,
                1000003,
                1000003,
                1000003,
                1000003,
                1000003,
                1000004,
                1000005,
                1000006,
                1000007,
                1000008,
                1000009,
                1000010,
                1000011,
                1000012,
                1000013,
                1000014,
                1000014,
                1000015,
                1000016,
                1000016,
            ],
            "x": [
                40,
                41,
                42,
                45,
                49,
                52,
                60,
                73,
                917,
                918,
                919,
                922,
                926,
                929,
                937,
                950,
                875,
                876,
                877,
                880,
                884,
                887,
                895,
                908,
            ],
            "y": [
                283,
                283,
                283,
                283,
                283,
                283,
                283,
                283,
                617,
                617,
                617,
                617,
                617,
                617,
                617,
                617,
                399,
                399,
                399,
                399,
                399,
                399,
                399,
                399,
            ],
            "p": [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        },
    ),
}


@pytest.mark.parametrize("case", VENDOR_VECTORS)
def test_ecf_chunks_of_the_vendors_encoder(case: str) -> None:
    """Decoded to the events that it was given."""
    data, columns = VENDOR_VECTORS[case]
    assert decoded(bytes.fromhex(data)) == list(zip(*(columns[name] for name in "txyp"), strict=True))


@settings(max_examples=80)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from([0, 0, 0, 1, 14, 15, 16, 300, 1 << 40]),
            st.integers(0, 2047),
            st.sampled_from([0, 1, 1, 1, 2, 6]),
            st.sampled_from([0, 0, 0, 1, 5]),
            st.integers(0, 1),
            st.sampled_from([1, 1, 2, 40, 140]),
        ),
        min_size=1,
        max_size=30,
    ),
    mode=st.sampled_from(["masked", "columns", "rows"]),
)
def test_ecf_round_trip(rows: list[tuple[int, int, int, int, int, int]], mode: str) -> None:
    """Any sorted events, with runs and neighbours of every length, come back from each packing."""
    events = []
    t = x = y = 0
    for step, jump, near, row, p, repeat in rows:
        t, y = t + step, (y + row) % 2048
        for _ in range(repeat):
            x = (x + near) % 2048 if near else jump
            events.append((t, x, y, p))
    table = np.array(events, np.int64)
    columns = {
        name: table[:, at].astype(kind)
        for at, (name, kind) in enumerate(zip("txyp", ("i8", "u2", "u2", "u1"), strict=True))
    }
    assert decoded(encode_ecf(**columns, mode=mode)) == events


@settings(max_examples=150)
@given(data=st.binary(min_size=4, max_size=120))
def test_ecf_never_reads_beyond_a_chunk(data: bytes) -> None:
    """Any bytes either decode within themselves or are refused."""
    raw = np.frombuffer(data, np.uint8).copy()
    raw[1:4] = 0
    columns = [np.zeros(int(ecf.count_ecf(raw)), kind) for kind in ("i8", "u2", "u2", "u1")]
    read = ecf.decode_ecf(raw, *columns)
    assert read in (ecf.CUT_OFF, ecf.TOO_LONG_RUN, ecf.TOO_LARGE_STEP) or 0 < read <= len(data)


ECF_DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut off": (
        lambda data: data[: len(data) // 2],
        r"on does not decode \(the chunk is cut off\)",
    ),
    "too few": (lambda data: u32(5 << 2) + data[4:], r"the chunk declares 5 events instead of 128"),
    "too many": (lambda data: u32(1 << 31) + data[4:], r"the chunk declares \d+ events instead of 128"),
    "a run too long": (
        lambda data: data[:12] + b"\x0f\xff\xff" + data[12:],
        r"a run goes past the chunk",
    ),
    "an endless step": (lambda data: data[:12] + b"\xff" * 20 + data[12:], r"a time step is too large"),
}


@pytest.mark.parametrize("case", ECF_DAMAGE)
def test_damaged_ecf_chunks_are_named(tmp_path: Path, case: str) -> None:
    """A chunk that does not decode is an error that says where and why."""
    damage, message = ECF_DAMAGE[case]
    path = tmp_path / "a.hdf5"
    write_metavision(path, EVENTS, lambda **part: damage(encode_ecf(**part)))
    with pytest.raises(SourceError, match=message):
        METAVISION.open(path, {})
