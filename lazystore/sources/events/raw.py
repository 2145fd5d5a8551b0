"""Prophesee RAW recordings: EVT 2.0, 2.1 and 3.0, told apart by their header alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lazystore.errors import SourceError
from lazystore.protocols import Recognition, Source
from lazystore.sources.events.blocks import CheckpointedEvents
from lazystore.sources.events.header import PropheseeHeader, raw_version, read_header
from lazystore.sources.events.info import SENSOR_OPTION
from lazystore.sources.events.words import WORD_ORDERS, Kernel, WordDecoder, WordFile, WordFormat
from lazystore.sources.options import Option


def _evt2_kernel() -> Kernel:
    from lazystore.sources.events.kernels.evt2 import decode_evt2

    return decode_evt2


def _evt21_kernel() -> Kernel:
    from lazystore.sources.events.kernels.evt21 import decode_evt21

    return decode_evt21


def _evt3_kernel() -> Kernel:
    from lazystore.sources.events.kernels.evt3 import decode_evt3

    return decode_evt3


WORD_ORDER_OPTION = Option(
    "word_order", "text", "byte order of the words, where the header does not say it", WORD_ORDERS
)


@dataclass(frozen=True, slots=True)
class RawFormat:
    """A RAW encoding as a `SourceFormat`."""

    words: WordFormat

    kinds = ("events",)
    extensions = (".raw",)
    options = (SENSOR_OPTION, WORD_ORDER_OPTION)

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
        order = options.get("word_order", order)
        if order not in WORD_ORDERS or (order == "legacy" and self.name != "evt21"):
            raise SourceError(
                f"{path.name!r}: word order {order!r} is none that {self.words.title} has; "
                "say word_order=little or word_order=big"
            )
        file = WordFile(
            path,
            header.data_offset,
            header.sensor,
            header.lines,
            word_order=order,
            extra={"recorded": header.fields.get("date"), "word_order": order},
        )
        return [CheckpointedEvents(path, WordDecoder(self.words, file), options)]


def _what_it_says(header: PropheseeHeader) -> str:
    said = [
        f"{keyword} {header.fields[keyword]!r}" for keyword in ("evt", "format") if keyword in header.fields
    ]
    return " and ".join(said) or "no 'evt' or 'format'"


EVT2 = RawFormat(WordFormat("evt2", "EVT 2.0", "lazystore.evt2/1", 4, "u4", 1, _evt2_kernel))
EVT21 = RawFormat(WordFormat("evt21", "EVT 2.1", "lazystore.evt21/1", 8, "u8", 32, _evt21_kernel))
EVT3 = RawFormat(WordFormat("evt3", "EVT 3.0", "lazystore.evt3/1", 2, "u2", 12, _evt3_kernel))
