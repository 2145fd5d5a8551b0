"""What a text table holds, told by the names of its columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from lazystore.errors import SourceError
from lazystore.protocols import Recognition
from lazystore.sources.naming import looks_like_text
from lazystore.sources.tables.text_fields import find_delimiter, is_number, split_line
from lazystore.sources.ticks import find_time

MAX_HEADER_BYTES = 1 << 20

POLARITY_NAMES = frozenset(("p", "pol", "polarity", "on"))
START_NAMES = ("start", "start_time", "start_s", "start_sec", "onset", "begin", "t_start")
STOP_NAMES = (
    "stop",
    "stop_time",
    "stop_s",
    "stop_sec",
    "end",
    "end_time",
    "end_s",
    "offset",
    "t_stop",
    "t_end",
)
SPIKE_TIME_NAMES = ("spike_time", "spike_times", "spike_time_s", "spike_times_s")
UNIT_NAMES = ("unit", "units", "unit_id", "unit_ids", "cluster", "clusters", "cluster_id", "neuron", "cell")
LABEL_NAMES = ("label", "labels", "name", "state", "event", "tag", "condition")
FRAME_NAMES = ("frame", "frames", "frame_idx", "frame_index", "frame_number")

_COORDINATE = re.compile(
    r"(?:(?P<name>.*?)[ _.\-])?(?P<part>x|y|z|likelihood|confidence|conf|score|prob|p)", re.IGNORECASE
)
_CONFIDENCE = frozenset(("likelihood", "confidence", "conf", "score", "prob", "p"))


def find_name(names: Sequence[str], wanted: Sequence[str]) -> int | None:
    """Number of the first column, in the order of `wanted`, whose name is one of them.

    >>> find_name(("Onset", "end"), ("start", "onset"))
    0
    """
    lowered = [name.strip().lower() for name in names]
    return next((lowered.index(name) for name in wanted if name in lowered), None)


def position_columns(names: Sequence[str]) -> dict[str, dict[str, int]]:
    """Columns of each keypoint: name -> {"x": column, "y": ..., "z": ..., "confidence": ...}.

    A keypoint has at least x and y; plain ``x``, ``y`` are the keypoint ``"position"``.

    >>> position_columns(["t", "nose_x", "nose_y", "nose_likelihood", "speed_x"])
    {'nose': {'x': 1, 'y': 2, 'confidence': 3}}
    """
    groups: dict[str, dict[str, int]] = {}
    for number, name in enumerate(names):
        match = _COORDINATE.fullmatch(name.strip())
        if match is None:
            continue
        part = match["part"].lower()
        key = "confidence" if part in _CONFIDENCE else part
        groups.setdefault(match["name"] or "position", {}).setdefault(key, number)
    return {name: parts for name, parts in groups.items() if {"x", "y"} <= parts.keys()}


def classify_columns(names: Sequence[str]) -> str | None:
    """Kind of a table by its column names, None where they tell nothing.

    >>> classify_columns(["t", "x", "y"]), classify_columns(["t", "x", "y", "p"])
    ('tracks', 'events')
    >>> classify_columns(["start", "stop", "label"]), classify_columns(["time", "unit"])
    ('intervals', 'spikes')
    """
    lowered = {name.strip().lower() for name in names}
    has_time = find_time(tuple(names), None) is not None
    if {"x", "y"} <= lowered and lowered & POLARITY_NAMES:
        return "events"
    if find_name(names, START_NAMES) is not None and find_name(names, STOP_NAMES) is not None:
        return "intervals"
    if find_name(names, SPIKE_TIME_NAMES) is not None:
        return "spikes"
    if position_columns(names):
        return "tracks"
    if has_time and find_name(names, UNIT_NAMES) is not None:
        return "spikes"
    return "series" if has_time and len(names) > 1 else None


def header_lines(path: Path, head: bytes, count: int) -> list[list[str]] | None:
    """Fields of the first `count` lines of a text table, None if it is none.

    `head` is the file's beginning; more is read where a header line is longer than that.
    """
    if not looks_like_text(head):
        return None
    if head.count(b"\n") <= count:
        with path.open("rb") as file:
            head = file.read(MAX_HEADER_BYTES)
    text = head.decode("utf-8", "replace").removeprefix("\ufeff")
    lines = [line for line in text.split("\n")[: count + 64] if line.strip()]
    while lines and lines[0].startswith("#"):
        del lines[0]
    if not lines:
        return None
    delimiter = find_delimiter(lines[0])
    return [split_line(line, delimiter) for line in lines[:count]]


def recognise_table(path: Path, head: bytes, kind: str) -> Recognition | None:
    """A claim on a table whose column names say that it is of `kind`.

    Any other table with a header of names is a likely series.
    """
    lines = header_lines(path, head, 2)
    if lines is None or any(is_number(name) for name in lines[0] if name) or lines[0][0] == "scorer":
        return None
    found = classify_columns(lines[0])
    shown = ", ".join(lines[0][:6]) + (", ..." if len(lines[0]) > 6 else "")
    if found == kind:
        return Recognition(True, f"columns {shown}")
    # Prose has commas too, but no numbers below them.
    is_table = len({len(line) for line in lines}) == 1 and all(any(map(is_number, row)) for row in lines[1:])
    likely = kind == "series" and found != "events" and len(lines[0]) > 1 and is_table
    return Recognition(False, f"columns {shown}") if likely else None


def need_column(
    names: Sequence[str], wanted: Sequence[str], chosen: str | None, option: str, what: str, file_name: str
) -> int:
    """Number of the column chosen, or of the one with a telling name.

    Raises
    ------
    SourceError
        If there is none.
    """
    if chosen is not None:
        if chosen not in names:
            raise SourceError(f"{file_name}: {option}={chosen!r} is none of the columns: {', '.join(names)}")
        return list(names).index(chosen)
    found = find_name(names, wanted)
    if found is None:
        raise SourceError(
            f"{file_name} has no column of {what} ({', '.join(wanted[:4])}); its columns are: "
            f"{', '.join(names)}; say which with the option {option}=NAME"
        )
    return found
