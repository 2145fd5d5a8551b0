"""The direct reader against zarr-python, on whatever zarr-python writes in a layout of ours."""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import pickle
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec

from lazystore.chunks import chunk_region, grid_shape
from lazystore.errors import DamagedStoreError, HostileStoreError, StoreError, UsageError
from lazystore.protocols import ChunkReader
from lazystore.schema import ArraySpec, Codec, UnfamiliarLayoutError, spec_from_metadata
from lazystore.store.direct import DirectChunkReader, decode_texts, read_array, read_text
from lazystore.store.files import OpenFile
from lazystore.store.location import LocalLocation
from lazystore.store.shard import encode_file
from lazystore.testing import check_chunk_reader

DTYPES = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"]
SMALL_CODEC = Codec("zstd", 3, "shuffle")
CODECS = [None, *itertools.product(("lz4", "zstd"), ("noshuffle", "shuffle", "bitshuffle"))]


@st.composite
def layouts(draw: st.DrawFn) -> dict[str, Any]:
    """Shape, chunks, shards, dtype and codec of an array that spans a few shards."""
    ndim = draw(st.integers(1, 4))
    sizes = st.integers(1, [60, 14, 8, 5][ndim - 1])
    shape = draw(st.tuples(*[sizes] * ndim))
    chunks = tuple(draw(st.integers(1, size + 2)) for size in shape)
    per_shard = draw(st.none() | st.tuples(*[st.integers(1, 4)] * ndim))
    shards = per_shard and tuple(c * n for c, n in zip(chunks, per_shard, strict=True))
    return {
        "shape": shape,
        "chunks": chunks,
        "shards": shards,
        "dtype": draw(st.sampled_from(DTYPES)),
        "codec": draw(st.sampled_from(CODECS)),
        "separator": draw(st.sampled_from("/.")),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


def random_values(shape: Sequence[int], dtype: str, seed: int) -> np.ndarray:
    """Random bytes, half of them zero: every bit pattern, NaN payloads too, and some compression."""
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype)
    raw = rng.integers(0, 256, math.prod(shape) * kind.itemsize, np.uint8)
    raw[rng.random(raw.size) < 0.5] = 0
    if kind.kind == "b":
        raw &= 1
    return raw.view(kind).reshape(shape)


def write_with_zarr(
    folder: str | Path, values: np.ndarray, layout: dict[str, Any], name: str = "item/data"
) -> ArraySpec:
    """Let zarr-python write an array in our layout; its own metadata gives the record."""
    codec = layout["codec"]
    itemsize = values.dtype.itemsize
    compressors: list[Any] = [Crc32cCodec()]
    if codec is not None:
        compressors.insert(0, BloscCodec(typesize=itemsize, cname=codec[0], clevel=5, shuffle=codec[1]))
    array = zarr.create_array(
        str(folder),
        name=name,
        shape=values.shape,
        chunks=layout["chunks"],
        shards=layout["shards"],
        dtype=values.dtype,
        serializer=BytesCodec(endian="little" if itemsize > 1 else None),
        compressors=compressors,
        filters=None,
        chunk_key_encoding={"name": "default", "separator": layout.get("separator", "/")},
        config={"write_empty_chunks": True},
    )
    array[...] = values
    return spec_of(folder, name)


def spec_of(folder: str | Path, name: str = "item/data") -> ArraySpec:
    document = json.loads(Path(folder, name, "zarr.json").read_text())
    return spec_from_metadata(name.removeprefix("item/"), document)


