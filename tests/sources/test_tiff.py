"""Multipage TIFF stacks."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lazystore.errors import MissingExtraError, SourceError
from lazystore.protocols import Source, Ticks
from lazystore.sources.registry import open_sources, recognise
from tests.sources.reading import check_reads

tifffile = pytest.importorskip("tifffile")

RNG = np.random.default_rng(2)


def frames(*shape: int, dtype: str = "u2") -> np.ndarray[Any, Any]:
    return RNG.integers(0, 200, shape).astype(dtype)


def open_one(path: Path, **options: Any) -> Source:
    return open_sources(path, options=options)[0]


def ticks_of(source: Source) -> Ticks:
    ticks = source.info.ticks
    source.close()
    assert ticks is not None
    return ticks


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "f4", "f8", ">u2"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_reads_equal_tifffile(tmp_path: Path, dtype: str, bigtiff: bool) -> None:
    """16-bit stays 16-bit, floats stay floats, in native byte order."""
    path = tmp_path / "a.tif"
    array = frames(12, 7, 9, dtype=dtype)
    tifffile.imwrite(
        path,
        array,
        bigtiff=bigtiff,
        photometric="minisblack",
        byteorder=dtype[0] if dtype[0] == ">" else None,
    )
    assert recognise(path) == ("tiff", "stack")
    check_reads(open_one(path), tifffile.imread(path).astype(np.dtype(dtype).newbyteorder("=")))


@pytest.mark.parametrize(
    "how",
    [
        {"compression": "zlib"},
        {"compression": "zlib", "predictor": True},
        {"tile": (16, 16)},
        {"rowsperstrip": 3},
    ],
)
def test_compressed_tiled_and_striped_pages(tmp_path: Path, how: dict[str, Any]) -> None:
    """Pages that are not plain bytes are decoded, on threads, into their places."""
    path = tmp_path / "a.tif"
    array = frames(15, 33, 21)
    tifffile.imwrite(path, array, photometric="minisblack", **how)
    try:
        tifffile.imread(path)
    except ValueError as error:  # an optional decoder that this machine lacks
        pytest.skip(str(error))
    check_reads(open_one(path), array)


def test_pages_written_one_by_one(tmp_path: Path) -> None:
    """A writer that knows no axes makes a movie too, wherever its pages lie in the file."""
    path = tmp_path / "a.tif"
    array = frames(9, 5, 6)
    with tifffile.TiffWriter(path) as writer:
        for page in array:
            writer.write(page, contiguous=False, metadata=None)
    source = open_one(path)
    assert source.info.columns[0].dims == ("time", "y", "x")
    check_reads(source, array)


@pytest.mark.parametrize("shape", [(9, 5, 6), (9, 5, 6, 3)])
def test_a_writer_called_once_a_frame_makes_a_movie(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """tifffile marks such images as a series each, of which it reads the first: none may get lost."""
    path = tmp_path / "a.tif"
    array = frames(*shape, dtype="u1")
    with tifffile.TiffWriter(path) as writer:
        for number, page in enumerate(array):
            writer.write(page, metadata={"exposure": number})
    source = open_one(path)
    assert source.info.columns[0].dims == ("time", "y", "x", "channel")[: len(shape)]
    assert source.info.problems == ()
    check_reads(source, array)
    check_reads(open_one(path, series=4), array[4:5])


@pytest.mark.parametrize(
    ("axes", "shape", "dims", "stored"),
    [
        ("TYX", (4, 5, 6), ("time", "y", "x"), (4, 5, 6)),
        ("ZYX", (4, 5, 6), ("time", "y", "x"), (4, 5, 6)),
        ("TCYX", (4, 2, 5, 6), ("time", "y", "x", "channel"), (4, 5, 6, 2)),
        ("TZYX", (4, 3, 5, 6), ("time", "z", "y", "x"), (4, 3, 5, 6)),
        ("TZCYX", (4, 3, 2, 5, 6), ("time", "z", "y", "x", "channel"), (4, 3, 5, 6, 2)),
        ("CYX", (2, 5, 6), ("time", "y", "x", "channel"), (1, 5, 6, 2)),
        ("TYXS", (4, 5, 6, 3), ("time", "y", "x", "channel"), (4, 5, 6, 3)),
        ("YX", (5, 6), ("time", "y", "x"), (1, 5, 6)),
    ],
)
@pytest.mark.parametrize("flavour", ["imagej", "ome"])
def test_axes_end_with_channels_last(
    tmp_path: Path,
    flavour: str,
    axes: str,
    shape: tuple[int, ...],
    dims: tuple[str, ...],
    stored: tuple[int, ...],
) -> None:
    """Time first, channels last, whatever order the file keeps them in."""
    path = tmp_path / ("a.ome.tif" if flavour == "ome" else "a.tif")
    dtype = "u1" if axes.endswith("S") else "u2"
    array = frames(*shape, dtype=dtype)
    kind = {"ome": True} if flavour == "ome" else {"imagej": True}
    tifffile.imwrite(
        path,
        array,
        photometric="rgb" if axes.endswith("S") else "minisblack",
        metadata={"axes": axes},
        **kind,
    )
    source = open_one(path)
    assert (source.info.columns[0].dims, source.info.columns[0].shape) == (dims, stored)
    full = array if axes[0] in "TZ" else array[np.newaxis]
    expected = np.moveaxis(full, 2 if axes.startswith("TZC") else 1, -1) if "C" in axes else full
    check_reads(source, np.ascontiguousarray(expected).reshape(stored))


def test_time_need_not_be_the_outermost_axis(tmp_path: Path) -> None:
    """OME files may order channels before time."""
    path = tmp_path / "a.ome.tif"
    array = frames(2, 4, 5, 6)
    tifffile.imwrite(path, array, ome=True, photometric="minisblack", metadata={"axes": "CTYX"})
    check_reads(open_one(path), np.ascontiguousarray(array.transpose(1, 2, 3, 0)))


@pytest.mark.parametrize(
    ("flavour", "metadata", "step"),
    [
        ("imagej", {"finterval": 0.04}, Fraction(1, 25)),
        ("imagej", {"fps": 12.5}, Fraction(2, 25)),
        ("ome", {"TimeIncrement": 40.0, "TimeIncrementUnit": "ms"}, Fraction(1, 25)),
        ("ome", {"TimeIncrement": 2.0}, Fraction(2)),
        ("ome", {"TimeIncrement": 2.0, "TimeIncrementUnit": "d"}, None),
        ("imagej", {}, None),
    ],
)
def test_frame_intervals_become_ticks(
    tmp_path: Path, flavour: str, metadata: dict[str, Any], step: Fraction | None
) -> None:
    """ImageJ's and OME's interval is the time base; without one the rate is a guess, or the caller's."""
    path = tmp_path / ("a.ome.tif" if flavour == "ome" else "a.tif")
    tifffile.imwrite(
        path,
        frames(4, 5, 6),
        photometric="minisblack",
        metadata={"axes": "TYX", **metadata},
        **{flavour: True},
    )
    ticks = ticks_of(open_one(path))
    assert ticks.known is (step is not None)
    if step is not None:
        assert ticks.step * ticks.time_base == step
    assert ticks_of(open_one(path, rate_hz=10)).time_base == Fraction(1, 10)


