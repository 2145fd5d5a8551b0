"""Video containers: knowing one from its first bytes, opening it safely, reading its packets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from lazystore.errors import SourceError
from lazystore.sources.naming import describe_file, looks_like_text

if TYPE_CHECKING:
    from av import Packet
    from av.container import InputContainer
    from av.video.stream import VideoStream

    type VideoPacket = Packet[VideoStream]

EXTENSIONS = (
    ".mp4", ".m4v", ".mov", ".qt", ".avi", ".mkv", ".webm", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg",
    ".vob", ".flv", ".ogv", ".ogg", ".asf", ".wmv", ".mxf", ".3gp", ".3g2", ".ivf", ".nut", ".y4m",
    ".gif", ".dv", ".h264", ".264", ".h265", ".265", ".hevc", ".mjpeg", ".mjpg", ".m1v", ".m2v", ".obu",
)  # fmt: skip

# Playlists and scripts (hls, concat, dash, image patterns) are left out: they would read other
# files, or fetch them, at the word of a text file that calls itself a video.
_DEMUXERS = (
    "mov,avi,matroska,mpegts,mpeg,flv,live_flv,ogg,asf,mxf,ivf,nut,yuv4mpegpipe,gif,dv,h264,hevc,vvc,"
    "mjpeg,m4v,mpegvideo,obu,av1,vc1,h263,h261,swf,rm,wtv,gxf,lxf,bink,smk,cine,apng,webp"
)

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x1aE\xdf\xa3", "Matroska or WebM"),
    (0, b"FLV\x01", "Flash video"),
    (0, b"OggS", "Ogg"),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "ASF/WMV"),
    (0, b"\x06\x0e\x2b\x34\x02\x05\x01\x01", "MXF"),
    (0, b"YUV4MPEG2 ", "YUV4MPEG"),
    (0, b"DKIF\0\0", "IVF"),
    (0, b"nut/multimedia container\0", "NUT"),
    (0, b"\0\0\1\xba", "MPEG program stream"),
)
_MOV_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"moof", b"styp")
# Brands of images in an MP4-like container, which are no video.
_IMAGE_BRANDS = (b"heic", b"heix", b"mif1", b"avif", b"crx ")
_TS_PACKET = 188
# After this many errors with no packet between them a damaged container is given up.
_MAX_ERRORS_IN_A_ROW = 8


def container_of(head: bytes) -> str | None:
    r"""Name of the container that a file begins as; None for anything else.

    >>> container_of(b"\0\0\0\x20ftypisom"), container_of(b"RIFF\0\0\0\0WAVE")
    ('MP4 or QuickTime', None)
    """
    for offset, magic, name in _MAGIC:
        if head[offset : offset + len(magic)] == magic:
            return name
    if head[:4] == b"RIFF" and head[8:12] in (b"AVI ", b"AVIX"):
        return "AVI"
    if head.startswith(b"\x89PNG") and b"acTL" in head:
        return "animated PNG"
    if head[4:8] in _MOV_BOXES and head[8:12] not in _IMAGE_BRANDS:
        return "MP4 or QuickTime"
    for packet_bytes, start in ((_TS_PACKET, 0), (_TS_PACKET + 4, 4)):
        syncs = head[start::packet_bytes][:5]
        if len(syncs) == 5 and set(syncs) == {0x47}:
            return "MPEG transport stream"
    return None


def open_container(path: Path) -> InputContainer:
    """A container open for reading, restricted to local files and single recordings.

    Raises
    ------
    SourceError
        If it is none that FFmpeg reads, or its index is missing.
    """
    import av

    head = b""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
        if looks_like_text(head) and container_of(head) is None:
            raise SourceError(f"{path.name!r} is not a video: it is {describe_file(head)}")
        # "file:" keeps names such as "a:b.mp4" or "shot_%03d.mp4" from being taken for more.
        container = av.open(
            f"file:{path.resolve()}",
            container_options={"protocol_whitelist": "file", "format_whitelist": _DEMUXERS},
        )
        films = [stream for stream in container.streams.video if stream.codec_context is not None]
        if not films and _lacks_index(path, head):
            # Some ways to be cut off are an error to FFmpeg, others a file without streams, or with odd ones.
            container.close()
            raise _no_index(path)
        return container
    except av.FFmpegError as error:
        if _lacks_index(path, head):
            raise _no_index(path) from error
        raise SourceError(
            f"{path.name!r} cannot be opened as a video: {error.strerror}; it is {describe_file(head)}"
        ) from error
    except OSError as error:
        raise SourceError(f"cannot read {str(path)!r}: {error.strerror}") from error


def _lacks_index(path: Path, head: bytes) -> bool:
    return container_of(head) == "MP4 or QuickTime" and not _has_whole_box(path, b"moov")


def _no_index(path: Path) -> SourceError:
    return SourceError(
        f"{path.name!r} cannot be opened: its index (moov) is missing or cut off, as when a recording was "
        "not closed or not copied to its end; copy it again, or rebuild the index with a tool such as untrunc"
    )


def _has_whole_box(path: Path, name: bytes) -> bool:
    """Whether an MP4 has a top-level box of that name, to its end."""
    size = path.stat().st_size
    position = 0
    with path.open("rb") as file:
        while position + 8 <= size:
            file.seek(position)
            head = file.read(16)
            length, found = int.from_bytes(head[:4], "big"), head[4:8]
            if length == 1 and len(head) == 16:
                length = int.from_bytes(head[8:], "big")
            if found == name:
                return position + length <= size
            if length < 8:
                return False
            position += length
    return False


def read_packets(
    container: InputContainer, streams: tuple[VideoStream, ...], errors: list[str] | None = None
) -> Iterator[VideoPacket]:
    """Packets with content, in file order, past damage where the demuxer can get past it.

    Empty packets are left out: to a decoder they mean the end of the stream. What the demuxer
    complains of is appended to `errors`.
    """
    import av

    errors_in_a_row = 0
    while errors_in_a_row < _MAX_ERRORS_IN_A_ROW:
        try:
            for packet in container.demux(streams):
                if packet.size:
                    errors_in_a_row = 0
                    yield packet
            return
        except av.FFmpegError as error:
            errors_in_a_row += 1
            if errors is not None:
                errors.append(str(error.strerror))
