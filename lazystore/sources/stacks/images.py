"""A folder of images as a stack: natural order, decoded on threads, damaged files told by name."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import MissingExtraError, SourceError
from lazystore.protocols import Block, Column, Recognition, Source, SourceInfo
from lazystore.schema import JSON
from lazystore.sources.concat import ConcatSource
from lazystore.sources.frames import RATE_OPTION, check_storable, even_ticks
from lazystore.sources.identity import check_files_unchanged, identify_files
from lazystore.sources.naming import natural_sorted
from lazystore.sources.options import Option
from lazystore.sources.stacks.decoding import MAX_THREADS, FrameDecoder, describe_lost, reason_of
from lazystore.sources.stacks.tiff import TiffSource, count_pages

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp")
TIFF_ENDINGS = (".tif", ".tiff")
_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_MAGICS = (_PNG_MAGIC, b"\xff\xd8\xff")
# Where a PNG's header says how many bits a value has, and which values: RGB, gray and alpha, RGBA.
_PNG_DEPTH, _PNG_COLOUR = 24, 25
_PNG_COLOURED = (2, 4, 6)


@dataclass(frozen=True, slots=True)
class _Header:
    """What an image's header says: enough to tell a ragged folder without decoding it."""

    height: int
    width: int
    pixel: str

    def __str__(self) -> str:
        return f"{self.height} x {self.width} {self.pixel}"


def list_images(folder: Path, pattern: str | None = None) -> list[Path]:
    """The images of a folder in natural order; hidden files and folders below are left out.

    Parameters
    ----------
    folder
        Where to look.
    pattern
        Shell pattern of the names, e.g. ``"cam1_*.png"``; None takes every image.

    Raises
    ------
    SourceError
        If there is none, or there are several formats and no pattern says which.
    """
    try:
        files = [path for path in folder.iterdir() if not path.name.startswith(".") and path.is_file()]
    except OSError as error:
        raise SourceError(f"cannot list {str(folder)!r}: {error.strerror}") from error
    images = [path for path in files if path.suffix.lower() in ENDINGS + TIFF_ENDINGS]
    if pattern is not None:
        images = [path for path in images if fnmatch.fnmatch(path.name, pattern)]
    if not images:
        wanted = f" like {pattern!r}" if pattern is not None else ""
        raise SourceError(
            f"folder {folder.name!r} holds no images{wanted}; expected .png, .jpg, .bmp or .tif files"
        )
    endings = Counter(_family(path) for path in images)
    if len(endings) > 1:
        found = " and ".join(f"{count} {ending}" for ending, count in endings.most_common())
        raise SourceError(
            f"folder {folder.name!r} holds {found} images; "
            f"say which with the option pattern='*{min(endings)}'"
        )
    return natural_sorted(images)


def are_single_images(paths: Sequence[Path]) -> bool:
    """Whether all of these are files of one image each, by their names (TIFF: by the first one)."""
    if all(path.suffix.lower() in ENDINGS for path in paths):
        return all(path.is_file() for path in paths)
    if not all(path.suffix.lower() in TIFF_ENDINGS and path.is_file() for path in paths):
        return False
    return len(paths) > 1 and count_pages(paths[0]) == 1


def _family(path: Path) -> str:
    return {".jpeg": ".jpg", ".tiff": ".tif"}.get(path.suffix.lower(), path.suffix.lower())


