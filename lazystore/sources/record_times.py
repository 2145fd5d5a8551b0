"""The times of a recording's records as its source tells them: ticks, facts, and what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.protocols import Column, Ticks
from lazystore.schema import JSON
from lazystore.sources.frames import compact_ticks, even_ticks
from lazystore.sources.tables.tracks_layout import whole_numbers
from lazystore.sources.ticks import fit_ticks


@dataclass(frozen=True, slots=True)
class RecordTimes:
    """Ticks of the records, and what goes with them into the source's description.

    Attributes
    ----------
    ticks
        When each record was taken.
    facts
        For the source's attributes.
    problems
        One line for each thing that is wrong.
    columns
        `source_time` (time,), the times as the file has them, where no ticks say them exactly.
    """

    ticks: Ticks
    facts: dict[str, JSON]
    problems: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()


def times_from_rate(rate_hz: Fraction | None) -> RecordTimes:
    """Evenly spaced records; without a rate one a second is assumed, and said so."""
    return RecordTimes(even_ticks(rate_hz), {})


def times_from_values(values: NDArray[Any], unit: str, name: str) -> RecordTimes:
    """The times in `values`, shape (record,), in `unit`; `name` is what the file calls them."""
    fit = fit_ticks(values, unit)
    columns: tuple[Column, ...] = ()
    if not fit.is_exact:
        attributes: dict[str, JSON] = {"units": unit, "long_name": "times as the source has them"}
        columns = (Column("source_time", ("time",), (len(values),), np.dtype("f8"), attributes),)
    return RecordTimes(fit.ticks, {"time": fit.attributes(name, unit)}, fit.problems(), columns)


def times_from_frames(
    frames: NDArray[Any], rate_hz: Fraction | None, name: str, file_name: str
) -> RecordTimes:
    """Times of records that are numbered by video frame; gaps between the numbers are gaps in time.

    Raises
    ------
    SourceError
        If a frame number is no whole number.
    """
    numbers = whole_numbers(frames, f"frame number {name!r}", file_name)
    base = 1 / rate_hz if rate_hz else Fraction(1)
    ticks = compact_ticks(base, numbers, name="frame", known=rate_hz is not None)
    return RecordTimes(ticks, {"time": {"column": name, "unit": "frame"}})
