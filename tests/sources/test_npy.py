"""Fields and stacks from .npy files."""

from __future__ import annotations

import io
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazystore.errors import SourceError, UsageError
from lazystore.sources.arrays import npy
from lazystore.sources.registry import open_sources, recognise
from tests.sources.reading import check_reads

RNG = np.random.default_rng(7)


def saved(folder: Path, array: np.ndarray[Any, Any], name: str = "a.npy") -> Path:
    path = folder / name
    np.save(path, array)
    return path


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "u1", "u2", "i8", "?", "c8"])
@pytest.mark.parametrize("shape", [(17, 5), (9, 4, 3)], ids=["bins", "frames"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_reads_equal_numpy(tmp_path: Path, dtype: str, shape: tuple[int, ...], order: str) -> None:
    """Every dtype and memory order reads as numpy.load reads it."""
    array = np.asarray(RNG.integers(0, 2, shape) if dtype == "?" else RNG.integers(0, 99, shape)).astype(
        dtype
    )
    path = saved(tmp_path, np.asarray(array, order=order))
    check_reads(open_sources(path)[0], np.load(path))


@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 9), st.integers(1, 6)),
    order=st.sampled_from("CF"),
    window_bytes=st.integers(1, 4096),
    seed=st.integers(0, 2**31),
)
def test_fortran_windows_of_any_size_give_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    shape: tuple[int, int, int],
    order: Any,
    window_bytes: int,
    seed: int,
) -> None:
    """However little is gathered at a time, records come out whole and in order."""
    array = np.asarray(np.random.default_rng(seed).random(shape), order=order)
    path = saved(tmp_path_factory.mktemp("npy"), array)
    before = npy.FORTRAN_WINDOW_BYTES
    npy.FORTRAN_WINDOW_BYTES = window_bytes
    try:
        check_reads(open_sources(path)[0], array, n_reads=8, seed=seed)
    finally:
        npy.FORTRAN_WINDOW_BYTES = before


@pytest.mark.parametrize("order", ["C", "F"])
def test_big_endian_becomes_native_and_is_recorded(tmp_path: Path, order: Any) -> None:
    """Values of a big-endian file are right, the dtype is native, and the store says what it was."""
    array = np.asarray(RNG.random((8, 3, 2)).astype(">f4"), order=order)
    source = open_sources(saved(tmp_path, array))[0]
    assert source.info.attributes["byte_order"] == "big"
    assert source.info.attributes["memory_order"] == order
    check_reads(source, array.astype("f4"))


def test_nan_and_infinities_are_kept(tmp_path: Path) -> None:
    """No value of a float is touched, not even the bits of a NaN."""
    array = np.array([[np.nan, np.inf], [-np.inf, -0.0]], dtype="f4")
    array.view("u4")[0, 0] = 0x7FC12345
    source = open_sources(saved(tmp_path, array))[0]
    block = source.read(0, 2)
    source.close()
    np.testing.assert_array_equal(block.columns["data"].view("u4"), array.view("u4"))


@pytest.mark.parametrize(
    ("shape", "dtype", "kind", "dims"),
    [
        ((5, 4), "f4", "field", ("time", "bin")),
        ((5, 4), "u1", "field", ("time", "bin")),
        ((5, 4, 3), "f8", "field", ("time", "y", "x")),
        ((5, 4, 3), "u2", "stack", ("time", "y", "x")),
        ((5, 4, 3, 3), "u1", "stack", ("time", "y", "x", "channel")),
        ((5, 4, 3, 9), "u1", "stack", ("time", "z", "y", "x")),
        ((5,), "f4", "series", ("time", "channel")),
    ],
)
def test_kind_follows_shape_and_dtype(
    tmp_path: Path, shape: tuple[int, ...], dtype: str, kind: str, dims: tuple[str, ...]
) -> None:
    """Pixels are a stack, floats a field, one dimension a series."""
    path = saved(tmp_path, np.zeros(shape, dtype))
    assert recognise(path) == ("npy", kind)
    info = open_sources(path)[0].info
    assert (info.kind, info.columns[0].dims, info.format) == (kind, dims, "npy")


def test_kind_can_be_overridden(tmp_path: Path) -> None:
    """--kind decides over shape and dtype, as far as the shape allows."""
    path = saved(tmp_path, np.zeros((5, 4, 3), "u1"))
    assert open_sources(path, kind="field")[0].info.kind == "field"
    flat = saved(tmp_path, np.ones((5, 4), "f4"), "b.npy")
    assert open_sources(flat, kind="series")[0].info.columns[0].dims == ("time", "channel")
    with pytest.raises(SourceError, match=r"shape \(5, 4\), which is no stack; expected \(time, y, x\)"):
        open_sources(flat, kind="stack")
    with pytest.raises(UsageError, match="cannot become kind 'tracks'; it can become field"):
        open_sources(flat, kind="tracks", format="npy")


