"""Folders of images."""

from __future__ import annotations

import struct
import sys
import zlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lazystore.errors import MissingExtraError, SourceError, UnknownFormatError
from lazystore.sources.registry import open_sources, recognise
from lazystore.sources.stacks import decoding
from lazystore.sources.stacks.images import are_single_images
from tests.sources.reading import check_reads

iio = pytest.importorskip("imageio.v3")

RNG = np.random.default_rng(4)


def write(folder: Path, array: np.ndarray[Any, Any], ending: str = ".png") -> list[Path]:
    """One file a frame, named so that plain sorting would get the order wrong."""
    folder.mkdir(exist_ok=True)
    paths = [folder / f"frame_{number}{ending}" for number in range(len(array))]
    for path, image in zip(paths, array, strict=True):
        iio.imwrite(path, image)
    return paths


@pytest.mark.parametrize(
    ("ending", "shape", "dtype"),
    [
        (".png", (12, 8, 9), "u1"),
        (".png", (12, 8, 9), "u2"),
        (".png", (12, 8, 9, 3), "u1"),
        (".png", (12, 8, 9, 4), "u1"),
        (".bmp", (12, 8, 9), "u1"),
        (".jpg", (12, 8, 9), "u1"),
        (".jpg", (12, 8, 9, 3), "u1"),
        (".tif", (12, 8, 9), "u2"),
        (".tif", (12, 8, 9), "f4"),
    ],
)
def test_reads_equal_imageio(tmp_path: Path, ending: str, shape: tuple[int, ...], dtype: str) -> None:
    """Every image is what imageio decodes, in natural order; 16-bit is kept."""
    paths = write(tmp_path / "frames", RNG.integers(0, 250, shape).astype(dtype), ending)
    assert recognise(tmp_path / "frames") == ("images", "stack")
    source = open_sources(tmp_path / "frames", options={"rate_hz": 20})[0]
    assert source.info.ticks is not None
    assert source.info.ticks.time_base == Fraction(1, 20)
    assert source.info.format == f"images/{ending[1:]}"
    assert source.info.identity[0].name == "frames"
    check_reads(source, np.stack([iio.imread(path) for path in paths]))


def test_a_palette_and_a_single_image(tmp_path: Path) -> None:
    """A palette becomes colours, as imageio decides; one image is a stack of one."""
    image = pytest.importorskip("PIL.Image")
    path = tmp_path / "one.png"
    image.fromarray(RNG.integers(0, 5, (6, 7)).astype("u1")).convert("RGB").convert("P").save(path)
    assert recognise(path) == ("images", "stack")
    check_reads(open_sources(path)[0], iio.imread(path)[np.newaxis])