def same_bits(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return (
        ours.shape == theirs.shape
        and ours.dtype == theirs.dtype
        and np.ascontiguousarray(ours).tobytes() == np.ascontiguousarray(theirs).tobytes()
    )


@given(layouts())
@settings(max_examples=120)
def test_every_chunk_equals_zarr_python(layout: dict[str, Any]) -> None:
    """Single reads, batches in any order and whole arrays give zarr-python's bits, clipped."""
    values = random_values(layout["shape"], layout["dtype"], layout["seed"])
    with tempfile.TemporaryDirectory() as folder:
        spec = write_with_zarr(folder, values, layout)
        theirs = zarr.open_array(folder, path="item/data", mode="r")[...]
        reader = DirectChunkReader(LocalLocation(folder), "item/data", spec)
        grid = list(itertools.product(*map(range, grid_shape(spec.shape, spec.chunks))))
        for chunk_index in grid:
            expected = theirs[chunk_region(chunk_index, spec.chunks, spec.shape)]
            assert same_bits(reader.read_chunk(chunk_index), expected)
        np.random.default_rng(layout["seed"]).shuffle(order := list(range(len(grid))))
        asked = [grid[place] for place in order] + grid[:2]
        for chunk_index, chunk in zip(asked, reader.read_chunks(asked), strict=True):
            assert same_bits(chunk, theirs[chunk_region(chunk_index, spec.chunks, spec.shape)])
        assert same_bits(read_array(reader), theirs)
        reader.close()


def test_the_readers_contract(tmp_path: Path) -> None:
    """Every promise of `ChunkReader`, by the public suite."""
    small_store(tmp_path)
    check_chunk_reader(lambda: open_small(tmp_path), small_values())


@given(layouts())
@settings(max_examples=40)
def test_our_writer_is_read_by_both(layout: dict[str, Any]) -> None:
    """What `encode_file` writes is the same to zarr-python and to the direct reader."""
    values = random_values(layout["shape"], layout["dtype"], layout["seed"])
    codec = Codec("none", 0) if layout["codec"] is None else Codec(layout["codec"][0], 3, layout["codec"][1])
    dims = tuple(f"d{axis}" for axis in range(values.ndim))
    spec = ArraySpec(
        "data", dims, values.shape, values.dtype, layout["chunks"], layout["shards"], codec,
        separator=layout["separator"],
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        location = LocalLocation(folder)
        write_with_us(location, "item/data", spec, values)
        reader = DirectChunkReader(location, "item/data", spec)
        assert same_bits(read_array(reader), values)
        assert same_bits(zarr.open_array(folder, path="item/data", mode="r")[...], values)
        reader.close()


def write_with_us(
    location: LocalLocation, prefix: str, spec: ArraySpec, values: np.ndarray, generation: str = ""
) -> None:
    for file_index in itertools.product(*map(range, grid_shape(spec.shape, spec.write_shape))):
        block = values[chunk_region(file_index, spec.write_shape, spec.shape)]
        encoded = encode_file(spec, file_index, block, generation=generation)
        location.write(f"{prefix}/{spec.key(file_index)}", encoded.parts)
    location.write(f"{prefix}/zarr.json", [json.dumps(spec.to_metadata()).encode()])


def small_store(
    folder: Path, codec: Codec = SMALL_CODEC, sharded: bool = True, generation: str = ""
) -> ArraySpec:
    """Two shards of two chunks of 8 x 3 values each, the last chunk cut."""
    spec = ArraySpec(
        "data", ("time", "x"), (30, 3), np.dtype("i2"), (8, 3), (16, 3) if sharded else None, codec
    )  # fmt: skip
    write_with_us(LocalLocation(folder), "item/data", spec, small_values(), generation)
    return spec


def small_values() -> np.ndarray:
    return (np.arange(90) ** 2 % 251).astype("i2").reshape(30, 3)


def open_small(folder: Path, **kwargs: Any) -> DirectChunkReader:
    return DirectChunkReader(LocalLocation(folder), "item/data", spec_of(folder), **kwargs)


def assert_right_or_damaged(folder: Path) -> int:
    """Read every chunk; returns how many were refused, fails on a wrong value."""
    refused = 0
    reader = open_small(folder)
    for number in range(4):
        try:
            chunk = reader.read_chunk((number, 0))
        except DamagedStoreError as error:
            refused += "item/data" in str(error) and "\n" not in str(error)
        else:
            np.testing.assert_array_equal(chunk, small_values()[number * 8 : number * 8 + 8])
    reader.close()
    return refused


@pytest.mark.parametrize(
    "codec", [Codec("none", 0), Codec("lz4", 5, "noshuffle"), Codec("zstd", 3, "bitshuffle")]
)
@pytest.mark.parametrize("sharded", [True, False])
def test_no_bit_flip_reads_wrong(tmp_path: Path, codec: Codec, sharded: bool) -> None:
    """A flip in any byte of a shard (payload, checksum, index) costs an error, never a value."""
    spec = small_store(tmp_path, codec, sharded)
    path = tmp_path / "item/data" / spec.key((0, 0))
    original = path.read_bytes()
    for position in range(len(original)):
        damaged = bytearray(original)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        assert assert_right_or_damaged(tmp_path) >= 1
    path.write_bytes(original)
    assert assert_right_or_damaged(tmp_path) == 0


def test_no_truncation_reads_wrong(tmp_path: Path) -> None:
    """A file of any other length, shorter or longer, is refused."""
    spec = small_store(tmp_path)
    path = tmp_path / "item/data" / spec.key((1, 0))
    original = path.read_bytes()
    for length in range(len(original)):
        path.write_bytes(original[:length])
        assert assert_right_or_damaged(tmp_path) == 2
    path.write_bytes(original + b"\0")
    assert assert_right_or_damaged(tmp_path) == 2
    path.write_bytes(b"\0" * len(original))
    assert assert_right_or_damaged(tmp_path) == 2


@pytest.mark.parametrize("sharded", [True, False])
def test_a_missing_file_is_no_fill_value(tmp_path: Path, sharded: bool) -> None:
    """The error names array, labels, key and the place; the other shard stays readable."""
    spec = small_store(tmp_path, sharded=sharded)
    (tmp_path / "item/data" / spec.key((1, 0))).unlink()
    reader = open_small(tmp_path)
    np.testing.assert_array_equal(reader.read_chunk((0, 0)), small_values()[:8])
    bad = 3 if sharded else 1
    where = rf"array 'item/data', chunk \({bad}, 0\) \(time {bad * 8}:\d+, x 0:3\), file 'item/data/c/1/0'"
    with pytest.raises(DamagedStoreError, match=where + ": there is no such file in"):
        reader.read_chunk((bad, 0))
    with pytest.raises(DamagedStoreError, match="no such file"):
        reader.read_chunks([(0, 0), (bad, 0)])
    reader.close()


def rewrite_index(folder: Path, change: Any) -> None:
    """Alter a shard's index and give it a right checksum, as a hostile writer would."""
    from lazystore.store.shard import with_checksum

    path = folder / "item/data/c/0/0"
    content = path.read_bytes()
    entries = np.frombuffer(content[-36:-4], "<u8").reshape(2, 2).copy()
    change(entries)
    path.write_bytes(content[:-36] + with_checksum(entries.tobytes()))


INDEX_LIES = {
    "absent": (lambda e: e.__setitem__(0, 2**64 - 1), r"chunk \(0, 0\).*absent from its shard"),
    "half absent": (lambda e: e.__setitem__((0, 0), 2**64 - 1), "half absent"),
    "huge length": (lambda e: e.__setitem__((0, 1), 2**40), "chunk of 1099511627776 bytes"),
    "no checksum": (lambda e: e.__setitem__((0, 1), 3), "chunk of 3 bytes"),
    "huge offset": (lambda e: e.__setitem__((0, 0), 2**64 - 9), "bytes beyond its end"),
    "beyond the end": (lambda e: e.__setitem__((1, 0), e[1, 0] + 1), "bytes beyond its end"),
    "overlap": (lambda e: e.__setitem__((1, 0), e[1, 0] - 1), "chunks that overlap"),
}


@pytest.mark.parametrize("lie", INDEX_LIES)
def test_a_lying_shard_index_is_refused(tmp_path: Path, lie: str) -> None:
    """Offsets and lengths that no writer means are refused before anything is read by them."""
    change, message = INDEX_LIES[lie]
    small_store(tmp_path)
    rewrite_index(tmp_path, change)
    reader = open_small(tmp_path)
    with pytest.raises(DamagedStoreError, match=message):
        reader.read_chunk((0, 0))
    with pytest.raises(DamagedStoreError, match=message):
        reader.read_chunks([(0, 0), (1, 0)])
    reader.close()


def test_chunks_of_equal_content_may_share_bytes(tmp_path: Path) -> None:
    """A writer that stores equal chunks once is no liar: only partial overlaps are nonsense."""
    small_store(tmp_path)
    rewrite_index(tmp_path, lambda entries: entries.__setitem__(1, entries[0]))
    reader = open_small(tmp_path)
    first, second = reader.read_chunks([(0, 0), (1, 0)])
    np.testing.assert_array_equal(first, second)
    reader.close()


def replace_payload(folder: Path, payload: bytes) -> None:
    """Put a payload with a right checksum in place of the first unsharded chunk."""
    from lazystore.store.shard import with_checksum

    (folder / "item/data/c/0/0").write_bytes(with_checksum(bytes(payload)))


def blosc_payload(values: bytes) -> bytearray:
    import numcodecs.blosc

    numcodecs.blosc.use_threads = False
    return bytearray(numcodecs.blosc.compress(values, b"zstd", 3, 1, 0, 2))


def test_a_chunk_that_declares_another_size_is_not_decoded(tmp_path: Path) -> None:
    """A bomb with a right checksum is refused by its header, however small it is on disk."""
    small_store(tmp_path, sharded=False)
    reader = open_small(tmp_path)
    for n_bytes in (0, 47, 49, 2**31):
        payload = blosc_payload(bytes(48))
        payload[4:8] = n_bytes.to_bytes(4, "little")
        replace_payload(tmp_path, payload)
        reader.close()
        with pytest.raises(DamagedStoreError, match=rf"{n_bytes} bytes decoded where .* 48"):
            reader.read_chunk((0, 0))
    replace_payload(tmp_path, b"abc")
    reader.close()
    with pytest.raises(DamagedStoreError, match="3 bytes decoded where"):
        reader.read_chunk((0, 0))
    payload = blosc_payload(bytes(48))
    payload[12:16] = (17).to_bytes(4, "little")
    replace_payload(tmp_path, payload)
    reader.close()
    with pytest.raises(DamagedStoreError, match="header declares 17 bytes in blocks of"):
        reader.read_chunk((0, 0))
    reader.close()


def test_bytes_that_blosc_cannot_decode_are_damage(tmp_path: Path) -> None:
    """An unknown inner compressor under a right checksum is one error of ours, not numcodecs'."""
    small_store(tmp_path, sharded=False)
    payload = blosc_payload(np.arange(24, dtype="i2").tobytes() * 1)
    payload[2] = payload[2] & 0x1F | 0xC0  # a compressor that Blosc does not have
    payload[2] &= 0xFD  # and no plain copy
    replace_payload(tmp_path, payload)
    reader = open_small(tmp_path)
    with pytest.raises(DamagedStoreError, match="Blosc cannot decode it"):
        reader.read_chunk((0, 0))
    reader.close()


def test_plain_bytes_of_another_size_are_refused(tmp_path: Path) -> None:
    """Without compression the stored size itself must fit."""
    small_store(tmp_path, Codec("none", 0), sharded=False)
    reader = open_small(tmp_path)
    replace_payload(tmp_path, bytes(46))
    with pytest.raises(DamagedStoreError, match="46 bytes decoded where the array declares 48"):
        reader.read_chunk((0, 0))
    replace_payload(tmp_path, bytes(49))
    reader.close()
    with pytest.raises(DamagedStoreError, match="53 bytes or more where 4 to 52"):
        reader.read_chunk((0, 0))
    reader.close()


def test_plain_bytes_go_to_where_they_shall_be_once_they_are_proven(tmp_path: Path) -> None:
    """One read a chunk and no copy; altered, cut and resized ones are told as everywhere."""
    spec = small_store(tmp_path, Codec("none", 0))
    reader = open_small(tmp_path)
    memory = memoryview(bytearray(96))
    (chunk,) = reader.read_chunks_into([(2, 0)], [memory])
    np.testing.assert_array_equal(chunk, small_values()[16:24])
    assert bytes(memory[:48]) == chunk.tobytes()
    assert (reader.counters.chunks, reader.counters.requests) == (1, 2)
    reader.close()
    larger = DirectChunkReader(LocalLocation(tmp_path), "item/data", replace(spec, dtype=np.dtype("i4")))
    with pytest.raises(DamagedStoreError, match="48 bytes decoded where the array declares 96"):
        larger.read_chunks_into([(2, 0)], [memory])
    larger.close()
    (shard,) = [
        path for path in tmp_path.rglob("*") if path.is_file() and chunk.tobytes() in path.read_bytes()
    ]
    content = bytearray(shard.read_bytes())
    content[content.index(chunk.tobytes())] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DamagedStoreError, match="do not match their checksum"):
        reader.read_chunks_into([(2, 0)], [memory])
    reader.close()


@pytest.mark.parametrize("chunk_index", [(4, 0), (-1, 0), (0, 1), (0,), (0, 0, 0)])
def test_a_chunk_outside_the_grid_is_an_index_error(tmp_path: Path, chunk_index: tuple[int, ...]) -> None:
    """There is nothing to answer beyond the array."""
    small_store(tmp_path)
    reader = open_small(tmp_path)
    with pytest.raises(IndexError, match=r"lies outside the \(4, 1\) chunks|needs 2 numbers"):
        reader.read_chunk(chunk_index)
    reader.close()


@pytest.mark.parametrize("codec", [Codec("none", 0), SMALL_CODEC])
def test_chunks_are_read_only_and_closing_is_not_final(tmp_path: Path, codec: Codec) -> None:
    """Nobody can alter what a cache may share, and no chunk keeps its neighbours' bytes alive."""
    small_store(tmp_path, codec, generation="g1")
    reader = open_small(tmp_path, generation="g1")
    assert isinstance(reader, ChunkReader)
    assert reader.generation == "g1"
    chunk = reader.read_chunk((3, 0))
    with pytest.raises(ValueError, match="read-only"):
        chunk[0, 0] = 1
    for batch in reader.read_chunks([(0, 0), (1, 0)]):
        assert not batch.flags.writeable
        assert isinstance(batch.base, bytes)
        assert len(batch.base) <= 48 + 4
    reader.close()
    reader.close()
    np.testing.assert_array_equal(reader.read_chunk((3, 0)), chunk)
    reader.close()


def test_the_index_is_read_once_and_neighbours_share_a_request(tmp_path: Path) -> None:
    """Counted: one index a shard, one ranged read for chunks side by side."""
    small_store(tmp_path)
    reader = open_small(tmp_path)
    for _ in range(3):
        reader.read_chunk((0, 0))
    counters = reader.counters
    assert (counters.chunks, counters.index_reads, counters.requests) == (3, 1, 4)
    reader.read_chunks([(1, 0), (0, 0), (3, 0), (2, 0)])
    after = reader.counters
    assert (after.chunks, after.index_reads, after.requests) == (7, 2, 7)
    reader.close()


def test_indexes_beyond_the_bound_are_forgotten(tmp_path: Path) -> None:
    """With room for one index, going back and forth reads them again; the data stays right."""
    small_store(tmp_path)
    reader = open_small(tmp_path, max_index_bytes=1)
    for number in (0, 2, 0, 2):
        np.testing.assert_array_equal(
            reader.read_chunk((number, 0)), small_values()[number * 8 : number * 8 + 8]
        )
    assert reader.counters.index_reads == 4
    reader.close()


def test_a_reader_pickles_without_its_files(tmp_path: Path) -> None:
    """The copy reads the same, and carries no data."""
    small_store(tmp_path, generation="g1")
    reader = open_small(tmp_path, generation="g1")
    expected = reader.read_chunk((2, 0))
    blob = pickle.dumps(reader)
    assert len(blob) < 2000
    copy = pickle.loads(blob)
    np.testing.assert_array_equal(copy.read_chunk((2, 0)), expected)
    assert (copy.generation, copy.spec, copy.prefix) == ("g1", reader.spec, "item/data")
    assert "item/data" in repr(copy)
    copy.close()
    reader.close()


def test_a_file_replaced_while_open_is_not_mixed_with_the_old_one(tmp_path: Path) -> None:
    """An index never serves another file under the same name: the reader says so."""
    spec = small_store(tmp_path)
    reader = open_small(tmp_path)
    reader.read_chunk((0, 0))
    path = tmp_path / "item/data" / spec.key((0, 0))
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    reader._payloads._files.close()  # as if the file had fallen out of the bounded cache
    with pytest.raises(DamagedStoreError, match="replaced while the store was open; open the store again"):
        reader.read_chunk((0, 0))
    reader.close()
    np.testing.assert_array_equal(reader.read_chunk((0, 0)), small_values()[:8])
    reader.close()


def test_many_threads_read_one_index(tmp_path: Path) -> None:
    """Threads that start together on one shard read its index once, and all get right data."""
    small_store(tmp_path)
    reader = open_small(tmp_path)
    barrier = threading.Barrier(8)

    def read(number: int) -> bool:
        barrier.wait(timeout=30)
        rows = slice(number % 2 * 8, number % 2 * 8 + 8)
        return bool((reader.read_chunk((number % 2, 0)) == small_values()[rows]).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(read, range(8)))
    assert reader.counters.index_reads == 1
    reader.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_reads_with_the_parents_reader(tmp_path: Path) -> None:
    """Locks and open files of the parent do not hang or mislead the child."""
    small_store(tmp_path)
    reader = open_small(tmp_path)
    reader.read_chunk((0, 0))
    locks = [reader._payloads._count_lock, *reader._payloads._load_locks, reader._payloads._indexes._lock]
    for lock in locks:
        lock.acquire()  # as another thread of the parent might at that moment
    child = os.fork()
    if child == 0:
        try:
            good = np.array_equal(reader.read_chunk((2, 0)), small_values()[16:24])
            os._exit(0 if good else 3)
        except BaseException:
            os._exit(4)
    for lock in locks:
        lock.release()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    reader.close()


def test_scalars_and_empty_arrays(tmp_path: Path) -> None:
    """No axis at all is one chunk; an axis of length 0 has none."""
    location = LocalLocation(tmp_path)
    scalar = ArraySpec("data", (), (), np.dtype("f8"), ())
    write_with_us(location, "scalar", scalar, np.array(2.5))
    reader = DirectChunkReader(location, "scalar", scalar)
    assert read_array(reader)[()] == 2.5
    assert zarr.open_array(str(tmp_path), path="scalar", mode="r")[()] == 2.5
    reader.close()
    empty = DirectChunkReader(location, "none", ArraySpec("data", ("t",), (0,), np.dtype("f8"), (4,)))
    assert read_array(empty).shape == (0,)


def test_an_array_at_the_root_has_no_prefix(tmp_path: Path) -> None:
    """A store that is one array keeps its chunks at the top."""
    spec = ArraySpec("", ("t",), (5,), np.dtype("u2"), (2,), (4,))
    values = np.arange(5, dtype="u2")
    for file_index in ((0,), (1,)):
        block = values[chunk_region(file_index, (4,), (5,))]
        LocalLocation(tmp_path).write(spec.key(file_index), encode_file(spec, file_index, block).parts)
    reader = DirectChunkReader(LocalLocation(tmp_path), "", spec)
    np.testing.assert_array_equal(read_array(reader), values)
    reader.close()


TEXTS = ["", "a", "Mäuse", "神経", "x" * 300, "\U0001f400"]


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9),
        min_size=1,
        max_size=20,
    ),
    st.integers(1, 8),
    st.booleans(),
)
@settings(max_examples=40)
def test_text_equals_zarr_python(texts: list[str], chunk: int, sharded: bool) -> None:
    """Names and labels come back as zarr-python reads them, sharded or not, cut at the end."""
    with tempfile.TemporaryDirectory() as folder:
        array = zarr.create_array(
            folder, name="item/data", shape=(len(texts),), chunks=(chunk,), dtype="string",
            shards=(chunk * 2,) if sharded else None, compressors=[Crc32cCodec()],
            config={"write_empty_chunks": True},
        )  # fmt: skip
        array[...] = np.array(texts, object)
        found = read_text(LocalLocation(folder), "item/data", spec_of(folder))
        assert found.dtype.kind == "U"
        assert found.tolist() == texts