def test_a_rate_makes_known_ticks(tmp_path: Path) -> None:
    """Without a rate one record a second is assumed and marked; a rate is taken exactly."""
    path = saved(tmp_path, np.zeros((5, 4), "f4"))
    assumed = open_sources(path)[0].info.ticks
    assert assumed is not None
    assert (assumed.time_base, assumed.known) == (Fraction(1), False)
    given_rate = open_sources(path, options={"rate_hz": "30000/1001"})[0].info.ticks
    assert given_rate is not None
    assert (given_rate.time_base, given_rate.known) == (Fraction(1001, 30000), True)


def test_object_arrays_are_never_read(tmp_path: Path) -> None:
    """An array of objects is a pickle: refused before a byte of it is loaded."""
    path = tmp_path / "o.npy"
    np.save(path, np.array([{}, {}], dtype=object), allow_pickle=True)
    with pytest.raises(SourceError, match="dtype object, which holds no plain numbers; it may run code"):
        open_sources(path)


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.zeros((3, 2), "M8[s]"), "dtype datetime64"),
        (np.zeros(3, [("a", "f4")]), "holds no plain numbers; save it as"),
        (np.zeros((3, 2), "U4"), "dtype <U4"),
        (np.zeros((0, 4)), r"shape \(0, 4\), which holds no records"),
        (np.float64(3.0), r"shape \(\), which holds no records"),
        (np.zeros((2,) * 5), r"which is no field; expected \(time, bin\)"),
    ],
    ids=["dates", "structured", "text", "empty", "scalar", "five-dimensions"],
)
def test_arrays_without_frames_are_refused(tmp_path: Path, array: Any, match: str) -> None:
    """What holds no numbers or no records is an error that says so."""
    with pytest.raises(SourceError, match=match):
        open_sources(saved(tmp_path, array))


@pytest.mark.skipif(np.dtype("g").itemsize == 8, reason="long double is double on this platform")
def test_long_double_is_refused(tmp_path: Path) -> None:
    """No store holds extended precision."""
    with pytest.raises(SourceError, match="holds no plain numbers"):
        open_sources(saved(tmp_path, np.zeros((3, 2), "g")))


def test_a_cut_file_is_refused(tmp_path: Path) -> None:
    """A file shorter than its header says is an error with both sizes."""
    path = saved(tmp_path, np.zeros((100, 10)))
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(SourceError, match="is cut: .* needs 8128 bytes, the file has 5000"):
        open_sources(path)


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    """Bytes that are gone are never made up."""
    path = saved(tmp_path, np.zeros((100, 10)))
    source = open_sources(path)[0]
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(SourceError, match="bytes early; it changed while it was read"):
        source.read(0, 100)
    source.close()


@pytest.mark.parametrize("version", [b"\x09\x00", b"\x03\x00", b"\x01\x00"])
def test_a_broken_header_is_an_error(tmp_path: Path, version: bytes) -> None:
    """Unknown versions and headers that are no header say how to go on."""
    path = tmp_path / "a.npy"
    path.write_bytes(npy.MAGIC + version + b"\x10\x00garbage garbage gar")
    with pytest.raises(SourceError, match=r"no readable \.npy header: .*; save it with numpy\.save"):
        open_sources(path)


def test_a_source_reopens_after_close(tmp_path: Path) -> None:
    """Closing releases the file; a later read opens it again."""
    array = RNG.random((6, 2))
    source = open_sources(saved(tmp_path, array))[0]
    source.close()
    np.testing.assert_array_equal(source.read(2, 4).columns["data"], array[2:4])
    source.close()


def test_header_needs_no_file_on_disk() -> None:
    """A header is parsed from any readable bytes."""
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((3, 2), "u2"))
    buffer.seek(0)
    header = npy.parse_header(buffer, "a")
    assert (header.shape, header.dtype, header.data_bytes) == ((3, 2), np.dtype("u2"), 12)


STREAM = """
import resource, sys
from lazystore.sources.registry import open_sources
source = open_sources(sys.argv[1])[0]
source.read(0, 8)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for start in range(0, source.info.length, 8):
    source.read(start, start + 8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kB on Linux only")
def test_memory_stays_flat_over_a_long_file(tmp_path: Path) -> None:
    """Reading 400 MB in blocks of 4 MB raises the peak by a few blocks, not by the file."""
    path = tmp_path / "long.npy"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f4", "fortran_order": False, "shape": (800, 131072)}
    )
    with path.open("wb") as file:
        file.write(header.getvalue())
        file.truncate(len(header.getvalue()) + 800 * 131072 * 4)
    command = [sys.executable, "-c", STREAM, str(path)]
    grown_kb = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown_kb < 40_000, f"peak memory grew by {grown_kb} kB"