def test_other_series_are_named_and_can_be_chosen(tmp_path: Path) -> None:
    """A file with images of two sizes is read series by series."""
    path = tmp_path / "a.tif"
    first, second = frames(3, 8, 8), frames(5, 4, 4)
    with tifffile.TiffWriter(path) as writer:
        writer.write(first, photometric="minisblack")
        writer.write(second, photometric="minisblack")
    source = open_one(path)
    assert source.info.attributes["other_series"] == ["QYX (5, 4, 4) uint16"]
    assert source.info.problems == (
        "of its 2 series only the first is read, QYX (3, 8, 8); the next is QYX (5, 4, 4) uint16: "
        "choose one with the option series=1",
    )
    chosen = open_one(path, series=0)
    assert chosen.info.problems == ()
    chosen.close()
    check_reads(source, first)
    small = open_one(path, series=1)
    assert small.info.problems == ()
    check_reads(small, second)
    with pytest.raises(SourceError, match=r"has no series 2; it has: 0: QYX \(3, 8, 8\), 1: QYX"):
        open_one(path, series=2)


def test_ome_files_bring_their_siblings(tmp_path: Path) -> None:
    """A recording that OME metadata spreads over files is one stack, and all its files are identified."""
    array = frames(4, 5, 6)
    names = ["a.ome.tif", "b.ome.tif"]
    planes = "".join(
        f'<TiffData FirstT="{t}" FirstC="0" FirstZ="0" IFD="{t % 2}" PlaneCount="1">'
        f'<UUID FileName="{names[t // 2]}">urn:uuid:0000000{t // 2}-0000-0000-0000-000000000000</UUID>'
        "</TiffData>"
        for t in range(4)
    )
    for number, name in enumerate(names):
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:0000000{number}-0000-0000-0000-000000000000"><Image ID="Image:0">'
            '<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SizeX="6" SizeY="5" SizeC="1" '
            f'SizeZ="1" SizeT="4"><Channel ID="C:0" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>'
        )
        with tifffile.TiffWriter(tmp_path / name) as writer:
            for t in range(2 * number, 2 * number + 2):
                first = t == 2 * number
                writer.write(array[t], description=xml if first else None, metadata=None, contiguous=False)
    source = open_one(tmp_path / "a.ome.tif")
    assert [identity.name for identity in source.info.identity] == names
    check_reads(source, array)


