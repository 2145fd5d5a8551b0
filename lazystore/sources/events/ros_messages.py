"""The bytes of a ROS message `EventArray`, as ROS 1 and ROS 2 lay them out.

Header header (ROS 1: uint32 seq; both: stamp of two 32-bit numbers, string frame_id)
uint32 height, uint32 width
Event[] events: uint16 x, uint16 y, stamp of two 32-bit numbers (s, ns), bool polarity
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Messages of this layout, by the names that different drivers give it.
EVENT_ARRAYS = ("dvs_msgs/msg/EventArray", "prophesee_event_msgs/msg/EventArray")

_ROS1_EVENT = np.dtype([("x", "<u2"), ("y", "<u2"), ("sec", "<u4"), ("nsec", "<u4"), ("p", "u1")])
# CDR aligns every number to its size: after the polarity of one event one byte is left out before
# the next x, and two after its y. From the second event on the distance is constant.
_CDR_EVENT = np.dtype(
    {
        "names": ["x", "y", "sec", "nsec", "p"],
        "formats": ["<u2", "<u2", "<u4", "<u4", "u1"],
        "offsets": [0, 2, 6, 10, 14],
        "itemsize": 16,
    }
)
_CDR_FIRST_BYTES = 13
_CDR_HEADER_BYTES = 4
_LITTLE_ENDIAN_CDR = (b"\x00\x01", b"\x00\x07")


@dataclass(frozen=True, slots=True)
class EventMessage:
    """One message.

    Attributes
    ----------
    width, height
        Sensor size in pixels; 0 where the driver does not say.
    rows
        Shape (event,), fields x, y, sec, nsec, p.
    """

    width: int
    height: int
    rows: NDArray[Any]


def parse_ros1(data: bytes) -> EventMessage:
    """A message of ROS 1.

    Raises
    ------
    ValueError
        If the bytes do not fit the layout.
    """
    try:
        (name_bytes,) = struct.unpack_from("<I", data, 12)
        at = 16 + name_bytes
        height, width, count = struct.unpack_from("<III", data, at)
    except struct.error as error:
        raise ValueError(f"a message of {len(data)} bytes") from error
    at += 12
    if len(data) - at != count * _ROS1_EVENT.itemsize:
        raise ValueError(f"{count} events in {len(data) - at} bytes")
    return EventMessage(width, height, np.frombuffer(data, _ROS1_EVENT, count, at))


def parse_cdr(data: bytes) -> EventMessage:
    """A message of ROS 2, in little-endian CDR.

    Raises
    ------
    ValueError
        If the bytes do not fit the layout.
    """
    if data[:2] not in _LITTLE_ENDIAN_CDR:
        raise ValueError(f"an encoding {data[:2].hex()} that is not little-endian CDR")
    try:
        (name_bytes,) = struct.unpack_from("<I", data, _CDR_HEADER_BYTES + 8)
        # Aligned from the end of the encapsulation header on, which is 4 bytes long itself.
        at = (_CDR_HEADER_BYTES + 12 + name_bytes + 3) // 4 * 4
        height, width, count = struct.unpack_from("<III", data, at)
    except struct.error as error:
        raise ValueError(f"a message of {len(data)} bytes") from error
    at += 12
    needed = _CDR_FIRST_BYTES + (count - 1) * _CDR_EVENT.itemsize if count else 0
    # The end may be padded to a multiple of eight.
    if not needed <= len(data) - at < needed + 8:
        raise ValueError(f"{count} events in {len(data) - at} bytes")
    rows = np.empty(count, _ROS1_EVENT)
    if count:
        rows[0] = struct.unpack_from("<HHIIB", data, at)
        later = np.frombuffer(data + bytes(4), _CDR_EVENT, count - 1, at + 14)
        for name in _ROS1_EVENT.names or ():
            rows[name][1:] = later[name]
    return EventMessage(width, height, rows)
