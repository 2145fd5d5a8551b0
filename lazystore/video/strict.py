"""What notices damage inside a packet that a decoder would show as grey or as leftover memory, silently.

Decoders of recordings are asked to be strict: they refuse such a packet at no cost. What can be had
of it is then decoded apart, by a new decoder that overlooks errors, so that what lies in its memory
is the same at every read. FFmpeg's FFV1 decoder cannot be asked; the packets' checksums are compared.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from lazystore.video.parameters import DecoderParameters

if TYPE_CHECKING:
    from av import VideoFrame

    from lazystore.video.decoder import AnyPacket

# Codecs of one picture a packet, each on its own. Of 80 damaged packets that show another picture
# FFmpeg lets pass: MJPEG 57, strict 17, none of them with leftover memory.
_ERRORS_TO_REFUSE = {
    "mjpeg": "explode",
    "ljpeg": "explode",
    "prores": "explode",
    "png": "crccheck+explode",
}

# FFV1 from version 3 on: each slice ends in its length, and mostly in a byte of status and a CRC-32.
_LENGTH_BYTES, _CHECKED_TAIL_BYTES = 3, 8
# FFmpeg's CRC takes the highest bit first, zlib's the lowest.
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
# What the register begins with, and comes back to over a slice and its CRC: RFC 9043's, and FFmpeg's for
# version 4 (0x7A8C4079, its bytes the other way round); mirrored.
_REGISTERS = (0, 0x5E31029E)


def strict_options(codec: str) -> dict[str, str]:
    """Options, as FFmpeg spells them, for a decoder that refuses what it would patch up.

    >>> strict_options("mjpeg"), strict_options("h264")
    ({'err_detect': 'explode'}, {})
    """
    return {"err_detect": _ERRORS_TO_REFUSE[codec]} if codec in _ERRORS_TO_REFUSE else {}


def decode_apart(parameters: DecoderParameters, packet: AnyPacket) -> Iterable[VideoFrame] | None:
    """What can be had of a packet that a strict decoder refused; None where no decoder was strict."""
    if not strict_options(parameters.codec):
        return None
    from av import FFmpegError

    context = parameters.open_decoder(1)
    try:
        return [*context.decode(packet), *context.decode(None)]
    except FFmpegError:
        return []


def has_checksums(parameters: DecoderParameters) -> bool:
    """Whether `is_whole` can tell anything of a stream's packets."""
    return parameters.codec == "ffv1" and bool(parameters.extradata)


def is_whole(payload: Any) -> bool:
    """Whether the slices of an FFV1 packet lie as they should, and fit their CRCs where there are any.

    Parameters
    ----------
    payload
        A packet's bytes, of version 3 or later: those whose streams have a global header.
    """
    data = bytes(payload)
    checked = _slices(data, _CHECKED_TAIL_BYTES)
    if checked is None:
        # Their lengths lie elsewhere if slices have no CRC.
        return _slices(data, _LENGTH_BYTES) is not None
    mirrored = data.translate(_MIRRORED)
    return any(
        all(_crc(mirrored[start:stop], register) == register for start, stop in checked)
        for register in _REGISTERS
    )


def _slices(data: bytes, tail_bytes: int) -> list[tuple[int, int]] | None:
    """Begin and end of each slice, found from the last to the first; None if they do not fill the packet."""
    slices = []
    stop = len(data)
    while stop > 0:
        tail = stop - tail_bytes
        start = tail - int.from_bytes(data[tail : tail + _LENGTH_BYTES], "big") if tail > 0 else -1
        if start < 0 or start >= tail:
            return None
        slices.append((start, stop))
        stop = start
    return slices


def _crc(mirrored: bytes, register: int) -> int:
    """CRC-32 of mirrored bytes, with the register as it is before and after, not inverted as zlib does."""
    return zlib.crc32(mirrored, register ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
