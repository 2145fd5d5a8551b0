"""What an event recording says of itself: the same facts, in the same words, for every format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError, UsageError
from lazystore.protocols import Column, SideArray, SourceIdentity, SourceInfo
from lazystore.schema import JSON
from lazystore.sources.events import scan
from lazystore.sources.events.columns import Triggers
from lazystore.sources.options import Option

SENSOR_OPTION = Option(
    "sensor", "text", "sensor size as WIDTHxHEIGHT in pixels, or 'extent' for the largest x and y seen"
)
# x and y are uint16, so that an unknown sensor has no bound below this.
UNBOUNDED = 1 << 16
MAX_HEADER_LINES = 64
MAX_HEADER_LINE = 200

_UNIX_EPOCH = "1970-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True)
class RecordingFacts:
    """What a decoder knows of its file.

    Attributes
    ----------
    format, decoder
        Name of the format, and of the code and version that read it.
    sensor
        (width, height) in pixels that the file declares, or None.
    file_time_unit
        Unit of time in the file: ``"us"``, ``"s"``, ``"ns"``.
    t_offset_us
        What was added to the file's own times, in µs.
    unix_epoch
        Whether times count from 1970; otherwise from the recording's own zero.
    polarity
        How the file spells OFF and ON, as in ``"0/1"`` or ``"-1/+1"``.
    header
        Text lines of the file's header, as they are.
    counts
        What was met besides events: other words, wraps of the clock, decode errors.
    problems
        One line for each thing that is wrong but survivable.
    extra
        Further facts of this format alone.
    suffix
        Name of this stream where one file has several.
    """

    format: str
    decoder: str
    sensor: tuple[int, int] | None = None
    file_time_unit: str = "us"
    t_offset_us: int = 0
    unix_epoch: bool = False
    polarity: str = "0/1"
    header: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    extra: Mapping[str, JSON] = field(default_factory=dict)
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class SensorChoice:
    """Which sensor size holds: the file's, the caller's, or what the events span.

    Attributes
    ----------
    size
        (width, height), or None for the extent of the events.
    source
        ``"file"``, ``"option"`` or ``"extent"``.
    """

    size: tuple[int, int] | None
    source: str

    @property
    def bounds(self) -> tuple[int, int]:
        """Width and height that no event may reach."""
        return self.size or (UNBOUNDED, UNBOUNDED)


def choose_sensor(declared: tuple[int, int] | None, options: Mapping[str, Any]) -> SensorChoice:
    """The sensor size by option, else by the file, else by the events' extent.

    Raises
    ------
    UsageError
        If the option is neither ``WIDTHxHEIGHT`` nor ``extent``.

    >>> choose_sensor((640, 480), {"sensor": "1280x720"}).size
    (1280, 720)
    """
    wanted = options.get("sensor")
    if wanted is None:
        return SensorChoice(declared, "file") if declared else SensorChoice(None, "extent")
    if wanted == "extent":
        return SensorChoice(None, "extent")
    match = re.fullmatch(r"(\d{1,5})[xX,](\d{1,5})", str(wanted).strip())
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(1 <= side <= UNBOUNDED for side in size):
        raise UsageError(
            f"option sensor={wanted!r} is not WIDTHxHEIGHT with sides of 1 to {UNBOUNDED} pixels, "
            "nor 'extent'; say for example sensor=640x480"
        )
    return SensorChoice(size, "option")


def event_columns(length: int) -> tuple[Column, ...]:
    """The columns t, x, y, p of every event recording."""
    spelled: tuple[tuple[str, str, Mapping[str, JSON]], ...] = (
        ("t", "int64", {"units": "us", "long_name": "time of the event, in the recording's own clock"}),
        ("x", "uint16", {"units": "pixel", "long_name": "column of the event, from the left"}),
        ("y", "uint16", {"units": "pixel", "long_name": "row of the event, from the top"}),
        (
            "p",
            "uint8",
            {"long_name": "polarity of the event", "flag_values": [0, 1], "flag_meanings": "off on"},
        ),
    )
    return tuple(
        Column(name, ("event",), (length,), np.dtype(dtype), attributes)
        for name, dtype, attributes in spelled
    )


def trigger_arrays(triggers: Triggers) -> tuple[SideArray, ...]:
    """The side arrays of a recording's triggers; none where it has no triggers."""
    if len(triggers) == 0:
        return ()
    dims = ("trigger",)
    return (
        SideArray(
            "triggers/t", dims, triggers.t,
            {"units": "us", "long_name": "time of the edge, in the recording's own clock"},
        ),
        SideArray("triggers/id", dims, triggers.id, {"long_name": "number of the trigger input"}),
        SideArray(
            "triggers/p", dims, triggers.p,
            {"long_name": "edge of the trigger", "flag_values": [0, 1], "flag_meanings": "falling rising"},
        ),
    )  # fmt: skip


