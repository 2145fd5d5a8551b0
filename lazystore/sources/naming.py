"""File names: the order a person expects, and what a file looks like from its first bytes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

HEAD_BYTES = 4096

_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x93NUMPY", "a NumPy .npy array"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"CDF\x01", "a NetCDF-3 file"),
    (0, b"CDF\x02", "a NetCDF-3 file"),
    (0, b"CDF\x05", "a NetCDF-3 file"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"II*\x00", "a TIFF image"),
    (0, b"MM\x00*", "a TIFF image"),
    (0, b"II+\x00", "a BigTIFF image"),
    (0, b"MM\x00+", "a BigTIFF image"),
    (0, b"BM", "a BMP image"),
    (0, b"GIF8", "a GIF image"),
    (4, b"ftyp", "an MP4/QuickTime video"),
    (4, b"moov", "a QuickTime video"),
    (0, b"\x1aE\xdf\xa3", "a Matroska/WebM video"),
    (8, b"AVI ", "an AVI video"),
    (8, b"WAVE", "a WAV sound"),
    (8, b"WEBP", "a WebP image"),
    (0, b"ID3", "an MP3 sound"),
    (0, b"FLV\x01", "a Flash video"),
    (0, b"OggS", "an Ogg recording"),
    (0, b"\0\0\1\xba", "an MPEG program stream"),
    (0, b"#!AER-DAT4", "an AEDAT4 recording"),
    (0, b"#!AER-DAT", "an AEDAT recording"),
    (0, b"#ROSBAG", "a ROS bag"),
    (0, b"% ", "a recording with a Prophesee text header"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (0, b"MATLAB 5.0", "a MATLAB 5 file"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x80\x04\x95", "a Python pickle"),
)


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sorts numbers inside names by their value.

    >>> sorted(["f10", "f9", "F1"], key=natural_key)
    ['F1', 'f9', 'f10']
    """
    return tuple(
        (0, int(part), "") if part.isdecimal() else (1, 0, part.casefold())
        for part in re.split(r"(\d+)", name)
        if part
    )


def natural_sorted(paths: Iterable[Path]) -> list[Path]:
    """Paths in natural order of their names, ties (``f1``, ``f01``) by plain spelling."""
    return sorted(paths, key=lambda path: (natural_key(path.name), str(path)))


def looks_like_text(head: bytes) -> bool:
    r"""Whether the first bytes are text: UTF-8 without control characters.

    >>> looks_like_text(b"t,x,y\n1,2,3\n"), looks_like_text(b"\x00\x01")
    (True, False)
    """
    # A head cut inside a multi-byte character is still text: up to three bytes are let go.
    for cut in range(4):
        try:
            text = head[: len(head) - cut].decode("utf-8")
        except UnicodeDecodeError:
            continue
        return bool(text) and all(c.isprintable() or c in "\t\r\n\f\ufeff" for c in text)
    return False


def describe_file(head: bytes) -> str:
    r"""What a file looks like, in a few words.

    >>> describe_file(b"\x89HDF\r\n\x1a\n")
    'an HDF5 file'
    """
    for offset, signature, description in _SIGNATURES:
        if head[offset : offset + len(signature)] == signature:
            return description
    if looks_like_text(head):
        return f"text that begins {head[:24].decode('utf-8', 'replace')!r}"
    return f"binary data that begins {head[:8].hex(' ')}"


def describe_folder(folder: Path) -> str:
    """What a folder holds, in a few words: how many files of which endings."""
    endings = Counter(path.suffix.lower() or "no ending" for path in folder.iterdir() if path.is_file())
    if not endings:
        return "a folder without files"
    shown = ", ".join(f"{count} {ending}" for ending, count in endings.most_common(4))
    return f"a folder with {shown}"