def test_our_text_is_read_by_both(tmp_path: Path) -> None:
    """Long, empty and non-ASCII texts survive our writer."""
    spec = ArraySpec("data", ("name",), (len(TEXTS),), np.dtype("U"), (len(TEXTS),))
    write_with_us(LocalLocation(tmp_path), "item/data", spec, np.array(TEXTS))
    assert read_text(LocalLocation(tmp_path), "item/data", spec).tolist() == TEXTS
    assert list(zarr.open_array(str(tmp_path), path="item/data", mode="r")[...]) == TEXTS


@given(layouts())
@settings(max_examples=25)
def test_our_text_of_any_shape_is_read_by_both(layout: dict[str, Any]) -> None:
    """Chunks cut on any axis keep each text in its place, as chunks of numbers do."""
    shape = layout["shape"]
    values = np.array([TEXTS[i % 4] + str(i) for i in range(math.prod(shape))]).reshape(shape)
    dims = tuple(f"d{axis}" for axis in range(values.ndim))
    spec = ArraySpec("data", dims, shape, np.dtype("U"), layout["chunks"], layout["shards"])
    with tempfile.TemporaryDirectory() as folder:
        write_with_us(LocalLocation(folder), "item/data", spec, values)
        np.testing.assert_array_equal(read_text(LocalLocation(folder), "item/data", spec), values)
        theirs = zarr.open_array(folder, path="item/data", mode="r")[...]
        assert theirs.tolist() == values.tolist()


