"""One array of a NumPy .npz archive, streamed from the zip: stored or deflated, bounded memory."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from lazystore.errors import SourceError
from lazystore.protocols import Recognition, Source
from lazystore.sources.arrays.npy import ByteRange, FileBytes, NpyArray, NpyHeader, NpySource, parse_header
from lazystore.sources.frames import (
    ARRAY_KINDS,
    RATE_OPTION,
    check_storable,
    default_kind,
    even_ticks,
)
from lazystore.sources.identity import identify_file
from lazystore.sources.options import Option
from lazystore.sources.ticks import fit_ticks

ZIP_MAGIC = b"PK\x03\x04"
PREFERRED_NAMES = ("fields", "field", "data", "frames", "images", "stack", "movie", "arr_0")
TIME_NAMES = ("time", "times", "t", "timestamps", "frame_times")
_SKIP_BYTES = 1024 * 1024
_MAX_TIMES_BYTES = 256 * 1024 * 1024


class DeflatedBytes:
    """Bytes of a compressed member: ascending reads stream, a step back starts over."""

    def __init__(self, path: Path, member: str, base: int) -> None:
        self._path = path
        self._member = member
        self._base = base
        self._archive: zipfile.ZipFile | None = None
        self._stream: zipfile.ZipExtFile | None = None
        self._position = 0

    def read_into(self, offset: int, target: memoryview) -> None:
        """Fill `target` from `offset` after the base."""
        wanted = self._base + offset
        try:
            if self._stream is None or wanted < self._position:
                self._restart()
            while self._position < wanted:
                self._take(min(_SKIP_BYTES, wanted - self._position))
            done = 0
            while done < len(target):
                part = self._take(min(_SKIP_BYTES, len(target) - done))
                target[done : done + len(part)] = part
                done += len(part)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise SourceError(
                f"member {self._member!r} of {self._path.name!r} is damaged: {error}; save it again"
            ) from error

    def close(self) -> None:
        """Close the archive; a later read opens it again."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None
        if self._archive is not None:
            self._archive.close()
            self._archive = None

    def _restart(self) -> None:
        self.close()
        self._archive = zipfile.ZipFile(self._path)
        self._stream = self._archive.open(self._member)  # type: ignore[assignment]  # mode "r"
        self._position = 0

    def _take(self, count: int) -> bytes:
        assert self._stream is not None
        part = self._stream.read(count)
        if not part:
            raise EOFError(f"it ends at byte {self._position}")
        self._position += len(part)
        return part


class StoredBytes:
    """Bytes of an uncompressed member, read in place; its CRC is checked by a pass in order."""

    def __init__(
        self, path: Path, member: str, start: int, base: int, size: int, header_crc: int, crc: int
    ) -> None:
        self._file = FileBytes(path, start + base)
        self._where = f"member {member!r} of {path.name!r}"
        self._size = size - base
        self._start_crc = header_crc
        self._crc = crc
        self._checked_bytes = 0
        self._running = header_crc

    def read_into(self, offset: int, target: memoryview) -> None:
        """Fill `target` from `offset` after the base."""
        self._file.read_into(offset, target)
        if offset == 0:
            self._checked_bytes, self._running = 0, self._start_crc
        if offset == self._checked_bytes:
            self._running = zlib.crc32(target, self._running)
            self._checked_bytes += len(target)
            if self._checked_bytes == self._size and self._running != self._crc:
                raise SourceError(f"{self._where} is damaged: its checksum does not match; save it again")

    def close(self) -> None:
        """Close the file; a later read opens it again."""
        self._file.close()


def read_member_headers(path: Path) -> dict[str, NpyHeader]:
    """Headers of the arrays of an archive by name, without their values.

    Members that are no arrays, or hold objects, are left out.

    Raises
    ------
    SourceError
        If the archive is damaged.
    """
    headers = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if not entry.filename.endswith(".npy") or entry.flag_bits & 0x1:
                    continue
                with archive.open(entry) as member:
                    try:
                        headers[entry.filename.removesuffix(".npy")] = parse_header(member, entry.filename)
                    except SourceError:
                        continue
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, OSError, EOFError) as error:
        raise SourceError(f"{path.name!r} is no whole zip archive: {error}; save it again") from error
    return headers


def member_bytes(path: Path, name: str, header: NpyHeader) -> ByteRange:
    """The values of one member, read in place where the archive stores it uncompressed.

    Raises
    ------
    SourceError
        If the member is shorter than its header says.
    """
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(f"{name}.npy")
        needed = header.data_offset + header.data_bytes
        if entry.file_size < needed:
            raise SourceError(
                f"member {name!r} of {path.name!r} is cut: shape {header.shape} needs {needed} bytes, "
                f"it has {entry.file_size}; save it again"
            )
        if entry.compress_type != zipfile.ZIP_STORED:
            return DeflatedBytes(path, entry.filename, header.data_offset)
        with archive.open(entry) as member:
            header_crc = zlib.crc32(member.read(header.data_offset))
    with path.open("rb") as file:
        # The local header's lengths may differ from the directory's, so they are read in place.
        file.seek(entry.header_offset + 26)
        lengths = file.read(4)
    start = entry.header_offset + 30 + int.from_bytes(lengths[:2], "little")
    start += int.from_bytes(lengths[2:], "little")
    return StoredBytes(path, name, start, header.data_offset, entry.file_size, header_crc, entry.CRC)


