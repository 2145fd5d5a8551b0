"""Prophesee DAT recordings, version 2: a text header, two bytes of type and size, 8-byte records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lazystore.errors import SourceError
from lazystore.protocols import Recognition, Source
from lazystore.sources.events.blocks import CheckpointedEvents
from lazystore.sources.events.header import PropheseeHeader, read_header
from lazystore.sources.events.info import SENSOR_OPTION
from lazystore.sources.events.words import Kernel, WordDecoder, WordFile, WordFormat

# Generic 2-D events and change-detection events share one layout.
EVENT_TYPES = {0x00: "2-D events", 0x0C: "CD events"}
RECORD_BYTES = 8


def _dat_kernel() -> Kernel:
    from lazystore.sources.events.kernels.dat import decode_dat

    return decode_dat


WORDS = WordFormat("dat", "DAT version 2", "lazystore.dat/1", RECORD_BYTES, "u4", 1, _dat_kernel)


def _type_and_size(path: Path, header: PropheseeHeader) -> bytes:
    with path.open("rb") as file:
        file.seek(header.data_offset)
        return file.read(2)


class DatFormat:
    """DAT version 2 as a `SourceFormat`."""

    name = "dat"
    kinds = ("events",)
    extensions = (".dat",)
    options = (SENSOR_OPTION,)

    def recognise(self, path: Path, head: bytes) -> Recognition | None:
        if not head.startswith(b"% "):
            return None
        header = read_header(path)
        return Recognition(True, "DAT version 2") if not self._objection(path, header) else None

    def open(self, path: Path, options: Mapping[str, Any]) -> Sequence[Source]:
        header = read_header(path)
        objection = self._objection(path, header)
        if objection:
            raise SourceError(
                f"{path.name!r} is not a DAT recording of version 2 with CD events: {objection}; "
                "export it again as DAT version 2, or convert the RAW file it came from"
            )
        type_code = _type_and_size(path, header)[0]
        file = WordFile(
            path,
            header.data_offset + 2,
            header.sensor,
            header.lines,
            extra={"recorded": header.fields.get("date"), "event_type": EVENT_TYPES[type_code]},
        )
        return [CheckpointedEvents(path, WordDecoder(WORDS, file), options)]

    def _objection(self, path: Path, header: PropheseeHeader) -> str:
        """Why a file is not DAT version 2; empty if it is."""
        if "evt" in header.fields or "format" in header.fields:
            return "its header is that of a RAW file"
        if header.fields.get("version") != "2":
            return f"its header says version {header.fields.get('version')!r}"
        found = _type_and_size(path, header)
        if len(found) < 2 or found[0] not in EVENT_TYPES or found[1] != RECORD_BYTES:
            return f"event type and size are {found.hex(' ') or 'missing'}, expected 00 08 or 0c 08"
        return ""


DAT = DatFormat()