def test_text_is_not_for_the_numeric_reader(tmp_path: Path) -> None:
    """The mistake is named, with what to call instead."""
    spec = ArraySpec("data", ("name",), (2,), np.dtype("U"), (2,))
    with pytest.raises(UsageError, match="holds text; read it with read_text"):
        DirectChunkReader(LocalLocation(tmp_path), "item/data", spec)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a list of 2 texts"),
        (b"\3\0\0\0", "not a list of 2 texts"),
        (b"\2\0\0\0", "ends beyond its chunk"),
        (b"\2\0\0\0\0\0\0\0\xff\xff\xff\xff", "ends beyond its chunk"),
        (b"\2\0\0\0\1\0\0\0\xff\0\0\0\0", "utf-8"),
    ],
)
def test_damaged_text_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    """Counts, lengths and encodings that do not fit, under a right checksum."""
    from lazystore.store.shard import with_checksum

    with pytest.raises(ValueError, match=message):
        decode_texts(data, 2)
    spec = ArraySpec("data", ("name",), (2,), np.dtype("U"), (2,))
    LocalLocation(tmp_path).write("item/data/c/0", [with_checksum(data)])
    with pytest.raises(DamagedStoreError, match=message):
        read_text(LocalLocation(tmp_path), "item/data", spec)


