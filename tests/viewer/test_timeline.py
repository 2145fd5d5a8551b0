"""One slider in session seconds: which sample a step shows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazystore.errors import UsageError
from lazystore.viewer.timeline import ListedSamples, RegularSamples, timeline_of


@given(
    start=st.floats(-1e3, 1e3),
    step=st.floats(1e-3, 10),
    size=st.integers(2, 500),
    second=st.floats(-1.5e3, 1.5e3),
)
def test_regular_samples_agree_with_listed_ones(start: float, step: float, size: int, second: float) -> None:
    """A regular axis shows the sample that the same times, listed, would show."""
    times = start + step * np.arange(size)
    found = RegularSamples(start, step, size).nearest(second)
    distance = np.abs(times - second)
    if found is None:
        assert distance.min() >= step / 2 - 1e-6
    else:
        assert distance[found] <= distance.min() + 1e-6


@given(st.lists(st.floats(0, 100), min_size=2, max_size=50), st.floats(-10, 110))
def test_listed_samples_show_the_nearest_and_nothing_outside(times: list[float], second: float) -> None:
    """Inside the recording the nearest sample is shown, outside of it none."""
    listed = ListedSamples(np.sort(np.array(times)))
    found = listed.nearest(second)
    low, high = listed.span_s
    if low <= second <= high:
        assert found is not None
        distance = np.abs(listed.times_s - second)
        assert distance[found] == distance.min()
    elif second < low - listed.interval_s - 1 or second > high + listed.interval_s + 1:
        assert found is None


def test_the_slider_covers_all_items_at_the_fastest_rate() -> None:
    """It begins with the first sample of any item, ends with the last, and steps as the finest."""
    line = timeline_of([RegularSamples(3.0, 0.04, 101), RegularSamples(0.0, 0.1, 50)])
    assert line.start_s == 0.0
    assert line.step_s == 0.04
    assert line.second(line.n_steps - 1) == pytest.approx(7.0, abs=0.04)
    assert line.step(line.second(17)) == 17


def test_a_slider_over_nothing_is_refused() -> None:
    """Without an item to show there is no slider; a rate of 0 is no rate."""
    with pytest.raises(UsageError, match="nothing to show"):
        timeline_of([])
    with pytest.raises(UsageError, match="not above 0"):
        timeline_of([RegularSamples(0, 1, 2)], rate_hz=0.0)
