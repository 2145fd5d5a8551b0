"""Clocks: exact inverses, matched pulses, given times, refusals."""

from __future__ import annotations

import itertools
import json
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lazystore.clock import MAX_KNOTS, Clock, match_times
from lazystore.errors import ClockError, StartError, UsageError

SECONDS = st.floats(-1e9, 1e9)
RATES = st.floats(0.01, 100.0)
STEPS = st.floats(1e-3, 1e4)


@st.composite
def clocks(draw: st.DrawFn) -> Clock:
    """Clocks with an offset and a rate, or with knots."""
    if draw(st.booleans()):
        return Clock(offset_s=draw(SECONDS), rate=draw(RATES), known="given")
    steps = draw(st.lists(st.tuples(STEPS, RATES), min_size=1, max_size=6))
    own, session = draw(st.floats(-1e5, 1e5)), draw(st.floats(-1e5, 1e5))
    knots = [(own, session)]
    for step, rate in steps:
        own, session = own + step, session + step * rate
        knots.append((own, session))
    return Clock(knots=tuple(knots), known="synchronised")


@given(clocks(), st.lists(SECONDS, min_size=1, max_size=20))
def test_native_times_survive_the_way_there_and_back(clock: Clock, native: list[float]) -> None:
    """`to_native` undoes `to_session` to float precision of the largest number on the way."""
    values = np.array(native)
    session = clock.to_session(values)
    back = clock.to_native(session)
    pairs = clock.knots or ((0.0, clock.offset_s),)
    slopes = (
        [clock.rate]
        if clock.knots is None
        else [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(pairs)]
    )
    own_scale = max(1.0, np.abs(values).max(), *(abs(own) for own, _ in pairs))
    session_scale = max(np.abs(session).max(), *(abs(there) for _, there in pairs))
    tolerance = (
        16 * np.finfo(np.float64).eps * (own_scale * max(slopes) / min(slopes) + session_scale / min(slopes))
    )
    assert np.abs(back - values).max() <= tolerance


@given(clocks(), st.lists(SECONDS, min_size=2, max_size=50))
def test_order_is_kept(clock: Clock, native: list[float]) -> None:
    """Records in order stay in order, knots and rounding included."""
    knots = [own for own, _ in clock.knots or ()]
    near = [math.nextafter(own, direction) for own in knots for direction in (-math.inf, math.inf)]
    session = clock.to_session(np.sort(np.array(native + knots + near)))
    assert (np.diff(session) >= 0).all()


@given(clocks())
def test_json_round_trip(clock: Clock) -> None:
    """A clock survives its JSON record, which has no NaN."""
    assert Clock.from_json(json.loads(json.dumps(clock.to_json(), allow_nan=False))) == clock


def test_numbers_and_arrays_agree() -> None:
    """A number in gives a float out, an array an array of its shape."""
    clock = Clock(offset_s=1.0, rate=2.0)
    assert clock.to_session(3) == 7.0
    assert type(clock.to_session(3.0)) is float
    assert clock.to_session(np.ones((2, 3))).shape == (2, 3)
    assert clock.to_native(np.array([7.0])).tolist() == [3.0]


# --- ticks ----------------------------------------------------------------------------------------


@given(
    st.integers(-(2**50), 2**50),
    st.lists(st.integers(0, 10**9), min_size=1, max_size=20),
    st.sampled_from([Fraction(1, 10**6), Fraction(1, 90_000), Fraction(1001, 30_000), Fraction(1, 10**9)]),
)
def test_large_ticks_lose_nothing(start: int, steps: list[int], time_base: Fraction) -> None:
    """Ticks far from 0 with an offset that undoes it keep the precision of the session seconds."""
    clock = Clock(offset_s=-float(start * time_base), known="given")
    ticks = start + np.cumsum(np.array(steps, dtype=np.int64))
    exact = [Fraction(clock.offset_s) + int(tick) * time_base for tick in ticks]
    got = clock.ticks_to_session(ticks, time_base)
    assert got == pytest.approx([float(value) for value in exact], rel=1e-15, abs=float(time_base) * 1e-6)


