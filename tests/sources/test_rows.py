"""Events, spikes and intervals chosen by time and place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lazystore.errors import UsageError
from lazystore.protocols import SideArray, Source
from lazystore.sources import rows
from lazystore.sources.rows import RowSource
from tests.sources.fakes import FakeSource, stack

RNG = np.random.default_rng(9)


def events(n: int = 500, *, sensor: Any = (64, 48), **more: Any) -> FakeSource:
    """Events whose times are nearly, but not quite, in order."""
    columns = {
        "t": np.cumsum(RNG.integers(0, 20, n)) + RNG.integers(0, 30, n),
        "x": RNG.integers(0, 64, n).astype("u2"),
        "y": RNG.integers(0, 48, n).astype("u2"),
        "p": RNG.integers(0, 2, n).astype("u1"),
    }
    item = {} if sensor is None else {"sensor": list(sensor)}
    return FakeSource("events", columns, item_attributes=item, **more)


def check_rows(source: Source, expected: dict[str, np.ndarray[Any, Any]]) -> None:
    length = source.info.length
    assert length == len(next(iter(expected.values())))
    for start, stop in [(0, length), (0, 1), (length - 1, length), (length // 3, 1 + length // 2)]:
        block = source.read(start, stop)
        assert block.start == start
        for name, values in expected.items():
            assert block.columns[name].dtype == values.dtype
            np.testing.assert_array_equal(block.columns[name], values[start:stop])
    source.close()


@given(
    low=st.none() | st.integers(-100, 6000),
    width=st.integers(1, 6000),
    crop=st.none() | st.just((10, 30, 5, 40)),
    block_rows=st.sampled_from([1, 7, 64, 10_000]),
)
def test_the_rows_kept_are_those_of_a_mask(low: int | None, width: int, crop: Any, block_rows: int) -> None:
    """A span of disordered events equals a boolean mask over all of them, whatever the block."""
    source = events()
    t, x, y = (source.columns[name] for name in "txy")
    mask = np.ones(len(t), bool)
    if low is not None:
        mask &= (t >= low) & (t < low + width)
    y0, y1, x0, x1 = crop or (0, 48, 0, 64)
    mask &= (y >= y0) & (y < y1) & (x >= x0) & (x < x1)
    span = None if low is None else (low / 1e6, (low + width) / 1e6)
    before = rows.ROWS_A_BLOCK
    rows.ROWS_A_BLOCK = block_rows
    try:
        if not mask.any():
            with pytest.raises(UsageError, match="leave none of the 500 rows of 'fake'"):
                RowSource(source, time=span, crop=crop)
            return
        chosen = RowSource(source, time=span, crop=crop)
        expected = {name: values[mask] for name, values in source.columns.items()}
        expected["x"], expected["y"] = expected["x"] - np.uint16(x0), expected["y"] - np.uint16(y0)
        check_rows(chosen, expected)
    finally:
        rows.ROWS_A_BLOCK = before
    assert source.is_closed


def test_a_crop_moves_the_sensor() -> None:
    """Kept events count from the crop's corner, and the sensor is the crop's size; it is recorded."""
    chosen = RowSource(events(), crop=(10, 30, 5, 40), time=(None, 1.0))
    assert chosen.info.item_attributes["sensor"] == [35, 20]
    assert chosen.info.attributes["selection"] == {"time": [None, 1.0], "crop": [10, 30, 5, 40]}


def test_triggers_keep_to_the_span() -> None:
    """External triggers outside of the span go, in step with each other; other side arrays stay."""
    side = (
        SideArray("triggers/t", ("trigger",), np.array([0, 100, 2000, 5000])),
        SideArray("triggers/id", ("trigger",), np.array([1, 2, 3, 4])),
        SideArray("lens", ("axis",), np.zeros(2)),
    )
    chosen = RowSource(events(side=side), time=(100e-6, 0.005))
    kept = {array.path: array.values.tolist() for array in chosen.info.side}
    assert kept == {"triggers/t": [100, 2000], "triggers/id": [2, 3], "lens": [0, 0]}


def test_spikes_are_chosen_by_time() -> None:
    """A spike at the start of the span is inside, one at its end is not."""
    source = FakeSource(
        "spikes", {"spike_time": np.array([0.5, 1.0, 1.5, 2.0]), "unit": np.array([3, 1, 2, 1])}
    )
    chosen = RowSource(source, time=(1.0, 2.0))
    check_rows(chosen, {"spike_time": np.array([1.0, 1.5]), "unit": np.array([1, 2])})


def test_intervals_that_touch_the_span_stay_with_their_labels() -> None:
    """An interval is kept whole if any of it lies in the span; its label goes with it."""
    source = FakeSource(
        "intervals",
        {"start": np.array([0.0, 1.0, 3.0, 5.0]), "stop": np.array([1.0, 2.5, 4.0, 9.0])},
        side=(SideArray("label", ("interval",), np.array(["a", "b", "c", "d"])),),
    )
    chosen = RowSource(source, time=(1.0, 5.0))
    assert chosen.info.side[0].values.tolist() == ["b", "c"]
    check_rows(chosen, {"start": np.array([1.0, 3.0]), "stop": np.array([2.5, 4.0])})


def test_a_block_is_filtered_once_for_reads_in_order() -> None:
    """Small reads inside one block do not read the recording again and again."""
    source = events()
    chosen = RowSource(source, time=(0.001, None))
    source.reads.clear()
    for start in range(0, chosen.info.length - 10, 10):
        chosen.read(start, start + 10)
    assert len(source.reads) == 1


@pytest.mark.parametrize(
    ("source", "choice", "match"),
    [
        (stack(), {"time": (0, 1)}, "is of kind 'stack', which has records, not rows"),
        (
            events(),
            {"crop": (0, 49, 0, 64)},
            r"does not lie in a sensor of 48 x 64; expected \(y0, y1, x0, x1\)",
        ),
        (events(sensor=None), {"crop": (0, 70_000, 0, 64)}, "does not lie in a sensor of 65536 x 65536"),
        (events(), {"time": (2.0, 1.0)}, "is empty; expected start < stop"),
        (
            FakeSource("spikes", {"spike_time": np.zeros(2), "unit": np.zeros(2)}),
            {"crop": (0, 1, 0, 1)},
            "needs pixels, but 'fake' is of kind 'spikes'",
        ),
    ],
    ids=["stack", "sensor", "no-sensor", "empty", "spikes"],
)
def test_choices_that_mean_nothing_are_refused(
    source: FakeSource, choice: dict[str, Any], match: str
) -> None:
    """Each names the value and what was expected."""
    with pytest.raises(UsageError, match=match):
        RowSource(source, **choice)