def write_wide_png(path: Path, image: NDArray[np.uint16]) -> None:
    """Colours of 16 bits, shape (y, x, channel), byte for byte as the specification has them."""
    height, width, channels = image.shape

    def part(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", width, height, 16, {3: 2, 4: 6}[channels], 0, 0, 0)
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in image)
    parts = [part(b"IHDR", header), part(b"IDAT", zlib.compress(lines)), part(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


@pytest.mark.parametrize("channels", [3, 4])
def test_colours_of_16_bits_stay_16_bits(
    tmp_path: Path, channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pillow, and imageio with it, reads them as 8 bits without a word."""
    folder = tmp_path / "frames"
    folder.mkdir()
    array = RNG.integers(0, 65536, (4, 8, 9, channels)).astype("u2")
    for number, image in enumerate(array):
        write_wide_png(folder / f"{number}.png", image)
    check_reads(open_sources(folder)[0], array)

    odd = RNG.integers(0, 255, (8, 9, channels)).astype("u1")
    iio.imwrite(folder / "9.png", odd)
    with pytest.raises(SourceError, match=r"'9\.png' of 'frames' does not fit: it is 8 x 9 RGBA?, but"):
        open_sources(folder)

    (folder / "9.png").unlink()
    content = (folder / "2.png").read_bytes()
    (folder / "2.png").write_bytes(content[: len(content) // 2])
    source = open_sources(folder)[0]
    block = source.read(0, 4)
    source.close()
    assert block.reasons == {
        2: "2.png: ValueError: its PNG data is damaged: Invalid data found when processing input"
    }
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        MissingExtraError, match=r"colours of 16 bits, which need PyAV; pip install \"lazystore\[video"
    ):
        open_sources(folder)


def test_an_animation_is_a_video_and_no_image(tmp_path: Path) -> None:
    """A PNG may hold many pictures; of those in a folder none is taken for all."""
    image = pytest.importorskip("PIL.Image")  # extras both; CI fails where one is missing
    pytest.importorskip("av")
    array = RNG.integers(0, 250, (5, 8, 9, 3)).astype("u1")
    first, *others = (image.fromarray(picture) for picture in array)
    path = tmp_path / "frames" / "a.png"
    path.parent.mkdir()
    first.save(path, save_all=True, append_images=others, duration=40)
    assert recognise(path) == ("video", "video")
    source = open_sources(path)[0]
    np.testing.assert_array_equal(source.read(0, source.info.length).columns["data"], array)
    source.close()
    with pytest.raises(SourceError, match="holds an animation of 5 pictures, not one image"):
        open_sources(path.parent)


def test_other_files_and_hidden_ones_are_left_out(tmp_path: Path) -> None:
    """A note, a thumbnail cache and a subfolder do not disturb."""
    frames = RNG.integers(0, 9, (3, 4, 5)).astype("u1")
    write(tmp_path / "f", frames)
    (tmp_path / "f" / "notes.txt").write_text("x")
    (tmp_path / "f" / "._frame_0.png").write_bytes(b"x")
    (tmp_path / "f" / "deep.png").mkdir()
    check_reads(open_sources(tmp_path / "f")[0], frames)


def test_several_formats_need_a_pattern(tmp_path: Path) -> None:
    """Two kinds of images are two recordings, or a mistake: the pattern says which."""
    frames = RNG.integers(0, 9, (3, 4, 5)).astype("u1")
    write(tmp_path / "f", frames)
    write(tmp_path / "f", frames[:2], ".bmp")
    with pytest.raises(SourceError, match=r"holds 3 \.png and 2 \.bmp images; .*option pattern='\*\.bmp'"):
        open_sources(tmp_path / "f")
    check_reads(open_sources(tmp_path / "f", options={"pattern": "*.png"})[0], frames)
    with pytest.raises(SourceError, match=r"folder 'f' holds no images like 'cam\*'; expected \.png"):
        open_sources(tmp_path / "f", options={"pattern": "cam*"})


@pytest.mark.parametrize("odd", [np.zeros((4, 6), "u1"), np.zeros((4, 5, 3), "u1"), np.zeros((4, 5), "u2")])
def test_a_ragged_folder_is_refused_when_it_is_opened(tmp_path: Path, odd: np.ndarray[Any, Any]) -> None:
    """The first image that differs is named with both sizes, before anything is read or written."""
    paths = write(tmp_path / "f", np.zeros((12, 4, 5), "u1"))
    for path in (paths[2], paths[10]):
        iio.imwrite(path, odd)
    with pytest.raises(
        SourceError,
        match=r"image 'frame_2.png' of 'f' does not fit: it is 4 x . \S+, but 'frame_0.png' is 4 x 5 L",
    ):
        open_sources(tmp_path / "f")
    source = open_sources(tmp_path / "f", options={"ragged": "missing"})[0]
    assert source.read(0, 12).missing == (2, 10)
    assert source.read(3, 11).missing == (10,)
    assert (
        "2 of 12 images cannot be read and are marked as missing: frame_2.png (it is"
        in source.info.problems[0]
    )
    source.close()


def test_damaged_images_are_missing_and_named(tmp_path: Path) -> None:
    """A header that is none is found when the folder is opened, a cut image when it is read."""
    frames = RNG.integers(0, 250, (9, 40, 50)).astype("u1")
    paths = write(tmp_path / "f", frames)
    paths[0].write_bytes(b"no image")
    paths[3].write_bytes(b"")
    paths[5].write_bytes(paths[5].read_bytes()[:900])
    source = open_sources(tmp_path / "f")[0]
    assert "2 of 9 images" in source.info.problems[0]
    for _ in range(2):
        block = source.read(0, 9)
        assert block.missing == (0, 3, 5)
        good = [1, 2, 4, 6, 7, 8]
        np.testing.assert_array_equal(block.columns["data"][good], frames[good])
        assert not block.columns["data"][[0, 3, 5]].any()
    assert block.reasons[0].startswith("frame_0.png: UnidentifiedImageError")
    assert "truncated" in block.reasons[5]
    (problem,) = source.info.problems
    assert "2 of 9 images cannot be read and are marked as missing: frame_0.png (" in problem
    assert "frame_3.png (" in problem
    source.close()


def test_many_damaged_images_are_counted_not_listed(tmp_path: Path) -> None:
    """The problem line stays short."""
    paths = write(tmp_path / "f", np.zeros((12, 4, 5), "u1"))
    for path in paths[1:]:
        path.write_bytes(b"no image")
    source = open_sources(tmp_path / "f")[0]
    assert source.info.problems[0].endswith("; and 6 more")
    source.close()


def test_an_image_that_decodes_to_another_shape_is_missing(tmp_path: Path) -> None:
    """A file that was replaced after the folder was opened does not tear the stack."""
    paths = write(tmp_path / "f", np.ones((4, 4, 5), "u1"))
    source = open_sources(tmp_path / "f")[0]
    iio.imwrite(paths[2], np.zeros((9, 9), "u1"))
    reasons = source.read(0, 4).reasons
    assert reasons == {2: "frame_2.png: ValueError: decodes to (9, 9) uint8, not (4, 5) uint8"}
    source.close()


def test_a_disk_that_went_away_is_no_lost_frame(tmp_path: Path) -> None:
    """An error of the system stops the read instead of marking frames."""
    paths = write(tmp_path / "f", np.ones((4, 4, 5), "u1"))
    source = open_sources(tmp_path / "f")[0]
    paths[2].unlink()
    with pytest.raises(SourceError, match="frame 2 cannot be read: .*; bring the file or the disk back"):
        source.read(0, 4)
    source.close()


def test_a_folder_without_a_readable_image_is_an_error(tmp_path: Path) -> None:
    """Nothing can be told of a stack whose every image is damaged."""
    for path in write(tmp_path / "f", np.ones((3, 4, 5), "u1")):
        path.write_bytes(b"no image")
    with pytest.raises(SourceError, match="none of the 3 images of 'f' can be read: "):
        open_sources(tmp_path / "f")
    for path in write(tmp_path / "g", RNG.integers(0, 250, (2, 40, 50)).astype("u1")):
        path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(SourceError, match="none of the 2 images of 'g' can be read: OSError: .*truncated"):
        open_sources(tmp_path / "g")


def test_a_folder_without_images_is_no_format(tmp_path: Path) -> None:
    """The error says what the folder holds."""
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "a.txt").write_text("x")
    with pytest.raises(UnknownFormatError, match=r"'f' is a folder with 1 \.txt"):
        open_sources(tmp_path / "f")
    with pytest.raises(SourceError, match="folder 'f' holds no images; expected"):
        open_sources(tmp_path / "f", format="images")


def test_images_of_more_dimensions_are_refused(tmp_path: Path) -> None:
    """A file that holds a volume is no frame."""
    tifffile = pytest.importorskip("tifffile")
    (tmp_path / "f").mkdir()
    volume = np.zeros((3, 4, 5), "u1")
    tifffile.imwrite(tmp_path / "f" / "a.tif", volume, photometric="minisblack", volumetric=True)
    with pytest.raises(SourceError, match=r"none of the 1 images .*: ValueError: holds 1 pages of axes ZYX"):
        open_sources(tmp_path / "f")


def test_a_folder_of_stacks_is_joined(tmp_path: Path) -> None:
    """Multipage TIFF files that a camera split are one recording."""
    tifffile = pytest.importorskip("tifffile")
    (tmp_path / "f").mkdir()
    parts = [RNG.integers(0, 9, (4, 5, 6)).astype("u2") for _ in range(3)]
    for number, part in zip((1, 2, 10), parts, strict=True):
        tifffile.imwrite(tmp_path / "f" / f"part{number}.tif", part, photometric="minisblack")
    source = open_sources(tmp_path / "f")[0]
    assert [identity.name for identity in source.info.identity] == ["part1.tif", "part2.tif", "part10.tif"]
    check_reads(source, np.concatenate(parts))
    (tmp_path / "f" / "part2.tif").write_bytes(b"no image")
    with pytest.raises(SourceError, match="'part2.tif' is no readable TIFF file"):
        open_sources(tmp_path / "f")


def test_a_list_of_images_is_one_reader(tmp_path: Path) -> None:
    """Paths from a script keep their order and share one pool of threads."""
    frames = RNG.integers(0, 9, (4, 5, 6)).astype("u1")
    paths = write(tmp_path / "f", frames)
    source = open_sources(paths[::-1])[0]
    assert (source.info.format, len(source.info.identity)) == ("images/png", 1)
    check_reads(source, frames[::-1].copy())
    tiffs = write(tmp_path / "t", frames.astype("u2"), ".tif")
    check_reads(open_sources(tiffs)[0], frames.astype("u2"))
    assert not are_single_images([tmp_path / "f", paths[0]])


def test_threads_end_with_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source may be read again after it was closed; a lack of memory is no lost frame."""
    frames = RNG.integers(0, 9, (4, 5, 6)).astype("u1")
    write(tmp_path / "f", frames)
    source = open_sources(tmp_path / "f")[0]
    source.read(0, 4)
    source.close()
    np.testing.assert_array_equal(source.read(1, 3).columns["data"], frames[1:3])
    source.close()

    def exhausted(index: int) -> Any:
        raise MemoryError

    decoder = decoding.FrameDecoder(exhausted, "lazystore-test")
    with pytest.raises(MemoryError):
        decoder.decode_into(np.zeros((2, 3)), range(2))
    decoder.close()


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the package that decodes images the error names the extra."""
    paths = write(tmp_path / "f", np.ones((2, 4, 5), "u1"))
    monkeypatch.setitem(__import__("sys").modules, "imageio.v3", None)
    for source in (tmp_path / "f", paths):
        with pytest.raises(
            MissingExtraError, match=r'format \'images\' needs .*; pip install "lazystore\[stacks\]"'
        ):
            open_sources(source)


def test_the_corpus_folder(corpus: Path) -> None:
    """The real brightfield images equal imageio, in natural order."""
    folder = corpus / "stack" / "brightfield"
    expected = np.stack([iio.imread(path) for path in sorted(folder.glob("*.png"))])
    check_reads(open_sources(folder)[0], expected, n_reads=4)
