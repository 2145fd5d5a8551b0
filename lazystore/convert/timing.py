"""Session seconds and native ticks of every record, as arrays that the commit writes piece by piece."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.chunks import ceil_div
from lazystore.clock import Clock
from lazystore.errors import SourceError, UsageError
from lazystore.overviews.levels import GROUP
from lazystore.protocols import PartSource, Source, SourceInfo, Ticks
from lazystore.schema import JSON, ArraySpec, Codec

type TimeSpan = tuple[float | None, float | None]
type SidePieces = Callable[[], Iterable[NDArray[Any]]]

ROWS_A_PIECE = 1 << 17
MICROSECOND = Fraction(1, 1_000_000)
TIME_CODEC = Codec("zstd", 3, "shuffle")


@dataclass(frozen=True, slots=True)
class Timing:
    """When each record was taken, in session seconds.

    Attributes
    ----------
    clock
        The recording's clock.
    ticks
        Native ticks; None for events, whose column `t` is their time.
    times_s
        Shape (record,), float64 session seconds where somebody gave one for every record.
    """

    clock: Clock
    ticks: Ticks | None
    n_records: int
    dim: str
    times_s: NDArray[np.float64] | None = None

    def seconds(self, start: int, stop: int) -> NDArray[np.float64]:
        """Session seconds of the records [start, stop); shape (record,)."""
        if self.times_s is not None:
            return self.times_s[start:stop]
        ticks = self.ticks
        assert ticks is not None
        return self.clock.ticks_to_session(self._ticks(start, stop), ticks.time_base)

    def second(self, index: int) -> float:
        """Session seconds of one record."""
        return float(self.seconds(index, index + 1)[0])

    def _ticks(self, start: int, stop: int) -> NDArray[np.int64]:
        assert self.ticks is not None
        if self.ticks.values is not None:
            return self.ticks.values[start:stop]
        return self.ticks.start + self.ticks.step * np.arange(start, stop, dtype=np.int64)

    def attributes(self) -> dict[str, JSON]:
        """Entries of `attrs.lazystore`.

        `clock`; `times` where they were given one by one; for regular axes `ticks` (native) and
        `time` (session seconds).
        """
        entries: dict[str, JSON] = {"clock": self.clock.to_json()}
        if self.times_s is not None:
            return {**entries, "times": "given"}
        ticks = self.ticks
        if ticks is None or ticks.values is not None:
            return entries
        base = ticks.time_base
        entries["ticks"] = {
            "time_base": [base.numerator, base.denominator],
            "start": ticks.start,
            "step": ticks.step,
            "known": ticks.known,
        }
        if self.clock.knots is None:
            step_s = self.clock.rate * float(ticks.step * base)
            start_s = float(self.seconds(0, 1)[0])
            entries["time"] = {"start": start_s, "step": step_s, "size": self.n_records}
        return entries

    def side(self) -> list[tuple[ArraySpec, SidePieces]]:
        """The arrays `time` and, where ticks are no regular axis, the native ticks."""
        if self.ticks is None and self.times_s is None:
            return []
        attributes: dict[str, JSON] = {"units": "s", "long_name": "session time"}
        arrays = [(self._spec("time", np.dtype("f8"), attributes), self._pieces(self.seconds))]
        if self.ticks is not None and self.ticks.values is not None:
            base = self.ticks.time_base
            native: dict[str, JSON] = {
                "time_base": [base.numerator, base.denominator],
                "long_name": "native ticks, in time_base seconds",
            }
            spec = self._spec(self.ticks.name, np.dtype("i8"), native)
            arrays.append((spec, self._pieces(self._ticks)))
        return arrays

    def side_of_bins(self, bins: Sequence[int]) -> list[tuple[ArraySpec, SidePieces]]:
        """For overviews of `n` records each: when the first of every bin was taken."""
        if self.ticks is None and self.times_s is None:
            return []
        arrays = []
        for n in bins:
            length = ceil_div(self.n_records, n)
            spec = ArraySpec(
                f"{GROUP}/{n}/{self.dim}_{n}", (f"{self.dim}_{n}",), (length,), np.dtype("f8"),
                (min(length, max(1, ROWS_A_PIECE // n)),), codec=TIME_CODEC,
                attributes={"units": "s", "long_name": f"session time of the first of {n} frames"},
            )  # fmt: skip
            arrays.append((spec, self._pieces(self.seconds, n)))
        return arrays

    def _spec(self, path: str, dtype: np.dtype[Any], attributes: Mapping[str, JSON]) -> ArraySpec:
        rows = max(1, min(self.n_records, ROWS_A_PIECE))
        return ArraySpec(
            path, (self.dim,), (self.n_records,), dtype, (rows,), codec=TIME_CODEC, attributes=attributes
        )

    def _pieces(self, values: Callable[[int, int], NDArray[Any]], every: int = 1) -> SidePieces:
        step = max(1, ROWS_A_PIECE // every) * every

        def pieces() -> Iterator[NDArray[Any]]:
            for start in range(0, self.n_records, step):
                yield values(start, min(start + step, self.n_records))[::every]

        return pieces


def first_native_s(info: SourceInfo) -> float:
    """The recording's own time of its first record, in seconds; 0 where it has none."""
    if info.ticks is None:
        known = info.attributes.get("t_first_us")
        return float(known) / 1e6 if isinstance(known, int | float) else 0.0
    values = info.ticks.values
    tick = info.ticks.start if values is None else int(values[0])
    return float(tick * info.ticks.time_base)


