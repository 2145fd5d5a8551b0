"""Arrays of others through zarr-python, and everything that a hostile one may try."""

from __future__ import annotations

import asyncio
import bz2
import json
import lzma
import pickle
import shutil
import subprocess
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.core.buffer import default_buffer_prototype

from lazystore.errors import DamagedStoreError, HostileStoreError, LazystoreError, StoreError
from lazystore.protocols import ChunkReader
from lazystore.store.bounded import decompress_bounded, zstd_content_size
from lazystore.store.direct import read_array
from lazystore.store.fallback import GuardedStore, ZarrPythonReader
from lazystore.store.foreign import open_foreign
from lazystore.store.foreign_metadata import check_foreign_document
from lazystore.store.location import LocalLocation
from lazystore.testing import check_chunk_reader

V2_COMPRESSORS: dict[str, Any] = {
    "none": None,
    "blosc": numcodecs.Blosc("lz4", 5, 1),
    "zstd": numcodecs.Zstd(3),
    "gzip": numcodecs.GZip(5),
    "zlib": numcodecs.Zlib(5),
    "lz4": numcodecs.LZ4(),
    "bz2": numcodecs.BZ2(1),
    "lzma": numcodecs.LZMA(preset=0),
}


def values_of(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    return (np.arange(np.prod(shape)) % 113).reshape(shape).astype(dtype)


def v2_array(folder: Path, values: np.ndarray, **options: Any) -> ZarrPythonReader:
    array = zarr.create_array(
        str(folder), shape=values.shape, dtype=values.dtype, zarr_format=2, **{"chunks": (4, 3), **options}
    )
    array[...] = values
    return v2_reader(folder)


def v2_reader(folder: Path, **options: Any) -> ZarrPythonReader:
    document = json.loads((folder / ".zarray").read_text())
    return ZarrPythonReader(LocalLocation(folder), "", document, fill_absent=True, **options)


def v3_reader(folder: Path, **options: Any) -> ZarrPythonReader:
    document = json.loads((folder / "zarr.json").read_text())
    return ZarrPythonReader(LocalLocation(folder), "", document, **{"fill_absent": True, **options})


@pytest.mark.parametrize("compressor", V2_COMPRESSORS)
def test_v2_arrays_of_every_compressor(tmp_path: Path, compressor: str) -> None:
    """Values, edges and the reader's contract, whatever the compressor on our list."""
    values = values_of("<i4", (10, 7))
    reader = v2_array(tmp_path, values, compressors=V2_COMPRESSORS[compressor])
    check_chunk_reader(lambda: v2_reader(tmp_path), values)
    assert reader.spec.dims == ("dim_0", "dim_1")
    assert not reader.read_chunk((2, 2)).flags.writeable
    np.testing.assert_array_equal(read_array(reader), values)


@pytest.mark.parametrize(
    "filters",
    [
        [numcodecs.Delta("<i4")],
        [numcodecs.FixedScaleOffset(offset=0, scale=1, dtype="<i4", astype="<i8")],
        [numcodecs.AsType("<f8", "<i4")],
        [numcodecs.Shuffle(4)],
    ],
)
def test_v2_filters_that_widen_numbers_stay_within_the_bound(tmp_path: Path, filters: list[Any]) -> None:
    """A filter may store wider numbers than the array declares; that is no bomb."""
    values = values_of("<i4", (40, 30))
    reader = v2_array(tmp_path, values, filters=filters, compressors=numcodecs.Zstd(1), chunks=(40, 30))
    np.testing.assert_array_equal(read_array(reader), values)


@pytest.mark.parametrize("dtype", [">i2", ">f8", "<M8[ns]", "?", "<c16", "<f2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_v2_orders_and_byte_orders(tmp_path: Path, dtype: str, order: str) -> None:
    """Whatever the order on disk, chunks come in C order and in this machine's byte order."""
    values = values_of(dtype, (10, 7))
    reader = v2_array(tmp_path, values, order=order)
    np.testing.assert_array_equal(read_array(reader), values)
    chunk = reader.read_chunk((0, 0))
    assert chunk.dtype.isnative
    assert chunk.flags.c_contiguous
    assert reader.spec.dtype.isnative


@st.composite
def foreign_v3(draw: st.DrawFn) -> dict[str, Any]:
    ndim = draw(st.integers(1, 3))
    shape = draw(st.tuples(*[st.integers(1, [40, 12, 7][ndim - 1])] * ndim))
    chunks = tuple(draw(st.integers(1, size)) for size in shape)
    times = draw(st.none() | st.integers(1, 3))
    return {
        "shape": shape,
        "chunks": chunks,
        "shards": times and tuple(times * chunk for chunk in chunks),
        "dtype": draw(st.sampled_from(["u1", "<i2", ">i4", "<f4", "<f8", "?"])),
        "compressors": draw(
            st.sampled_from(
                [
                    [zarr.codecs.ZstdCodec(level=1)],
                    [zarr.codecs.GzipCodec(level=1)],
                    [zarr.codecs.BloscCodec(cname="zlib", clevel=1)],
                    [zarr.codecs.ZstdCodec(level=1, checksum=True), zarr.codecs.Crc32cCodec()],
                    [zarr.codecs.BloscCodec(cname="lz4"), zarr.codecs.GzipCodec(level=1)],
                    None,
                ]
            )
        ),
        "filters": draw(
            st.sampled_from([None, [zarr.codecs.TransposeCodec(order=tuple(range(ndim))[::-1])]])
        ),
        "fill_value": draw(st.integers(0, 1)),
        "written": draw(st.integers(1, shape[0])),
    }


@given(foreign_v3())
@settings(max_examples=40)
def test_v3_arrays_equal_zarr_python(layout: dict[str, Any]) -> None:
    """zarr-python's defaults and others: same values, and fill values where nothing was written."""
    with tempfile.TemporaryDirectory() as folder:
        names = ("shape", "chunks", "shards", "dtype", "compressors", "filters", "fill_value")
        array = zarr.create_array(folder, **{name: layout[name] for name in names})
        rows = layout["written"]
        array[:rows] = values_of(layout["dtype"], layout["shape"])[:rows]
        tree = open_foreign(LocalLocation(folder))
        assert list(tree.arrays) == [""]
        reader = tree.arrays[""]
        assert isinstance(reader, ChunkReader)
        np.testing.assert_array_equal(read_array(reader), zarr.open_array(folder, mode="r")[...])


@pytest.mark.parametrize(("zarr_format", "sharded"), [(2, False), (3, False), (3, True)])
def test_text_of_others(tmp_path: Path, zarr_format: int, sharded: bool) -> None:
    """Names in a foreign store come as plain text, longer ones too."""
    texts = ["", "Mäuse", "x" * 100, "d", "e"]
    array = zarr.create_array(
        str(tmp_path), shape=(5,), chunks=(2,), dtype="string", zarr_format=zarr_format,
        **({"shards": (4,)} if sharded else {}),
    )  # fmt: skip
    array[...] = np.array(texts, object)
    reader = open_foreign(LocalLocation(tmp_path)).arrays[""]
    assert reader.spec.is_text
    assert read_array(reader).tolist() == texts
    assert reader.read_chunk((0,)).dtype.kind == "U"


@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
@pytest.mark.parametrize("dtype", ["S6", "U6"])
def test_text_of_fixed_length(tmp_path: Path, dtype: str) -> None:
    """Byte strings are read as UTF-8."""
    reader = v2_array(tmp_path, np.array(["ab", "c", ""], dtype), chunks=(2,))
    assert read_array(reader).tolist() == ["ab", "c", ""]


def test_absent_chunks_are_damage_unless_told_otherwise(tmp_path: Path) -> None:
    """On a store where every chunk was promised, an absent file is never a fill value."""
    array = zarr.create_array(str(tmp_path), shape=(6,), chunks=(3,), dtype="u1", fill_value=7)
    array[:3] = 1
    assert v3_reader(tmp_path).read_chunk((1,)).tolist() == [7, 7, 7]
    strict = v3_reader(tmp_path, fill_absent=False, generation="g")
    assert strict.generation == "g"
    assert strict.read_chunk((0,)).tolist() == [1, 1, 1]
    with pytest.raises(DamagedStoreError, match=r"chunk \(1,\): 'c/1' is missing from"):
        strict.read_chunk((1,))
    copy = pickle.loads(pickle.dumps(strict))
    with pytest.raises(DamagedStoreError, match="missing"):
        copy.read_chunk((1,))
    assert copy.spec == strict.spec
    assert "shape=(6,)" in repr(copy)


def test_damage_is_an_error_of_ours(tmp_path: Path) -> None:
    """What zarr-python or a codec raises becomes one line that names array and chunk."""
    values = values_of("<i4", (8, 6))
    reader = v2_array(tmp_path, values, compressors=numcodecs.Zstd(3))
    chunk = tmp_path / "0.0"
    content = chunk.read_bytes()
    for damaged in (content[:-3], b"nonsense", b"", content[:9]):
        chunk.write_bytes(damaged)
        with pytest.raises(DamagedStoreError, match=r"array '', chunk \(0, 0\)"):
            reader.read_chunk((0, 0))
    chunk.write_bytes(numcodecs.Zstd(3).encode(b"\0" * 44))
    with pytest.raises(DamagedStoreError, match="cannot be read by zarr-python"):
        reader.read_chunk((0, 0))
    with pytest.raises(IndexError, match="lies outside"):
        reader.read_chunk((2, 0))


# --- bombs --------------------------------------------------------------------------------------

ZEROS = 50_000_000
BOMBS = {
    "blosc": lambda: numcodecs.Blosc("zstd", 9, 0).encode(np.zeros(ZEROS, "u1")),
    "zstd": lambda: numcodecs.Zstd(3).encode(b"\0" * ZEROS),
    "gzip": lambda: numcodecs.GZip(9).encode(b"\0" * ZEROS),
    "zlib": lambda: zlib.compress(b"\0" * ZEROS, 9),
    "lz4": lambda: numcodecs.LZ4().encode(b"\0" * ZEROS),
    "bz2": lambda: bz2.compress(b"\0" * ZEROS),
    "lzma": lambda: lzma.compress(b"\0" * ZEROS, preset=0),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_not_unfolded(tmp_path: Path, name: str) -> None:
    """A small chunk that stands for 50 MB where 48 bytes are declared stops at the bound, at once."""
    reader = v2_array(tmp_path, values_of("<i4", (8, 6)), compressors=V2_COMPRESSORS[name])
    bomb = BOMBS[name]()
    assert len(bomb) < ZEROS / 200
    (tmp_path / "0.0").write_bytes(bomb)
    start = time.monotonic()
    with pytest.raises(HostileStoreError, match=r"chunk \(0, 0\).* \d+ bytes (where|that fit)"):
        reader.read_chunk((0, 0))
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("sharded", [False, True])
@pytest.mark.parametrize("name", ["zstd", "gzip", "blosc"])
def test_bombs_in_v3_stores_are_not_unfolded(tmp_path: Path, name: str, sharded: bool) -> None:
    """Also below a shard, where the bomb is an inner chunk."""
    codec = {
        "zstd": zarr.codecs.ZstdCodec(level=3),
        "gzip": zarr.codecs.GzipCodec(level=9),
        "blosc": zarr.codecs.BloscCodec(cname="zstd", clevel=9, typesize=1, shuffle="noshuffle"),
    }[name]
    # The same bytes under another chunk size: what is declared afterwards is smaller.
    array = zarr.create_array(
        str(tmp_path), shape=(ZEROS,), chunks=(ZEROS,), shards=(ZEROS,) if sharded else None, dtype="u1",
        compressors=[codec], config={"write_empty_chunks": True},
    )  # fmt: skip
    array[...] = 0
    document = json.loads((tmp_path / "zarr.json").read_text())
    document["shape"] = [48]
    document["chunk_grid"]["configuration"]["chunk_shape"] = [48]
    if sharded:
        document["codecs"][0]["configuration"]["chunk_shape"] = [48]
    (tmp_path / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(HostileStoreError, match="where at most|that fit the array"):
        v3_reader(tmp_path).read_chunk((0,))


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_what_fits_is_decoded_and_rubbish_is_damage(name: str) -> None:
    """At the bound all is well, one byte below it is not, and cut data is damage."""
    data = b"abcd" * 100
    encoded = bytes((V2_COMPRESSORS[name]).encode(data))
    assert decompress_bounded(name, encoded, 400) == data
    with pytest.raises(HostileStoreError, match="400 bytes where at most 399|more than the 399 bytes"):
        decompress_bounded(name, encoded, 399)
    for cut in (len(encoded) // 2, 2):
        with pytest.raises(DamagedStoreError, match=f"{name}|Zstandard"):
            decompress_bounded(name, encoded[:cut], 400)


def test_zstd_frames_declare_their_size_in_four_ways() -> None:
    """Every width of the header's size field is read, and no frame is told from one."""
    for size in (1, 200, 300, 70_000, 200_000):
        assert zstd_content_size(numcodecs.Zstd(1).encode(b"\0" * size)) == size
    # Written out: one segment, eight bytes of size.
    assert zstd_content_size(b"\x28\xb5\x2f\xfd\xe0" + (2**40).to_bytes(8, "little") + b"\1\0\0") == 2**40
    with pytest.raises(DamagedStoreError, match="not a Zstandard frame: it begins with '61626364'"):
        zstd_content_size(b"abcdefgh")


def test_zstd_streams_without_a_size_need_the_array_to_tell(tmp_path: Path) -> None:
    """A streaming writer declares nothing; then the declared chunk is the bound, to the byte."""
    if shutil.which("zstd") is None:
        pytest.skip("no zstd command to make such a stream with")
    stream = subprocess.run(["zstd", "-c"], input=b"\0" * 48, capture_output=True, check=True).stdout
    assert zstd_content_size(stream) is None
    assert decompress_bounded("zstd", stream, 48, 48) == b"\0" * 48
    with pytest.raises(DamagedStoreError, match="declares no size"):
        decompress_bounded("zstd", stream, 48)
    with pytest.raises(DamagedStoreError, match="zstd cannot decode"):
        decompress_bounded("zstd", stream, 48, 40)
    reader = v2_array(tmp_path, np.ones((8, 6), "<i4"), compressors=numcodecs.Zstd(3))
    (tmp_path / "0.0").write_bytes(stream)
    assert reader.read_chunk((0, 0)).tolist() == [[0] * 3] * 4


# --- hostile and unreadable metadata --------------------------------------------------------------


def v3_document(**changes: Any) -> dict[str, Any]:
    return {
        "zarr_format": 3, "node_type": "array", "shape": [4], "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0, "codecs": [{"name": "bytes"}], "attributes": {}, **changes,
    }  # fmt: skip


def v2_document(**changes: Any) -> dict[str, Any]:
    return {
        "zarr_format": 2, "shape": [4], "chunks": [2], "dtype": "|u1", "compressor": None,
        "fill_value": 0, "order": "C", "filters": None, **changes,
    }  # fmt: skip


def sharding(chunk: Any, **changes: Any) -> list[dict[str, Any]]:
    configuration = {
        "chunk_shape": chunk, "codecs": [{"name": "bytes"}], "index_location": "end",
        "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
    }  # fmt: skip
    return [{"name": "sharding_indexed", "configuration": {**configuration, **changes}}]


def grid(chunk: list[int], name: str = "regular") -> dict[str, Any]:
    return {"name": name, "configuration": {"chunk_shape": chunk}}


HOSTILE: dict[str, tuple[dict[str, Any], type[LazystoreError], str]] = {
    "17 dimensions": (v2_document(shape=[1] * 17, chunks=[1] * 17), HostileStoreError, "17 dimensions"),
    "huge chunk": (v3_document(chunk_grid=grid([2**40])), HostileStoreError, "chunk of 1099511627776"),
    "huge chunk of wide items": (
        v2_document(dtype="<f8", chunks=[2**28]), HostileStoreError, "chunk of 2147483648 bytes",
    ),
    "huge text items": (
        v2_document(dtype="<U400000000", fill_value=""), HostileStoreError, "declares a chunk of",
    ),
    "huge shard": (
        v3_document(chunk_grid=grid([2**40]), codecs=sharding([1])), HostileStoreError, "chunks in a shard",
    ),
    "pickle": (v2_document(dtype="|O", filters=[{"id": "pickle"}]), StoreError, "codec 'pickle'"),
    "objects": (v2_document(dtype="|O"), StoreError, "objects as data type"),
    "json objects": (v2_document(dtype="|O", filters=[{"id": "json2"}]), StoreError, "codec 'json2'"),
    "unknown compressor": (v2_document(compressor={"id": "evil"}), StoreError, "codec 'evil'"),
    "structured": (v2_document(dtype=[["a", "<i4"]]), StoreError, "structured data type"),
    "void": (v2_document(dtype="|V8"), StoreError, r"data type '\|V8'"),
    "v2 ranks": (v2_document(chunks=[2, 2]), StoreError, "malformed metadata"),
    "negative": (v2_document(shape=[-1]), StoreError, "malformed metadata"),
    "boolean size": (v2_document(shape=[True]), StoreError, "malformed metadata"),
    "nothing": ({"zarr_format": 3}, StoreError, "malformed metadata"),
    "format": ({"zarr_format": 9}, StoreError, "Zarr format 9"),
    "group": (v3_document(node_type="group"), StoreError, "malformed"),
    "unknown codec": (v3_document(codecs=[{"name": "bytes"}, {"name": "evil"}]), StoreError, "codec 'evil'"),
    "pcodec": (v3_document(codecs=[{"name": "numcodecs.pcodec"}]), StoreError, "codec 'numcodecs.pcodec'"),
    "rectilinear": (v3_document(chunk_grid=grid([2], "rectilinear")), StoreError, "chunk grid 'rectilinear'"),
    "transformers": (v3_document(storage_transformers=[{}]), StoreError, "storage transformers"),
    "around shards": (
        v3_document(codecs=[*sharding([1]), {"name": "gzip"}]), StoreError, "codecs around its shards",
    ),
    "shards in shards": (
        v3_document(codecs=sharding([1], codecs=sharding([1]))), StoreError, "codec 'sharding_indexed'",
    ),
    "index codecs": (
        v3_document(codecs=sharding([1], index_codecs=[{"name": "gzip"}])), StoreError, "on a shard index",
    ),
    "uneven shards": (v3_document(chunk_grid=grid([3]), codecs=sharding([2])), StoreError, "malformed"),
    "v3 ranks": (v3_document(chunk_grid=grid([2, 2])), StoreError, "malformed metadata"),
    "v3 structured": (
        v3_document(data_type={"name": "structured", "configuration": {}}), StoreError, "type 'structured'",
    ),
    "v3 raw": (v3_document(data_type="r64"), StoreError, "data type 'r64'"),
    "v3 bytes": (v3_document(data_type="variable_length_bytes"), StoreError, "variable_length_bytes"),
    "no such type": (v3_document(data_type="int999"), StoreError, "zarr-python cannot read"),
    "bad codec settings": (
        v3_document(codecs=[{"name": "bytes"}, {"name": "gzip", "configuration": {"level": "x"}}]),
        StoreError, "zarr-python cannot read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_metadata_that_is_not_read(tmp_path: Path, case: str) -> None:
    """Sizes beyond every limit are hostile; codecs and types outside the list are named."""
    document, kind, message = HOSTILE[case]
    start = time.monotonic()
    with pytest.raises(kind, match=message):
        ZarrPythonReader(LocalLocation(tmp_path), "", document)
    assert time.monotonic() - start < 10


def test_a_huge_foreign_coordinate_is_not_loaded(tmp_path: Path) -> None:
    """10^12 values of one chunk each, in 300 bytes of metadata."""
    reader = ZarrPythonReader(LocalLocation(tmp_path), "", v3_document(shape=[10**12]), fill_absent=True)
    assert reader.spec.shape == (10**12,)
    with pytest.raises(HostileStoreError, match="1000000000000 bytes where at most"):
        read_array(reader)
    assert reader.read_chunk((5,)).tolist() == [0, 0]


def test_text_that_unfolds_when_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One long text among many would make a table of gigabytes."""
    monkeypatch.setattr("lazystore.store.fallback.MAX_TEXT_CHUNK_BYTES", 4000)
    texts = np.array(["x" * 500, "", ""], object)
    zarr.create_array(str(tmp_path), shape=(3,), chunks=(3,), dtype="string", compressors=None)[...] = texts
    with pytest.raises(HostileStoreError, match="3 texts of up to 500 characters"):
        v3_reader(tmp_path).read_chunk((0,))


def test_every_allowed_v3_name_is_known_to_zarr_python() -> None:
    """The list names codecs by the names that they are registered under."""
    from lazystore.store.foreign_metadata import ALLOWED_V3

    for name in ALLOWED_V3 - {"endian"}:
        assert zarr.registry.get_codec_class(name) is not None
    layout = check_foreign_document("a", v3_document())
    assert (layout.shape, layout.chunks, layout.shards) == ((4,), (2,), None)


# --- the guarded store and trees -------------------------------------------------------------------


def test_the_guarded_store_only_reads(tmp_path: Path) -> None:
    """No writing, no listing, ranges as asked for, and no read beyond the limits."""
    (tmp_path / "k").write_bytes(b"0123456789")
    store = GuardedStore(LocalLocation(tmp_path))
    prototype = default_buffer_prototype()

    def get(key: str, byte_range: Any = None) -> bytes | None:
        value = asyncio.run(store.get(key, prototype, byte_range))
        return None if value is None else value.to_bytes()

    from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest

    assert get("k") == b"0123456789"
    assert get("k", RangeByteRequest(2, 5)) == b"234"
    assert get("k", SuffixByteRequest(3)) == b"789"
    assert get("k", OffsetByteRequest(8)) == b"89"
    assert get("absent") is None
    assert asyncio.run(store.get_partial_values(prototype, [("absent", None)])) == [None]
    assert asyncio.run(store.exists("k"))
    assert not asyncio.run(store.exists("absent"))
    with pytest.raises(HostileStoreError, match="99999999999 bytes in one read"):
        get("k", RangeByteRequest(0, 99999999999))
    assert (store.supports_writes, store.supports_deletes, store.supports_listing) == (False, False, False)
    assert store.read_only
    for attempt in (store.set("k", prototype.buffer.from_bytes(b"")), store.delete("k")):
        with pytest.raises(ValueError, match="read-only"):
            asyncio.run(attempt)
    for listing in (store.list, lambda: store.list_prefix(""), lambda: store.list_dir("")):
        with pytest.raises(NotImplementedError, match="read by key"):
            listing()
    (tmp_path / "zarr.json").write_bytes(b" " * (16 * 1024 * 1024 + 1))
    with pytest.raises(DamagedStoreError, match="16777217 bytes where at most 16777216"):
        get("zarr.json")


@pytest.mark.filterwarnings("ignore::zarr.errors.UnstableSpecificationWarning")
@pytest.mark.filterwarnings("ignore::zarr.errors.ZarrUserWarning")
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("consolidated", [True, False])
def test_groups_of_others(tmp_path: Path, zarr_format: int, consolidated: bool) -> None:
    """Nested arrays and attributes are found with and without consolidated metadata."""
    root = zarr.create_group(str(tmp_path), zarr_format=zarr_format, attributes={"who": "me"})
    group = root.create_group("a/b", attributes={"n": 1})
    dims = {"dimension_names": ("time", "x")} if zarr_format == 3 else {}
    array = group.create_array("data", shape=(4, 3), chunks=(2, 3), dtype="f4", **dims)
    array[...] = 2
    if zarr_format == 2:
        array.attrs["_ARRAY_DIMENSIONS"] = ["time", "x"]
    array.attrs["units"] = "cm"
    root.create_array("bad", shape=(4,), chunks=(2,), dtype=np.dtype([("f", "<i4")]))
    if consolidated:
        zarr.consolidate_metadata(str(tmp_path))
    tree = open_foreign(LocalLocation(tmp_path))
    assert list(tree.arrays) == ["a/b/data"]
    spec = tree.arrays["a/b/data"].spec
    assert spec.dims == ("time", "x")
    assert spec.attributes["units"] == "cm"
    assert tree.attributes[""]["who"] == "me"
    assert tree.attributes["a/b"]["n"] == 1
    assert len(tree.problems) == 1
    assert "array 'bad' has" in tree.problems[0]
    np.testing.assert_array_equal(read_array(tree.arrays["a/b/data"]), np.full((4, 3), 2, "f4"))


def test_places_without_a_store(tmp_path: Path) -> None:
    """An empty folder, rubbish and damaged lists are told apart."""
    location = LocalLocation(tmp_path)
    with pytest.raises(StoreError, match="holds no Zarr array or group"):
        open_foreign(location)
    (tmp_path / ".zgroup").write_text('{"zarr_format": 2}')
    (tmp_path / ".zmetadata").write_text("[]")
    with pytest.raises(DamagedStoreError, match="not an object"):
        open_foreign(location)
    (tmp_path / ".zmetadata").write_text("{}")
    with pytest.raises(DamagedStoreError, match="zmetadata is damaged: it lists no arrays"):
        open_foreign(location)
    (tmp_path / "zarr.json").write_text("{")
    with pytest.raises(DamagedStoreError, match="is damaged: it is not JSON"):
        open_foreign(location)
    (tmp_path / "zarr.json").write_text(json.dumps(v3_document(shape=[1] * 17)))
    with pytest.raises(StoreError, match="malformed"):
        open_foreign(location)


def test_trees_that_never_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Depth and number of arrays are bounded; a linked folder is not followed."""
    location = LocalLocation(tmp_path)
    group = json.dumps({"zarr_format": 3, "node_type": "group", "attributes": {}})
    (tmp_path / "zarr.json").write_text(group)
    try:
        (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    except OSError:
        pytest.skip("this user may not make links")
    assert open_foreign(location).arrays == {}
    deep = tmp_path
    for _ in range(34):
        deep = deep / "d"
        deep.mkdir()
        (deep / "zarr.json").write_text(group)
    with pytest.raises(HostileStoreError, match="deeper than 32 levels"):
        open_foreign(location)
    shutil.rmtree(tmp_path / "d")
    monkeypatch.setattr("lazystore.store.foreign.MAX_ARRAYS", 2)
    for name in "abc":
        location.write(f"{name}/zarr.json", [json.dumps(v3_document()).encode()])
    with pytest.raises(HostileStoreError, match="more than 2 arrays"):
        open_foreign(location)
    merged = {"kind": "inline", "metadata": {"/".join("d" * 40): v3_document()}}
    document = {"zarr_format": 3, "node_type": "group", "attributes": {}, "consolidated_metadata": merged}
    (tmp_path / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(HostileStoreError, match="deeper than 32 levels"):
        open_foreign(location)


def test_paths_in_foreign_metadata_cannot_leave_the_store(tmp_path: Path) -> None:
    """A consolidated path of '../secret' is refused before anything is opened."""
    zarr.create_array(str(tmp_path / "secret"), shape=(4,), chunks=(2,), dtype="u1", compressors=None)[
        ...
    ] = 1
    merged = {"kind": "inline", "metadata": {"../secret": v3_document()}}
    document = {"zarr_format": 3, "node_type": "group", "attributes": {}, "consolidated_metadata": merged}
    location = LocalLocation(tmp_path / "store")
    location.write("zarr.json", [json.dumps(document).encode()])
    with pytest.raises(LazystoreError, match="'../secret' is no path inside a store"):
        open_foreign(location)
