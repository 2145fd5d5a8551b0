"""Prophesee RAW recordings: EVT 2.0, 2.1 and 3.0, told apart by their header alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lazystore.errors import SourceError
from lazystore.protocols import Recognition, Source
from lazystore.sources.events_blocks import CheckpointedEvents
from lazystore.sources.events_header import PropheseeHeader, raw_version, read_header
from lazystore.sources.events_info import SENSOR_OPTION
from lazystore.sources.events_words import Kernel, WordDecoder, WordFile, WordFormat


def _evt2_kernel() -> Kernel:
    from lazystore.sources.events_kernels_evt2 import decode_evt2

    return decode_evt2


@dataclass(frozen=True, slots=True)
class RawFormat:
    """A RAW encoding as a `SourceFormat`."""

    words: WordFormat

    kinds = ("events",)
    extensions = (".raw",)
    options = (SENSOR_OPTION,)

    @property
    def name(self) -> str:
        return self.words.name

    def recognise(self, path: Path, head: bytes) -> Recognition | None:
        if not head.startswith(b"% "):
            return None
        declared = raw_version(read_header(path))
        return Recognition(True, self.words.title) if declared == self.name else None

    def open(self, path: Path, options: Mapping[str, Any]) -> Sequence[Source]:
        header = read_header(path)
        declared = raw_version(header)
        if declared != self.name:
            raise SourceError(
                f"{path.name!r} is not {self.words.title}: its header says {_what_it_says(header)}; "
                "let lazystore recognise it (no --format), or record it as EVT 2.0, 2.1 or 3.0"
            )
        settings = header.format_fields
        order = settings.get("endianness", header.fields.get("endianness", "little")).lower()
        file = WordFile(
            path,
            header.data_offset,
            header.sensor,
            header.lines,
            big_endian=order == "big",
            extra={"recorded": header.fields.get("date"), "word_order": order},
        )
        return [CheckpointedEvents(path, WordDecoder(self.words, file), options)]


def _what_it_says(header: PropheseeHeader) -> str:
    said = [
        f"{keyword} {header.fields[keyword]!r}" for keyword in ("evt", "format") if keyword in header.fields
    ]
    return " and ".join(said) or "no 'evt' or 'format'"


EVT2 = RawFormat(WordFormat("evt2", "EVT 2.0", "lazystore.evt2/1", 4, "u4", 1, _evt2_kernel))