def read_member(path: Path, headers: Mapping[str, NpyHeader], name: str) -> NDArray[Any]:
    """One small array, whole.

    Raises
    ------
    SourceError
        If it is not there, damaged, empty, or holds no plain numbers.
    """
    if name not in headers:
        raise SourceError(f"{path.name!r} has no array {name!r}; it has: {', '.join(headers) or 'none'}")
    header = headers[name]
    check_storable(header.shape, header.dtype, f"{path.name}:{name}")
    array = NpyArray(header, member_bytes(path, name, header))
    try:
        return array.read(0, header.shape[0])
    finally:
        array.close()


def _is_array_of_records(header: NpyHeader) -> bool:
    return len(header.shape) >= 2 and 0 not in header.shape and header.dtype.kind in "biuf"


def choose_member(headers: Mapping[str, NpyHeader], wanted: str | None, file_name: str) -> str:
    """Name of the member that holds the recording.

    Raises
    ------
    SourceError
        If `wanted` is not there, or the choice is not obvious; the candidates are listed.
    """
    shown = ", ".join(f"{name} {header.shape} {header.dtype}" for name, header in headers.items())
    if wanted is not None:
        if wanted not in headers:
            raise SourceError(f"{file_name!r} has no array {wanted!r}; it has: {shown or 'none'}")
        return wanted
    candidates = [name for name, header in headers.items() if _is_array_of_records(header)]
    if len(candidates) == 1:
        return candidates[0]
    preferred = [name for name in candidates if name.lower() in PREFERRED_NAMES]
    if len(preferred) == 1:
        return preferred[0]
    raise SourceError(
        f"{file_name!r} does not say which array is the recording; it has: {shown or 'none'}; "
        "say which with the option array=NAME"
    )


class NpzFormat:
    """``.npz`` with an array of frames, and perhaps its times in seconds."""

    name = "npz"
    kinds = ARRAY_KINDS
    extensions = (".npz",)
    options = (
        Option("array", "text", "name of the array that is the recording"),
        Option("times", "text", "name of the array of times in seconds, one a record"),
        RATE_OPTION,
    )

    def recognise(self, path: Path, head: bytes) -> Recognition | None:
        """Likely, if a zip has an array of two dimensions or more; layouts with names come first."""
        if not head.startswith(ZIP_MAGIC):
            return None
        try:
            headers = read_member_headers(path)
            chosen = headers[choose_member(headers, None, path.name)]
        except SourceError:
            usable = path.suffix.lower() == ".npz"
            return Recognition(False, "several arrays") if usable else None
        return Recognition(False, f"{chosen.shape} {chosen.dtype}", default_kind(chosen.shape, chosen.dtype))

    def open(self, path: Path, options: Mapping[str, Any]) -> Sequence[Source]:
        """The chosen array of the archive."""
        headers = read_member_headers(path)
        member = choose_member(headers, options.get("array"), path.name)
        header = headers[member]
        source = NpySource(
            f"{path.name}:{member}",
            header,
            member_bytes(path, member, header),
            identify_file(path),
            self.name,
            options.get("kind"),
            self._ticks(path, headers, header.shape[0] if header.shape else 0, options),
            {"array": member},
        )
        return [source]

    def _ticks(
        self, path: Path, headers: Mapping[str, NpyHeader], length: int, options: Mapping[str, Any]
    ) -> Any:
        named = options.get("times")
        if named is not None and named not in headers:
            raise SourceError(f"{path.name!r} has no array {named!r}; it has: {', '.join(headers)}")
        found = named or next((name for name in headers if name.lower() in TIME_NAMES), None)
        if found is None or (named is None and (options.get("rate_hz") or headers[found].shape != (length,))):
            return even_ticks(options.get("rate_hz"))
        header = headers[found]
        if header.shape != (length,) or header.dtype.kind not in "iuf":
            raise SourceError(
                f"times {found!r} of {path.name!r} have shape {header.shape} {header.dtype}, "
                f"but there are {length} records; expected one number a record"
            )
        if header.data_bytes > _MAX_TIMES_BYTES:
            raise SourceError(
                f"times {found!r} of {path.name!r} take {header.data_bytes} bytes; too many to be times"
            )
        return fit_ticks(read_member(path, headers, found)).ticks


NPZ = NpzFormat()