def test_text_beyond_memory_is_refused(tmp_path: Path) -> None:
    """A count, or one long text among many, never makes a table of gigabytes."""
    location = LocalLocation(tmp_path)
    spec = ArraySpec("data", ("name",), (10**12,), np.dtype("U"), (10**12,))
    with pytest.raises(HostileStoreError, match="1000000000000 texts; at most"):
        read_text(location, "item/data", spec)
    many = ArraySpec("data", ("name",), (40_000,), np.dtype("U"), (40_000,))
    texts = np.full(40_000, "", object)
    texts[7] = "x" * 2000
    write_with_us(location, "item/data", many, texts)
    with pytest.raises(HostileStoreError, match="up to 2000 characters"):
        read_text(location, "item/data", many)


def test_a_coordinate_beyond_memory_is_refused(tmp_path: Path) -> None:
    """Tiny metadata that declares 10^12 values is refused before anything is allocated."""
    spec = ArraySpec("time", ("time",), (10**12,), np.dtype("f8"), (1000,))
    reader = DirectChunkReader(LocalLocation(tmp_path), "time", spec)
    with pytest.raises(HostileStoreError, match="8000000000000 bytes where at most 268435456"):
        read_array(reader)


def test_a_shard_of_too_many_chunks_is_refused(tmp_path: Path) -> None:
    """An index of gigabytes is never read."""
    spec = ArraySpec("data", ("t",), (10**12,), np.dtype("u1"), (1,), (10**12,))
    with pytest.raises(HostileStoreError, match="1000000000000 chunks in a shard; at most 1048576"):
        DirectChunkReader(LocalLocation(tmp_path), "data", spec)