class ImageSource:
    """Image files, one a record.

    Every header is read when it is opened (on threads), every image when it is asked for.

    Parameters
    ----------
    name
        Of the folder, or of the only file.
    paths
        In order; at least one.
    rate_hz
        Images a second; None assumes 1 and marks it as a guess.
    skip_ragged
        Whether images of another size or pixel type are marked as missing instead of refused.

    Raises
    ------
    SourceError
        If no image can be read, or one differs from the first and `skip_ragged` is not set.
    """

    def __init__(
        self,
        name: str,
        paths: Sequence[Path],
        *,
        rate_hz: Fraction | None = None,
        skip_ragged: bool = False,
    ) -> None:
        self._paths = list(paths)
        self._decoder = FrameDecoder(self._decode, "lazystore-images")
        headers = _read_headers(self._paths, self._decoder.failures)
        self._shape: tuple[int, ...] = ()
        self._dtype = np.dtype("u1")
        first = self._decode_first(name, headers)
        for index, header in enumerate(headers):
            if header is not None and header != headers[first]:
                reason = f"it is {header}, but {self._paths[first].name!r} is {headers[first]}"
                if not skip_ragged:
                    raise SourceError(
                        f"image {self._paths[index].name!r} of {name!r} does not fit: {reason}; remove it, "
                        "or mark such images as missing with the option ragged=missing"
                    )
                self._decoder.failures[index] = reason
        dims = ("time", "y", "x", "channel")[: 1 + len(self._shape)]
        shape = (len(self._paths), *self._shape)
        check_storable(shape, self._dtype, name)
        facts: dict[str, JSON] = {
            "first_file": self._paths[0].name,
            "last_file": self._paths[-1].name,
            "n_files": len(self._paths),
        }
        lost = {self._paths[index].name: reason for index, reason in sorted(self._decoder.failures.items())}
        self._info = SourceInfo(
            kind="stack",
            format=f"images/{_family(self._paths[0])[1:]}",
            columns=(Column("data", dims, shape, self._dtype.newbyteorder("=")),),
            identity=(identify_files(name, self._paths),),
            ticks=even_ticks(rate_hz),
            attributes=facts,
            problems=(describe_lost(f"of {len(self._paths)} images", lost),) if lost else (),
        )

    def check_unchanged(self) -> None:
        """Refuse images that were changed since they were opened; other files of the folder may."""
        check_files_unchanged(self._info.identity[0], self._paths)

    @property
    def info(self) -> SourceInfo:
        """What the images are."""
        return self._info

    def read(self, start: int, stop: int) -> Block:
        """Images [start, stop); those that cannot be read are zeros and `missing`."""
        column = self._info.columns[0]
        values = np.empty((stop - start, *column.shape[1:]), column.dtype)
        lost = self._decoder.decode_into(values, range(start, stop))
        reasons = {
            start + position: f"{self._paths[start + position].name}: {reason}"
            for position, reason in lost.items()
        }
        return Block(start, {"data": values}, tuple(reasons), reasons)

    def close(self) -> None:
        """End the threads."""
        self._decoder.close()

    def _decode_first(self, name: str, headers: Sequence[_Header | None]) -> int:
        """Index of the first image that decodes; it tells shape and dtype."""
        for index, header in enumerate(headers):
            if header is None:
                continue
            try:
                image = _read_image(self._paths[index])
            except (MemoryError, ImportError):
                raise
            except Exception as error:  # Image libraries raise anything on damaged files.
                self._decoder.failures[index] = reason_of(error)
                continue
            self._shape, self._dtype = image.shape, image.dtype
            return index
        reason = next(iter(self._decoder.failures.values()), "")
        raise SourceError(f"none of the {len(self._paths)} images of {name!r} can be read: {reason}")

    def _decode(self, index: int) -> NDArray[Any]:
        image = _read_image(self._paths[index])
        if (image.shape, image.dtype) != (self._shape, self._dtype):
            raise ValueError(f"decodes to {image.shape} {image.dtype}, not {self._shape} {self._dtype}")
        return image


def _read_image(path: Path) -> NDArray[Any]:
    if path.suffix.lower() in TIFF_ENDINGS:
        import tifffile

        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            if page.axes not in ("YX", "YXS", "SYX") or len(tiff.pages) > 1:
                raise ValueError(f"holds {len(tiff.pages)} pages of axes {page.axes}, not one image")
            image = np.asarray(page.asarray())
            return np.moveaxis(image, 0, -1) if page.axes == "SYX" else image
    if _is_deep_png(path):
        return _read_deep_png(path)
    import imageio.v3

    # Pillow by name: without it imageio may hand a damaged file to the next plugin and hide why.
    return np.asarray(imageio.v3.imread(path, plugin="pillow"))


def _read_headers(paths: Sequence[Path], failures: dict[int, str]) -> list[_Header | None]:
    """Headers of all images; None and a reason in `failures` where there is none to read."""

    def read(index: int) -> _Header | None:
        try:
            return _read_header(paths[index])
        except (MemoryError, ImportError):
            raise
        except Exception as error:  # Image libraries raise anything on damaged files.
            failures[index] = reason_of(error)
            return None

    with ThreadPoolExecutor(MAX_THREADS, "lazystore-headers") as pool:
        return list(pool.map(read, range(len(paths))))