def resolve_clock(clock: Clock | Mapping[str, Any] | str | float | None, info: SourceInfo) -> Clock:
    """The clock that a caller means.

    Parameters
    ----------
    clock
        A `Clock`, its JSON form, the session seconds (or ISO instant) of the first record, or None
        for "native seconds are session seconds, as far as anybody knows".
    info
        The recording.
    """
    if clock is None:
        return Clock()
    if isinstance(clock, Clock):
        return clock
    if isinstance(clock, Mapping):
        return Clock.from_json(clock)
    return Clock.from_start(clock, first_native_s=first_native_s(info))


def regular_ticks(info: SourceInfo, rate_hz: float) -> Ticks:
    """Ticks of a recording taken at a rate that somebody knows.

    Raises
    ------
    UsageError
        If the rate is not above 0, or every record has a time of its own.
    """
    if not 0 < rate_hz < float("inf"):
        raise UsageError(f"rate {rate_hz!r} Hz is not above 0; pass records a second, such as 30")
    if info.ticks is None:
        raise UsageError(f"a rate means nothing for {info.kind}: every record has its own time")
    return Ticks(time_base=1 / Fraction(str(rate_hz)))


def place_in_recording(stream: Source, info: SourceInfo) -> tuple[int, SourceInfo]:
    """Where a stream begins in the recording that it is a part of, and what that is: 0 and `info` if of none.

    Parts of a recording are on its clock, and each takes its share of the times given for all.
    """
    if isinstance(stream, PartSource):
        return stream.first_record, stream.recording_info
    return 0, info


class NoRecordsError(UsageError):
    """What was asked for holds no record of this stream; another one of the recording may have some."""


def range_of_span(times: NDArray[np.float64] | Timing, span: TimeSpan | None) -> tuple[int, int]:
    """Records [start, stop) whose session time lies in a half-open span.

    Parameters
    ----------
    times
        Shape (record,), session seconds, never going back; or the times of a whole recording.
    span
        (start, stop) in session seconds; None leaves a side open.

    Raises
    ------
    NoRecordsError
        If no record lies inside.
    UsageError
        If the span is empty.
    SourceError
        If times go back, so that a span is no range of records.

    >>> range_of_span(np.array([0.0, 0.5, 1.0, 1.5]), (0.5, 1.5))
    (1, 3)
    """
    low, high = span or (None, None)
    key: Callable[[int], float]
    if isinstance(times, Timing):
        n_records, key = times.n_records, times.second
        values = None if times.ticks is None else times.ticks.values
        if values is not None and bool(np.any(np.diff(values) < 0)):
            raise SourceError("the recording's times go back, so a time span is no range of records")
    else:
        n_records, key = len(times), times.item
    indices = range(n_records)
    start = 0 if low is None else bisect_left(indices, low, key=key)
    stop = n_records if high is None else bisect_left(indices, high, key=key)
    if start >= stop:
        if low is not None and high is not None and high <= low:
            raise UsageError(
                f"time {low!r} to {high!r} s ends where it starts, or before; expected A:B, A < B"
            )
        asked = " ".join(f"{word} {at!r} s" for word, at in (("from", low), ("to", high)) if at is not None)
        first, last = key(0), key(n_records - 1)
        raise NoRecordsError(
            f"time {asked} holds no record; the recording runs from {first:.6g} s to {last:.6g} s"
        )
    return start, stop


def native_span(clock: Clock, span: TimeSpan) -> TimeSpan:
    """A span of session seconds in the native seconds of an event recording, exact to its ticks."""
    low, high = span
    return _first_native(clock, low), _first_native(clock, high)


def _first_native(clock: Clock, session_s: float | None) -> float | None:
    return None if session_s is None else clock.first_tick_at(session_s, MICROSECOND) / 1e6