def test_plain_seconds_would_lose_microseconds() -> None:
    """The case that `ticks_to_session` exists for: epoch microseconds near the session's start."""
    clock = Clock(offset_s=-1.7e9, known="given")
    tick = 1_700_000_000_000_001
    assert clock.ticks_to_session(tick, Fraction(1, 10**6)) == 1e-6
    assert clock.to_session(tick / 1e6) != 1e-6


@given(
    clocks(),
    st.floats(-1e6, 1e6),
    st.sampled_from([Fraction(1, 10**6), Fraction(1, 30), Fraction(1001, 30_000)]),
)
def test_first_tick_is_the_border(clock: Clock, session_s: float, time_base: Fraction) -> None:
    """The tick found is not before the time, and the one before it is."""
    tick = clock.first_tick_at(session_s, time_base)
    assume(abs(tick) < 2**61)
    before, at = clock.ticks_to_session([tick - 1, tick], time_base)
    assert before < session_s <= at


def test_first_tick_beyond_every_recording() -> None:
    """Windows without an end have borders too; NaN has none."""
    clock = Clock()
    assert clock.first_tick_at(math.inf, Fraction(1, 1000)) == 2**61
    assert clock.first_tick_at(-math.inf, Fraction(1, 1000)) == -(2**61)
    assert clock.first_tick_at(1e30, Fraction(1, 1000)) == 2**61
    with pytest.raises(ClockError, match="session time nan is not a number of seconds"):
        clock.first_tick_at(math.nan, Fraction(1, 1000))


def test_an_offset_beyond_int64_ticks_does_not_overflow() -> None:
    """An absurd offset costs precision, not a crash."""
    clock = Clock(offset_s=1e30, known="given")
    assert clock.ticks_to_session([5], Fraction(1, 10**9)).tolist() == [1e30]


# --- starts ---------------------------------------------------------------------------------------


def test_a_start_in_seconds_is_where_the_first_record_goes() -> None:
    """Whatever the recording's own first time is, it lands at the start given."""
    clock = Clock.from_start("12.5", first_native_s=913.0, id="camera")
    assert clock.to_session(913.0) == 12.5
    assert (clock.known, clock.id, clock.epoch_utc) == ("given", "camera", None)


def test_an_instant_starts_the_session_where_none_is_known() -> None:
    """With no epoch yet, the recording starts the session."""
    clock = Clock.from_start("2026-11-21T10:30:00.250+01:00")
    assert clock.epoch_utc == "2026-11-21T09:30:00.250000Z"
    assert clock.offset_s == 0.0


def test_an_instant_is_placed_on_the_session_epoch() -> None:
    """With an epoch known, the instant becomes session seconds."""
    clock = Clock.from_start(
        "2026-11-21T09:30:10Z", session_epoch_utc="2026-11-21T09:30:00Z", first_native_s=2.0
    )
    assert clock.to_session(2.0) == 10.0
    assert clock.epoch_utc == "2026-11-21T09:30:00Z"


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("tomorrow", "start 'tomorrow' is neither seconds nor an instant; expected '12.5' or"),
        ("2026-11-21T10:30:00", "has no offset from UTC; add 'Z'"),
        ("inf", "start 'inf' is not finite"),
        ("nan", "start 'nan' is not finite"),
    ],
)
def test_bad_starts_are_refused(start: str, message: str) -> None:
    """A start that means nothing, or two things, is named in the message; a mistake of the caller's."""
    with pytest.raises(StartError, match=message) as caught:
        Clock.from_start(start)
    assert isinstance(caught.value, UsageError)
    assert isinstance(caught.value, ClockError)
    assert caught.value.exit_status == 2


# --- pulses ---------------------------------------------------------------------------------------