def test_unfamiliar_layouts_are_not_claimed(tmp_path: Path) -> None:
    """zarr-python's own default (zstd, no checksum inside) is left to the fall-back."""
    zarr.create_array(str(tmp_path), name="item/data", shape=(4,), dtype="u1", chunks=(2,))[...] = 1
    with pytest.raises(UnfamiliarLayoutError, match="codecs"):
        spec_of(tmp_path)


@pytest.mark.parametrize(
    ("number", "n_failures", "message"),
    [
        (errno.ESTALE, 1, None),
        (errno.ESTALE, 3, "cannot read 'item/data/c/0/0' in .*check that the disk or the share is there"),
        (errno.EIO, 1, "cannot read 'item/data/c/0/0' in .*check that the disk or the share is there"),
    ],
)
def test_a_disk_that_fails_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, n_failures: int, message: str | None
) -> None:
    """A share that was mounted anew is opened again; any other fault of the disk is said as such."""
    small_store(tmp_path)
    reader = open_small(tmp_path)
    reader.read_chunk((0, 0))
    failures = [OSError(number, os.strerror(number))] * n_failures
    plain = OpenFile.read_range

    def read_range(self: OpenFile, offset: int, length: int) -> bytes:
        if failures:
            raise failures.pop()
        return plain(self, offset, length)

    monkeypatch.setattr(OpenFile, "read_range", read_range)
    if message is None:
        np.testing.assert_array_equal(reader.read_chunk((1, 0)), small_values()[8:16])
    else:
        with pytest.raises(StoreError, match=message) as caught:
            reader.read_chunk((1, 0))
        assert not isinstance(caught.value, DamagedStoreError)
    reader.close()