def _read_header(path: Path) -> _Header:
    if path.suffix.lower() in TIFF_ENDINGS:
        import tifffile

        with tifffile.TiffFile(path) as tiff:
            page = tiff.pages.first
            return _Header(page.imagelength, page.imagewidth, f"{page.dtype} x {page.samplesperpixel}")
    from PIL import Image

    with Image.open(path) as image:
        n_pictures = getattr(image, "n_frames", 1)
        if image.format == "PNG" and n_pictures > 1:
            raise ValueError(f"holds an animation of {n_pictures} pictures, not one image")
        pixel = f"{image.mode};16" if _is_deep_png(path) else image.mode
        return _Header(image.height, image.width, pixel)


def _is_deep_png(path: Path) -> bool:
    """Whether a file is a PNG of 16-bit colours, which Pillow would read as 8-bit ones."""
    with path.open("rb") as file:
        head = file.read(_PNG_COLOUR + 1)
    is_png = head.startswith(_PNG_MAGIC) and len(head) > _PNG_COLOUR
    return is_png and head[_PNG_DEPTH] == 16 and head[_PNG_COLOUR] in _PNG_COLOURED


def _read_deep_png(path: Path) -> NDArray[Any]:
    """A PNG of 16-bit colours, by FFmpeg's decoder."""
    try:
        import av
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f'{path.name!r} has colours of 16 bits, which need PyAV; pip install "lazystore[video]"'
        ) from error
    decoder = av.CodecContext.create("png", "r")
    assert isinstance(decoder, av.VideoCodecContext)
    try:
        (frame,) = decoder.decode(av.Packet(path.read_bytes()))
    except av.FFmpegError as error:
        raise ValueError(f"its PNG data is damaged: {error.strerror}") from error
    if frame.is_corrupt:
        raise ValueError("its PNG data is damaged")
    return frame.to_ndarray().astype("u2", copy=False)


class ImagesFormat:
    """A folder of .png, .jpg, .bmp or .tif files, or a single image."""

    name = "images"
    kinds = ("stack",)
    extensions = (*ENDINGS, "/")
    options = (
        Option("pattern", "text", "shell pattern of the file names, such as 'cam1_*.png'"),
        Option("ragged", "text", "what to do with images of another size", ("error", "missing")),
        RATE_OPTION,
    )

    def recognise(self, path: Path, head: bytes) -> Recognition | None:
        """Certain for images by their magic bytes, likely for a folder that holds some."""
        if not path.is_dir():
            if head.startswith(_PNG_MAGIC) and b"acTL" in head:
                return None  # an animation: a video
            is_bitmap = head.startswith(b"BM") and path.suffix.lower() == ".bmp"
            return Recognition(True) if head.startswith(_MAGICS) or is_bitmap else None
        has_images = any(
            part.suffix.lower() in ENDINGS + TIFF_ENDINGS and not part.name.startswith(".")
            for part in path.iterdir()
        )
        return Recognition(False, "a folder with images") if has_images else None

    def open(self, path: Path, options: Mapping[str, Any]) -> Sequence[Source]:
        """The images as one stack; multipage TIFF files of a folder are joined."""
        paths = list_images(path, options.get("pattern")) if path.is_dir() else [path]
        return self.open_files(path.name, paths, options)

    def open_files(self, name: str, paths: Sequence[Path], options: Mapping[str, Any]) -> Sequence[Source]:
        """These images, in this order, as one stack."""
        rate_hz = options.get("rate_hz")
        if paths[0].suffix.lower() in TIFF_ENDINGS and count_pages(paths[0]) > 1:
            stacks: list[Source] = []
            try:
                for part in paths:
                    stacks.append(TiffSource(part, {"rate_hz": rate_hz}))
                    stacks[-1].close()  # opened again when read: thousands cannot all stay open
                return [ConcatSource(stacks)]
            except BaseException:
                for stack in stacks:
                    stack.close()
                raise
        skip_ragged = options.get("ragged") == "missing"
        return [ImageSource(name, paths, rate_hz=rate_hz, skip_ragged=skip_ragged)]


IMAGES = ImagesFormat()