def test_every_pulse_lands_on_its_partner() -> None:
    """Own pulse times map to the reference's exactly, and the figures say how well."""
    rng = np.random.default_rng(3)
    own = np.cumsum(rng.uniform(0.5, 1.5, 200)) + 40.0
    reference = own * (1 + 50e-6) + 7.0 + rng.normal(0, 1e-3, 200)
    clock = Clock.synchronise(own, reference, id="camera")
    assert clock.to_session(own) == pytest.approx(reference, abs=1e-12)
    assert clock.drift_ppm == pytest.approx(50, abs=30)
    assert 1e-3 < clock.residual_s < 6e-3
    assert clock.known == "synchronised"


def test_beyond_the_pulses_the_end_slopes_go_on() -> None:
    """Records before the first and after the last pulse follow the nearest pair of pulses."""
    clock = Clock.synchronise([0, 1, 2], [10, 11.0, 12.1])
    assert clock.to_session(np.array([-1.0, 3.0])) == pytest.approx([9.0, 13.2])


@pytest.mark.parametrize(
    ("own", "reference", "message"),
    [
        ([1, 2, 3], [1, 2], "3 own pulses do not match 2 reference pulses; cut both"),
        ([1], [1], r"matched pairs have shape \(1, 2\); expected 2 or more"),
        ([1, 2, 2], [1, 2, 3], "own times of the pulses do not increase: 2.0 s, then 2.0 s at pulse 2"),
        ([1, 2, 3], [1, 3, 2], "session times of the pulses do not increase: 3.0 s, then 2.0 s at pulse 2"),
        ([1, np.nan], [1, 2], "own pulses hold nan at entry 1; expected finite seconds"),
        ([[1, 2]], [1, 2], r"own pulses have shape \(1, 2\); expected one number for each"),
        (
            [0, 1, 2, 4, 5],
            [0, 1, 2, 3, 4],
            "pulses 2 and 3 are 2 s apart on the own clock and 1 s on the ref",
        ),
        (
            np.arange(MAX_KNOTS + 1),
            np.arange(MAX_KNOTS + 1),
            "20001 pulses are more than 20000; pass every 2th",
        ),
    ],
    ids=["count", "single", "doubled", "disordered", "nan", "shape", "missed", "too many"],
)
def test_pulses_that_cannot_match_are_refused(own: Any, reference: Any, message: str) -> None:
    """Each way for two pulse trains to disagree has its own message."""
    with pytest.raises(ClockError, match=message):
        Clock.synchronise(own, reference)


def test_jitter_of_close_pulses_is_no_missed_pulse() -> None:
    """Pulses 20 ms apart that jitter by some milliseconds are still the same pulses."""
    own = np.arange(50) * 0.02
    jitter = np.random.default_rng(1).uniform(-3e-3, 3e-3, 50)
    assert Clock.synchronise(own, own + jitter).known == "synchronised"


# --- records --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"id": ""}, "clock id '' is empty"),
        ({"offset_s": math.nan}, "clock offset nan s is not finite"),
        ({"rate": 0.0}, "clock rate 0.0 is not a finite number above 0"),
        ({"rate": -1.0}, "clock rate -1.0 is not"),
        ({"rate": math.inf}, "clock rate inf is not"),
        ({"known": "guessed"}, "known='guessed' is not one of assumed, given, synchronised"),
        ({"epoch_utc": "noon"}, "start 'noon' is neither seconds nor an instant"),
        (
            {"epoch_utc": "2026-11-21T10:30:00+01:00"},
            "is not spelled in UTC; expected '2026-11-21T09:30:00Z'",
        ),
        (
            {"knots": ((0.0, 0.0), (1.0, 1.0)), "rate": 2.0},
            "clock has knots beside offset_s=0.0 and rate=2.0",
        ),
        ({"knots": ((0.0, 0.0),)}, "expected 2 or more pairs"),
        ({"knots": ((0.0, 0.0), (0.0, 1.0))}, "own times of the pulses do not increase"),
        ({"knots": ((0.0, 0.0), (1.0, math.inf))}, "session times of the pulses hold inf at entry 1"),
    ],
)
def test_impossible_clocks_are_refused(arguments: dict[str, Any], message: str) -> None:
    """No clock exists whose mapping would not be increasing and finite."""
    with pytest.raises(ClockError, match=message):
        Clock(**arguments)