@pytest.mark.parametrize("how", [{"imagej": True}, {"photometric": "minisblack"}])
def test_a_cut_file_gives_what_it_has(tmp_path: Path, how: dict[str, Any]) -> None:
    """Frames beyond the end of an uncompressed stack are missing, counted and named, not made up."""
    path = tmp_path / "a.tif"
    array = frames(10, 16, 16)
    tifffile.imwrite(path, array, **how)
    with tifffile.TiffFile(path) as tiff:
        begin = tiff.pages[0].dataoffsets[0]
    path.write_bytes(path.read_bytes()[: begin + 16 * 16 * 2 * 7 + 100])
    source = open_one(path)
    block = source.read(0, source.info.length)
    assert block.missing == (7, 8, 9)
    np.testing.assert_array_equal(block.columns["data"][:7], array[:7])
    assert not block.columns["data"][7:].any()
    assert block.reasons[7].startswith("page 7: EOFError: it ends at byte")
    assert "the file is cut: it holds 7 of 10 pages, the others are missing" in source.info.problems
    source.close()


def test_a_cut_file_of_compressed_pages_says_what_it_lacks(tmp_path: Path) -> None:
    """Their places were written behind them all: those in front of the cut cannot be found."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, frames(10, 16, 16), compression="zlib", photometric="minisblack")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = open_one(path)
    assert "the file is cut: it describes 10 images, 1 can be found" in source.info.problems
    source.close()


def test_a_cut_file_written_frame_by_frame(tmp_path: Path) -> None:
    """The pages in front of the cut are there, that which it goes through is missing."""
    path = tmp_path / "a.tif"
    array = frames(9, 16, 16)
    with tifffile.TiffWriter(path) as writer:
        for page in array:
            writer.write(page)
    with tifffile.TiffFile(path) as tiff:
        tags = tiff.pages[6].offset
    path.write_bytes(path.read_bytes()[: tags + 20])
    source = open_one(path)
    block = source.read(0, source.info.length)
    assert (source.info.length, block.missing) == (7, (6,))
    np.testing.assert_array_equal(block.columns["data"][:6], array[:6])
    source.close()


def test_damaged_tags_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tifffile raises anything on them."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, frames(3, 8, 8), photometric="minisblack")
    monkeypatch.setattr(tifffile.TiffPageSeries, "dataoffset", property(lambda _: 1 // 0))
    with pytest.raises(
        SourceError, match=r"'a.tif' cannot be read: its tags are damaged \(ZeroDivisionError"
    ):
        open_one(path)


def test_a_broken_chain_of_pages_is_told(tmp_path: Path) -> None:
    """Where the tags of later pages are lost, the frames that are left come with a problem line."""
    path = tmp_path / "a.tif"
    array = frames(8, 5, 6)
    with tifffile.TiffWriter(path) as writer:
        for page in array:
            writer.write(page, contiguous=False, metadata=None)
    with tifffile.TiffFile(path) as tiff:
        end = tiff.pages[5].offset
    path.write_bytes(path.read_bytes()[:end])
    source = open_one(path)
    assert any("invalid page offset" in problem for problem in source.info.problems)
    check_reads(source, array[:5])


def test_a_damaged_page_is_missing(tmp_path: Path) -> None:
    """One compressed page that does not decode costs that frame only, whenever it is asked for."""
    path = tmp_path / "a.tif"
    array = frames(6, 32, 32)
    tifffile.imwrite(path, array, compression="zlib", photometric="minisblack")
    with tifffile.TiffFile(path) as tiff:
        offset, count = tiff.pages[4].dataoffsets[0], tiff.pages[4].databytecounts[0]
    raw = bytearray(path.read_bytes())
    raw[offset : offset + count] = b"\x00" * count
    path.write_bytes(raw)
    source = open_one(path)
    assert source.info.problems == ()
    for _ in range(2):
        block = source.read(3, 6)
        assert block.missing == (4,)
        np.testing.assert_array_equal(block.columns["data"][[0, 2]], array[[3, 5]])
        assert list(block.reasons) == [4]
        assert block.reasons[4].startswith("page 4: ")
    source.close()


def test_strips_beyond_the_end_are_missing(tmp_path: Path) -> None:
    """A page whose data the file no longer holds is missing, not black."""
    path = tmp_path / "a.tif"
    array = frames(6, 32, 32)
    tifffile.imwrite(path, array, compression="zlib", photometric="minisblack")
    with tifffile.TiffFile(path) as tiff:
        # The page's tag is pointed beyond the end of the file.
        tag = tiff.pages[5].tags["StripOffsets"]
        offset, at = tiff.pages[5].dataoffsets[0], tag.offset
    raw = path.read_bytes()
    entry = raw.index(struct.pack("<I", offset), at)
    path.write_bytes(raw[:entry] + struct.pack("<I", len(raw) + 1000) + raw[entry + 4 :])
    source = open_one(path)
    assert source.read(0, 6).missing == (5,)
    source.close()


def test_what_is_no_tiff_is_an_error(tmp_path: Path) -> None:
    """Magic bytes alone make no image."""
    path = tmp_path / "a.tif"
    path.write_bytes(b"II*\x00" + b"\x00" * 20)
    with pytest.raises(SourceError, match="is a TIFF file without images|is no readable TIFF file"):
        open_one(path)
    path.write_bytes(b"II*\x00")
    with pytest.raises(SourceError, match="is no readable TIFF file"):
        open_one(path)


def test_a_missing_decoder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compression that needs another package says which, and is no damaged page."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, frames(4, 32, 32), compression="zlib", photometric="minisblack")
    source = open_one(path)

    def lack(*_: Any, **__: Any) -> Any:
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", lack)
    monkeypatch.setattr(tifffile.TiffFrame, "asarray", lack)
    with pytest.raises(MissingExtraError, match="'a.tif' is compressed with .*; pip install imagecodecs"):
        source.read(0, 4)
    source.close()


@pytest.mark.parametrize("imagej", [False, True])
def test_a_movie_of_one_image(tmp_path: Path, imagej: bool) -> None:
    """One frame is a movie, too, however its only page is described."""
    path = tmp_path / "a.tif"
    image = frames(1, 8, 8)
    tifffile.imwrite(path, image, imagej=imagej, photometric="minisblack")
    source = open_one(path)
    assert source.info.columns[0].dims == ("time", "y", "x")
    check_reads(source, image)


def test_layouts_that_are_no_movie_are_refused(tmp_path: Path) -> None:
    """Axes without images, or with time inside a page, are told."""
    from lazystore.sources.stacks.tiff import _Layout

    with pytest.raises(SourceError, match="has axes 'TQ', which are no images"):
        _Layout("TQ", (3, 4), 3, "a")
    with pytest.raises(SourceError, match="keeps its record axis 'T' inside its pages"):
        _Layout("ZTYX", (3, 4, 5, 6), 3, "a")
    with pytest.raises(SourceError, match=r"5 pages do not fill the axes 'TYX' of \(3, 5, 6\)"):
        _Layout("TYX", (3, 5, 6), 5, "a")


def test_the_corpus_stack(corpus: Path) -> None:
    """The real 16-bit stack equals tifffile."""
    path = corpus / "stack" / "stuck.tif"
    source = open_one(path)
    assert source.info.columns[0].dtype == np.dtype("u2")
    check_reads(source, tifffile.imread(path))
