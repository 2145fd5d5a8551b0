"""A recording's own time <-> session seconds.

Each recording counts time its own way: from its first frame, from when the camera was switched on,
since 1970. A clock says what its seconds are on the session's common axis, and how well that is known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any, Literal, cast, get_args, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lazystore.errors import ClockError, StartError
from lazystore.knots import as_times, check_intervals, check_knots, interpolate

type Known = Literal["assumed", "given", "synchronised"]
type Mismatch = Literal["head", "tail"]

KNOWN: tuple[str, ...] = get_args(Known.__value__)
MISMATCH: tuple[str, ...] = get_args(Mismatch.__value__)

# A knot is about 40 bytes of JSON, twice in a store (item and root). More pulses than this are one
# pulse a frame, and then the frames' own times (`match_times`) are the better record.
MAX_KNOTS = 20_000


@dataclass(frozen=True, slots=True)
class Clock:
    """How a recording's native seconds map to session seconds.

    ``session_s = offset_s + rate * native_s``, or piecewise linear through `knots`, beyond them with
    the slope of the nearest pair.

    Attributes
    ----------
    id
        Which clock the native times were read from (``"session"``, ``"camera"``).
    offset_s
        Session second of native second 0, finite.
    rate
        Session seconds that pass in one native second, > 0.
    knots
        Matched (native_s, session_s) pairs, at least 2, strictly increasing in both; they carry the
        whole mapping, so `offset_s` is 0 and `rate` 1 beside them.
    epoch_utc
        UTC time of session second 0 (``"2026-11-21T09:30:00Z"``), None when unknown.
    known
        How well the mapping is known: ``"assumed"``, ``"given"`` by a person, ``"synchronised"``
        by pulses that both clocks heard.

    Raises
    ------
    ClockError
        If a value is none of the above.
    """

    id: str = "session"
    offset_s: float = 0.0
    rate: float = 1.0
    knots: tuple[tuple[float, float], ...] | None = None
    epoch_utc: str | None = None
    known: Known = "assumed"

    def __post_init__(self) -> None:
        if not self.id:
            raise ClockError(f"clock id {self.id!r} is empty; expected a name such as 'camera'")
        if not math.isfinite(self.offset_s):
            raise ClockError(f"clock offset {self.offset_s!r} s is not finite; expected seconds")
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise ClockError(f"clock rate {self.rate!r} is not a finite number above 0; 1.0 means no drift")
        if self.known not in KNOWN:
            raise ClockError(f"clock known={self.known!r} is not one of {', '.join(KNOWN)}")
        if self.epoch_utc is not None and self.epoch_utc != _utc_text(_parse_instant(self.epoch_utc)):
            raise ClockError(
                f"clock epoch {self.epoch_utc!r} is not spelled in UTC; "
                f"expected {_utc_text(_parse_instant(self.epoch_utc))!r}"
            )
        if self.knots is not None:
            if (self.offset_s, self.rate) != (0.0, 1.0):
                raise ClockError(
                    f"clock has knots beside offset_s={self.offset_s!r} and rate={self.rate!r}; "
                    "knots carry the whole mapping: shift their session seconds instead"
                )
            check_knots(np.array(self.knots, dtype=np.float64))

    @classmethod
    def from_start(
        cls,
        start: str | float,
        *,
        first_native_s: float = 0.0,
        session_epoch_utc: str | None = None,
        id: str = "session",
    ) -> Clock:
        """The clock of a recording whose start somebody knows.

        Parameters
        ----------
        start
            Session seconds at which the recording starts (``"12.5"``), or the instant in ISO 8601
            with its offset from UTC (``"2026-11-21T10:30:00+01:00"``).
        first_native_s
            The recording's own time of its first record, in seconds.
        session_epoch_utc
            UTC time of session second 0. None with an instant: the session starts with this
            recording.

        Raises
        ------
        StartError
            If `start` is neither a finite number nor an instant with its offset from UTC.

        >>> Clock.from_start("12.5", first_native_s=2.0).to_session(2.0)
        12.5
        >>> Clock.from_start("2026-11-21T10:30:00+01:00").epoch_utc
        '2026-11-21T09:30:00Z'
        """
        epoch_utc = None if session_epoch_utc is None else _utc_text(_parse_instant(session_epoch_utc))
        try:
            start_s = float(start)
        except ValueError:
            try:
                instant = _parse_instant(str(start))
            except ClockError as error:
                # Written by the caller just now, unlike what `_parse_instant` finds in a store.
                raise StartError(str(error)) from None
            epoch_utc = epoch_utc or _utc_text(instant)
            start_s = (instant - _parse_instant(epoch_utc)).total_seconds()
        if not math.isfinite(start_s):
            raise StartError(
                f"start {start!r} is not finite; expected session seconds or an ISO 8601 instant"
            )
        return cls(id=id, offset_s=start_s - first_native_s, epoch_utc=epoch_utc, known="given")

    @classmethod
    def synchronise(cls, own_s: ArrayLike, reference_s: ArrayLike, *, id: str = "session") -> Clock:
        """The clock that puts every pulse of `own_s` at the session second of its partner.

        Parameters
        ----------
        own_s
            Shape (pulse,), native seconds at which the recording heard each pulse.
        reference_s
            Shape (pulse,), session seconds of the same pulses.

        Raises
        ------
        ClockError
            If the counts differ, fewer than 2 or more than `MAX_KNOTS` pulses are given, times do
            not increase strictly, or an interval differs so much that a pulse must be missing.

        >>> clock = Clock.synchronise([0, 10, 20], [100, 110.001, 120.002])
        >>> clock.to_session(15.0), round(clock.drift_ppm)
        (115.0015, 100)
        """
        own, reference = as_times("own pulses", own_s), as_times("reference pulses", reference_s)
        if len(own) != len(reference):
            raise ClockError(
                f"{len(own)} own pulses do not match {len(reference)} reference pulses; "
                "cut both lists to the pulses that both clocks heard"
            )
        if len(own) > MAX_KNOTS:
            raise ClockError(
                f"{len(own)} pulses are more than {MAX_KNOTS}; pass every {-(-len(own) // MAX_KNOTS)}th pair"
            )
        knots = np.column_stack([own, reference])
        check_knots(knots)
        check_intervals(knots)
        return cls(id=id, knots=tuple(map(tuple, knots.tolist())), known="synchronised")

    @overload
    def to_session(self, native_s: float) -> float: ...
    @overload
    def to_session(self, native_s: NDArray[Any]) -> NDArray[np.float64]: ...
    def to_session(self, native_s: float | NDArray[Any]) -> float | NDArray[np.float64]:
        """Session seconds of native seconds; float64 of the same shape, float for a number.

        >>> Clock(offset_s=2.5).to_session(np.array([0, 1]))
        array([2.5, 3.5])
        """
        native = np.asarray(native_s, dtype=np.float64)
        session = (
            self.offset_s + self.rate * native if self.knots is None else interpolate(self.knots, native)
        )
        return session if isinstance(native_s, np.ndarray) else float(session)

    @overload
    def to_native(self, session_s: float) -> float: ...
    @overload
    def to_native(self, session_s: NDArray[Any]) -> NDArray[np.float64]: ...
    def to_native(self, session_s: float | NDArray[Any]) -> float | NDArray[np.float64]:
        """Native seconds of session seconds: the inverse of `to_session` to float precision.

        >>> Clock(offset_s=2.5, rate=2.0).to_native(4.5)
        1.0
        """
        session = np.asarray(session_s, dtype=np.float64)
        if self.knots is None:
            native: NDArray[np.float64] = (session - self.offset_s) / self.rate
        else:
            native = interpolate([(there, here) for here, there in self.knots], session)
        return native if isinstance(session_s, np.ndarray) else float(native)

    def ticks_to_session(self, ticks: ArrayLike, time_base: Fraction) -> NDArray[np.float64]:
        """Session seconds of integer ticks.

        Ticks since 1970 in µs need 51 bits, so their plain seconds are only good to 0.2 µs. Here the
        tick nearest to session second 0 is taken off first, in integers.

        Parameters
        ----------
        ticks
            Any shape, int64; tick * `time_base` is native seconds.
        time_base
            Seconds of one tick, > 0.

        Returns
        -------
        np.ndarray
            The shape of `ticks`, float64, never decreasing where ticks do not.

        >>> Clock(offset_s=-1.7e9).ticks_to_session([1_700_000_000_000_001], Fraction(1, 10**6))
        array([1.e-06])
        """
        ticks = np.asarray(ticks, dtype=np.int64)
        if self.knots is not None:
            return self.to_session(_seconds(ticks, time_base))
        offset, rate = Fraction(self.offset_s), Fraction(self.rate)
        origin = round(-offset / rate / time_base)
        if not -(2**62) < origin < 2**62:  # ticks that no int64 holds: nothing to gain, only to overflow
            origin = 0
        at_origin_s = float(offset + rate * origin * time_base)
        return at_origin_s + self.rate * _seconds(ticks - origin, time_base)

    def first_tick_at(self, session_s: float, time_base: Fraction) -> int:
        """The smallest tick whose session second is not before `session_s`.

        Half-open windows in session seconds become half-open windows in ticks with it, exactly as
        a comparison with `ticks_to_session` would have it. Times that no recording reaches give
        -2**61 or 2**61.

        >>> Clock(offset_s=0.5).first_tick_at(0.75, Fraction(1, 10))
        3
        """
        native_s = self.to_native(session_s)
        if math.isnan(native_s):
            raise ClockError(f"session time {session_s!r} is not a number of seconds")
        if abs(native_s) >= 2**61 * time_base:
            return 2**61 if native_s > 0 else -(2**61)
        guess = math.ceil(Fraction(native_s) / time_base)

        def is_before(tick: int) -> bool:
            return float(self.ticks_to_session(tick, time_base)) < session_s

        # The guess is off by rounding only: widen by powers of two, then halve.
        low, high, step = guess, guess, 1
        while not is_before(low):
            low, step = low - step, step * 2
        step = 1
        while is_before(high):
            high, step = high + step, step * 2
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if is_before(middle) else (low, middle)
        return high

    @property
    def drift_ppm(self) -> float:
        """How much faster session time passes than native time, in parts per million, end to end."""
        if self.knots is None:
            return (self.rate - 1.0) * 1e6
        (own_first, first), (own_last, last) = self.knots[0], self.knots[-1]
        return ((last - first) / (own_last - own_first) - 1.0) * 1e6

    @property
    def residual_s(self) -> float:
        """Largest distance of a knot from the straight line through the first and the last, in s."""
        if self.knots is None:
            return 0.0
        own, session = np.array(self.knots).T
        slope = (session[-1] - session[0]) / (own[-1] - own[0])
        return float(np.abs(session - (session[0] + slope * (own - own[0]))).max())

    def describe(self) -> str:
        """One phrase for people: how the start is known, and its figures.

        >>> Clock().describe(), Clock(offset_s=2.5, known="given").describe()
        ('assumed 0', 'given 2.5 s')
        """
        if self.knots is not None:
            return (
                f"{self.known}, {len(self.knots)} pulses, drift {self.drift_ppm:+.1f} ppm, "
                f"residual {self.residual_s * 1e3:.3g} ms"
            )
        text = f"{self.known} {self.offset_s:g} s" if self.offset_s else f"{self.known} 0"
        return text if self.rate == 1.0 else f"{text}, drift {self.drift_ppm:+.1f} ppm"

    def to_json(self) -> dict[str, Any]:
        """The `clock` entry of ``attrs.lazystore``."""
        return {
            "id": self.id,
            "offset_s": self.offset_s,
            "rate": self.rate,
            "knots": None if self.knots is None else [list(knot) for knot in self.knots],
            "epoch_utc": self.epoch_utc,
            "known": self.known,
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Clock:
        """The clock that `to_json` wrote; missing entries take their defaults.

        Raises
        ------
        ClockError
            If an entry is of the wrong type or value.

        >>> Clock.from_json(Clock(offset_s=1.5, known="given").to_json())
        Clock(id='session', offset_s=1.5, rate=1.0, knots=None, epoch_utc=None, known='given')
        """
        try:
            knots, epoch_utc = document.get("knots"), document.get("epoch_utc")
            return cls(
                id=str(document.get("id", "session")),
                offset_s=float(document.get("offset_s", 0.0)),
                rate=float(document.get("rate", 1.0)),
                knots=None if knots is None else tuple((float(own), float(there)) for own, there in knots),
                epoch_utc=None if epoch_utc is None else str(epoch_utc),
                known=cast("Known", document.get("known", "assumed")),
            )
        except (AttributeError, TypeError, ValueError) as error:
            if isinstance(error, ClockError):
                raise
            raise ClockError(
                f"clock record {document!r} cannot be read: {error}; expected "
                "{id, offset_s, rate, knots, epoch_utc, known}"
            ) from error


@dataclass(frozen=True, slots=True)
class MatchedTimes:
    """Times and the records they belong to: ``times_s[i]`` is that of record ``first_record + i``.

    `times_s` has shape (record,), float64, session seconds.
    """

    times_s: NDArray[np.float64]
    first_record: int

    @property
    def stop_record(self) -> int:
        """One past the last record that has a time."""
        return self.first_record + len(self.times_s)


def match_times(times: ArrayLike, n_records: int, mismatch: Mismatch | None = None) -> MatchedTimes:
    """Pair one given time with each record.

    Parameters
    ----------
    times
        Shape (time,), session seconds, finite, never going back.
    n_records
        Records of the recording, >= 0.
    mismatch
        What to do when the counts differ: None refuses; ``"head"`` pairs the first time with the
        first record and drops the surplus at the end, ``"tail"`` pairs the last with the last.

    Raises
    ------
    ClockError
        If the counts differ and `mismatch` is None, or times go back or are not finite.

    >>> matched = match_times([0.0, 0.1, 0.2], 2, "tail")
    >>> matched.times_s, matched.first_record
    (array([0.1, 0.2]), 0)
    """
    values = as_times("times", times)
    if mismatch is not None and mismatch not in MISMATCH:
        raise ClockError(f"times mismatch {mismatch!r} is not one of {', '.join(MISMATCH)}")
    backwards = np.flatnonzero(np.diff(values) < 0)
    if backwards.size:
        at = int(backwards[0])
        raise ClockError(
            f"times go back from {float(values[at])!r} s to {float(values[at + 1])!r} s at entry {at + 1}; "
            "expected session seconds in the order of the records"
        )
    if len(values) != n_records and mismatch is None:
        raise ClockError(
            f"{len(values)} times do not match {n_records} records; correct the times, or pass "
            "--times-mismatch head (first time is the first record's) or tail (last is the last's)"
        )
    count = min(len(values), n_records)
    if mismatch == "tail":
        return MatchedTimes(values[len(values) - count :], n_records - count)
    return MatchedTimes(values[:count], 0)


def _seconds(ticks: NDArray[np.int64], time_base: Fraction) -> NDArray[np.float64]:
    """Seconds of ticks, float64: times the numerator, then divided, which rounds least."""
    seconds: NDArray[np.float64] = ticks.astype(np.float64) * time_base.numerator / time_base.denominator
    return seconds


def _parse_instant(text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ClockError(
            f"start {text!r} is neither seconds nor an instant; "
            "expected '12.5' or '2026-11-21T10:30:00+01:00'"
        ) from None
    if instant.tzinfo is None:
        raise ClockError(f"instant {text!r} has no offset from UTC; add 'Z' for UTC or one such as '+01:00'")
    return instant.astimezone(UTC)


def _utc_text(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")