def bounded_header(lines: tuple[str, ...]) -> list[str]:
    """At most 64 header lines of at most 200 characters."""
    kept = [line[:MAX_HEADER_LINE] for line in lines[:MAX_HEADER_LINES]]
    if len(lines) > MAX_HEADER_LINES:
        kept.append(f"... and {len(lines) - MAX_HEADER_LINES} more lines")
    return kept


def build_info(
    identity: SourceIdentity,
    facts: RecordingFacts,
    sensor: SensorChoice,
    totals: NDArray[np.int64],
    triggers: Triggers,
) -> SourceInfo:
    """The info of a recording whose events have all been counted into `totals`.

    Raises
    ------
    SourceError
        If there are no events, an event lies before time zero, or outside the sensor.
    """
    name, count = identity.name, int(totals[scan.EVENTS])
    check_totals(name, facts, sensor, totals)
    size = sensor.size or (int(totals[scan.X_MAX]) + 1, int(totals[scan.Y_MAX]) + 1)
    backward = int(totals[scan.BACKWARD])
    problems = list(facts.problems)
    if backward:
        problems.append(
            f"{backward} events are earlier than the event before them "
            f"(by up to {int(totals[scan.LARGEST_BACKWARD])} µs); kept in file order"
        )
    attributes: dict[str, JSON] = {
        "decoder": facts.decoder,
        "sensor": list(size),
        "sensor_from": sensor.source,
        "sensor_in_file": list(facts.sensor) if facts.sensor else None,
        "time_unit": "us",
        "file_time_unit": facts.file_time_unit,
        "t_offset_us": facts.t_offset_us,
        "epoch_utc": _UNIX_EPOCH if facts.unix_epoch else None,
        "polarity": facts.polarity,
        "counts": {
            "events": count,
            "on": int(totals[scan.ON]),
            "off": count - int(totals[scan.ON]),
            "triggers": len(triggers),
            **facts.counts,
        },
        "time_range_us": [int(totals[scan.T_MIN]), int(totals[scan.T_MAX])],
        "disorder": {
            "sorted": backward == 0,
            "backward_steps": backward,
            "largest_step_us": int(totals[scan.LARGEST_BACKWARD]),
        },
        "header": list[JSON](bounded_header(facts.header)),
        **facts.extra,
    }
    return SourceInfo(
        kind="events",
        format=facts.format,
        columns=event_columns(count),
        identity=(identity,),
        side=trigger_arrays(triggers),
        attributes=attributes,
        item_attributes={"sensor": list(size)},
        problems=tuple(problems),
        suffix=facts.suffix,
    )


def check_totals(name: str, facts: RecordingFacts, sensor: SensorChoice, totals: NDArray[np.int64]) -> None:
    """Refuse a recording without events, with negative times, or with events off the sensor.

    Raises
    ------
    SourceError
        Naming the first such event and how many there are.
    """
    if totals[scan.EVENTS] == 0:
        why = f" ({'; '.join(facts.problems)})" if facts.problems else ""
        raise SourceError(f"{name!r} ({facts.format}) holds no events{why}; nothing to read")
    if totals[scan.NEGATIVE]:
        raise SourceError(
            f"{name!r}: {int(totals[scan.NEGATIVE])} of {int(totals[scan.EVENTS])} events have negative "
            f"times, first event {int(totals[scan.FIRST_NEGATIVE])} at "
            f"{int(totals[scan.FIRST_NEGATIVE_T])} µs; expected times from 0 on; "
            "correct the file's times or its time offset"
        )
    if totals[scan.OUTSIDE]:
        width, height = sensor.bounds
        raise SourceError(
            f"{name!r}: {int(totals[scan.OUTSIDE])} of {int(totals[scan.EVENTS])} events lie outside the "
            f"sensor {width}x{height}, first event {int(totals[scan.FIRST_OUTSIDE])} at "
            f"x={int(totals[scan.FIRST_OUTSIDE_X])}, y={int(totals[scan.FIRST_OUTSIDE_Y])}; "
            "say sensor=WIDTHxHEIGHT with the right size, or sensor=extent"
        )