@pytest.mark.parametrize(
    "document",
    [{"offset_s": "soon"}, {"knots": [[1, 2, 3]]}, {"knots": 5}, {"rate": None}, ["clock"]],
)
def test_damaged_records_are_refused(document: Any) -> None:
    """A record that is not a clock's is named as such, whatever is wrong with it."""
    with pytest.raises(ClockError, match=r"clock record .* cannot be read: .*expected \{id, offset_s"):
        Clock.from_json(document)


def test_a_record_with_an_impossible_value_keeps_its_own_message() -> None:
    """What is wrong with the value is said, not just that the record is bad."""
    with pytest.raises(ClockError, match=r"^clock rate -2.0 is not"):
        Clock.from_json({"rate": -2})


@pytest.mark.parametrize(
    ("clock", "text"),
    [
        (Clock(), "assumed 0"),
        (Clock(known="given"), "given 0"),
        (Clock(offset_s=2.5, known="given"), "given 2.5 s"),
        (Clock(offset_s=-1, rate=1.0001, known="given"), "given -1 s, drift +100.0 ppm"),
        (Clock.synchronise([0, 1], [5, 6]), "synchronised, 2 pulses, drift +0.0 ppm, residual 0 ms"),
    ],
)
def test_descriptions(clock: Clock, text: str) -> None:
    """People read how the start is known at a glance."""
    assert clock.describe() == text


# --- given times ----------------------------------------------------------------------------------


@given(st.integers(0, 50), st.integers(0, 50), st.sampled_from(["head", "tail"]))
def test_mismatched_times_pair_at_one_end(n_times: int, n_records: int, mismatch: Any) -> None:
    """Head pairs the first with the first, tail the last with the last; nothing pairs outside."""
    times = np.arange(n_times) * 0.1
    matched = match_times(times, n_records, mismatch)
    count = min(n_times, n_records)
    assert matched.stop_record - matched.first_record == count
    assert 0 <= matched.first_record <= matched.stop_record <= n_records
    if count and mismatch == "head":
        assert (matched.first_record, matched.times_s[0]) == (0, times[0])
    if count and mismatch == "tail":
        assert (matched.stop_record, matched.times_s[-1]) == (n_records, times[-1])


def test_equal_counts_pair_one_to_one() -> None:
    """Equal times in a row are allowed: some recorders write them."""
    matched = match_times([0.0, 0.1, 0.1], 3)
    assert matched.times_s.tolist() == [0.0, 0.1, 0.1]
    assert (matched.first_record, matched.stop_record) == (0, 3)


@pytest.mark.parametrize(
    ("times", "n_records", "mismatch", "message"),
    [
        ([0, 1], 3, None, "2 times do not match 3 records; .*--times-mismatch head .* or tail"),
        ([0, 2, 1], 3, None, "times go back from 2.0 s to 1.0 s at entry 2"),
        ([0, math.inf], 2, None, "times hold inf at entry 1"),
        ([[0, 1]], 2, None, r"times have shape \(1, 2\)"),
        ([0, 1], 3, "middle", "times mismatch 'middle' is not one of head, tail"),
    ],
    ids=["count", "backwards", "infinite", "shape", "unknown choice"],
)
def test_times_that_do_not_fit_are_refused(times: Any, n_records: int, mismatch: Any, message: str) -> None:
    """Both counts, or the offending entry, stand in the message."""
    with pytest.raises(ClockError, match=message):
        match_times(times, n_records, mismatch)
