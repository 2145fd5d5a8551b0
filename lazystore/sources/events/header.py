"""The text header of Prophesee's RAW and DAT files: lines of ``% keyword value``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lazystore.errors import SourceError

# Real headers have under 2 kB. Data that happens to look like header lines must not be read whole.
MAX_HEADER_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class PropheseeHeader:
    """A parsed header.

    Attributes
    ----------
    lines
        As they are in the file, without ``% `` and line ends.
    fields
        Value by lower-case keyword; of repeated keywords the last.
    data_offset
        Where the data begins, in bytes.
    """

    lines: tuple[str, ...]
    fields: Mapping[str, str]
    data_offset: int

    @property
    def sensor(self) -> tuple[int, int] | None:
        """(width, height) from ``format``, ``geometry`` or ``width`` and ``height``, if there."""
        format_fields = self.format_fields
        pairs = (
            (format_fields.get("width", ""), format_fields.get("height", "")),
            tuple(self.fields.get("geometry", "").lower().split("x", 1)),
            (self.fields.get("width", ""), self.fields.get("height", "")),
        )
        for pair in pairs:
            if len(pair) == 2 and all(re.fullmatch(r"\s*\d{1,5}\s*", side) for side in pair):
                width, height = int(pair[0]), int(pair[1])
                if width and height:
                    return width, height
        return None

    @property
    def format_fields(self) -> Mapping[str, str]:
        """The settings in ``% format EVT3;height=720;width=1280``; the name under ``""``."""
        name, *settings = self.fields.get("format", "").split(";")
        return {"": name.strip().upper()} | {
            key.strip().lower(): value.strip()
            for key, found, value in (setting.partition("=") for setting in settings)
            if found
        }


def parse_header(head: bytes) -> PropheseeHeader:
    r"""The header at the beginning of `head`, perhaps without any line.

    The header ends with a line ``% end``, or where no line of printable text begins with ``% ``.

    >>> header = parse_header(b"% evt 2.0\n% Width 640\n% Height 480\nabc")
    >>> header.fields["evt"], header.sensor, header.data_offset
    ('2.0', (640, 480), 35)
    """
    lines: list[str] = []
    fields: dict[str, str] = {}
    offset = 0
    while head[offset : offset + 2] == b"% ":
        end = head.find(b"\n", offset, offset + MAX_HEADER_BYTES)
        text = head[offset + 2 : end].rstrip(b"\r")
        # Data can begin with these two bytes as well, but does not go on as text.
        if end < 0 or not all(32 <= byte < 127 or byte == 9 for byte in text):
            break
        offset = end + 1
        line = text.decode("ascii")
        keyword, _, value = line.strip().partition(" ")
        if keyword.lower() == "end" and not value.strip():
            break
        lines.append(line)
        fields[keyword.lower()] = value.strip()
    return PropheseeHeader(tuple(lines), fields, offset)


def read_header(path: Path) -> PropheseeHeader:
    """The header of a file.

    Raises
    ------
    SourceError
        If the file cannot be read, or its header does not end within 64 KiB.
    """
    try:
        with path.open("rb") as file:
            head = file.read(2 * MAX_HEADER_BYTES)
    except OSError as error:
        raise SourceError(f"cannot read {str(path)!r}: {error.strerror}") from error
    header = parse_header(head)
    if header.data_offset > MAX_HEADER_BYTES:
        raise SourceError(
            f"{path.name!r}: the text header does not end within {MAX_HEADER_BYTES} bytes; "
            "it is no RAW or DAT recording, or it is damaged"
        )
    return header


def raw_version(header: PropheseeHeader) -> str | None:
    r"""Name of the RAW encoding that a header declares: ``"evt2"``, ``"evt21"``, ``"evt3"``, ...

    None where it declares none, or contradicts itself.

    >>> raw_version(parse_header(b"% format EVT21;height=320;width=320\n% end\n"))
    'evt21'
    """
    names = set()
    if "evt" in header.fields:
        names.add("evt" + header.fields["evt"].replace(".", "").rstrip("0"))
    if header.format_fields[""]:
        names.add(header.format_fields[""].lower().replace(".", ""))
    return names.pop() if len(names) == 1 else None