def test_a_file_cut_while_it_is_open_is_damage(tmp_path: Path) -> None:
    """Another program cuts a shard under the reader: alone and in a batch, the chunk is refused."""
    small_store(tmp_path)
    reader = open_small(tmp_path)
    reader.read_chunk((0, 0))
    os.truncate(tmp_path / "item/data/c/0/0", 20)
    with pytest.raises(DamagedStoreError, match="bytes where .* were expected; the file is cut short"):
        reader.read_chunk((1, 0))
    with pytest.raises(DamagedStoreError, match="the file is cut short"):
        reader.read_chunks([(0, 0), (1, 0)])
    reader.close()


def test_chunks_of_arrays_without_shards_know_their_place(tmp_path: Path) -> None:
    """With the checksums of all chunks at hand, a sound chunk in another's place is refused."""
    spec = small_store(tmp_path, sharded=False)
    folder = tmp_path / "item" / "data"
    sums = [
        int.from_bytes((folder / spec.key((number, 0))).read_bytes()[-4:], "little") for number in range(4)
    ]
    (folder / "c/0/0").write_bytes((folder / "c/1/0").read_bytes())
    reader = open_small(tmp_path, checksums=sums)
    np.testing.assert_array_equal(reader.read_chunk((1, 0)), small_values()[8:16])
    with pytest.raises(DamagedStoreError, match="bytes of another chunk, or of an older one"):
        reader.read_chunk((0, 0))
    copy = pickle.loads(pickle.dumps(reader))
    with pytest.raises(DamagedStoreError, match="bytes of another chunk"):
        copy.read_chunk((0, 0))
    reader.close()
    copy.close()
