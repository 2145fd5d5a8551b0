"""What an item of encoded video holds besides its packets: a JSON record and a few arrays."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import DamagedStoreError, FormatVersionError
from lazystore.protocols import SideArray
from lazystore.schema import JSON
from lazystore.video.parameters import DecoderParameters
from lazystore.video.pixels import Pixels
from lazystore.video.stored_feed import PacketSideBytes
from lazystore.video.tables import NO_TIME, FrameTable, PacketTable, frame_table

# What only crops need is left out of other records, so that the first version reads those.
RECORD_VERSION = 1
RECORD_VERSION_OF_CROPS = 2
PAYLOAD = "packets"
FRAME_PACKETS = "packet_of_frame"

_PACKET_ARRAYS = {
    "pts": "presentation time",
    "dts": "decoding time",
    "offset": f"position in {PAYLOAD!r}",
    "size": f"length in {PAYLOAD!r}",
    "duration": "duration",
    "flags": "1 keyframe, 2 marked corrupt, 4 needed by others but never shown",
}
_UNITS = {"offset": "byte", "size": "byte"}


@dataclass(frozen=True, slots=True)
class EncodedVideo:
    """How packets become frames, for ``attrs.lazystore["encoded"]``.

    Attributes
    ----------
    parameters
        Of the decoder.
    pixels
        What becomes of a decoded frame.
    side_data
        What single packets carry besides their payload.
    """

    parameters: DecoderParameters
    pixels: Pixels
    side_data: PacketSideBytes = field(default_factory=dict)

    def to_json(self) -> dict[str, JSON]:
        """The record as plain JSON; `from_json` turns it back."""
        side: list[JSON] = [
            [number, name, base64.b64encode(content).decode("ascii")]
            for number, carried in sorted(self.side_data.items())
            for name, content in carried
        ]
        return {
            "version": RECORD_VERSION if self.pixels.crop is None else RECORD_VERSION_OF_CROPS,
            "parameters": self.parameters.to_json(),
            "pixels": self.pixels.to_json(),
            "side_data": side,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> EncodedVideo:
        """The record of `to_json`.

        Raises
        ------
        FormatVersionError
            If a newer lazystore wrote it.
        DamagedStoreError
            If it is malformed.
        """
        version = record.get("version")
        if version not in (RECORD_VERSION, RECORD_VERSION_OF_CROPS):
            raise FormatVersionError(
                f"encoded video of version {version!r} is above {RECORD_VERSION_OF_CROPS}; update lazystore"
            )
        try:
            side: dict[int, tuple[tuple[str, bytes], ...]] = {}
            for number, name, content in record["side_data"]:
                side[number] = (*side.get(number, ()), (str(name), base64.b64decode(content)))
            return cls(
                DecoderParameters.from_json(record["parameters"]), Pixels.from_json(record["pixels"]), side
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DamagedStoreError(
                f"the record of an encoded video is malformed: {error!r}; restore the item's zarr.json"
            ) from error


def table_arrays(packets: PacketTable, frames: FrameTable) -> tuple[SideArray, ...]:
    """The two tables as arrays of an item: ``packet/...`` and `FRAME_PACKETS`."""
    arrays = [
        SideArray(
            f"packet/{name}",
            ("packet",),
            getattr(packets, name),
            {
                "long_name": meaning,
                **({"units": _UNITS[name]} if name in _UNITS else {}),
                **({"no_time": NO_TIME} if name in ("pts", "dts") else {}),
            },
        )
        for name, meaning in _PACKET_ARRAYS.items()
    ]
    of_frame = SideArray(
        FRAME_PACKETS, ("time",), frames.packet, {"long_name": "packet that codes the frame"}
    )
    return (*arrays, of_frame)


def tables_of_arrays(
    arrays: Mapping[str, NDArray[Any]], payload_bytes: int
) -> tuple[PacketTable, FrameTable]:
    """The tables back from an item's arrays, checked before anything is read by them.

    Parameters
    ----------
    arrays
        By the paths that `table_arrays` gave.
    payload_bytes
        Length of the payload.

    Raises
    ------
    DamagedStoreError
        If the arrays do not fit each other or the payload.
    """
    try:
        columns = {name: arrays[f"packet/{name}"] for name in _PACKET_ARRAYS}
        packet = arrays[FRAME_PACKETS].astype(np.int64, copy=False)
    except KeyError as error:
        raise DamagedStoreError(
            f"encoded video lacks its array {error.args[0]!r}; restore the item"
        ) from error
    flags = columns.pop("flags").astype(np.uint8, copy=False)
    numbers = {name: column.astype(np.int64, copy=False) for name, column in columns.items()}
    lengths = {len(flags), *map(len, numbers.values())}
    if len(lengths) != 1:
        raise DamagedStoreError(
            f"packet table of encoded video has columns of lengths {sorted(lengths)}; restore the item"
        )
    offset, size = numbers["offset"], numbers["size"]
    ends = np.cumsum(size)
    is_gapless = bool((size > 0).all()) and bool((offset == ends - size).all())
    names_packets = packet.min(initial=0) >= -1 and packet.max(initial=-1) < len(size)
    if not (len(size) and is_gapless and ends[-1] == payload_bytes >= size.max() and names_packets):
        raise DamagedStoreError(
            f"packet table of encoded video does not fit its {payload_bytes} bytes of packets; "
            "restore the item"
        )
    packets = PacketTable(**numbers, flags=flags)
    # The frames' own times may be somebody's correction; these stand in the packets' clock.
    return packets, frame_table(packets, packet, packets.pts[packet])
