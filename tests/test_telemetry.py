"""Counters, observers and the log: right from many threads, silent unless asked."""

from __future__ import annotations

import io
import logging
import os
import pickle
import threading
from collections.abc import Mapping

import pytest

from lazystore import telemetry
from lazystore.telemetry import Counters, Observers, log_to, logger


def test_sums_from_many_threads_are_exact() -> None:
    """No count is lost between threads."""
    counters = Counters()
    start = threading.Barrier(4)

    def count() -> None:
        start.wait()
        for _ in range(2000):
            counters.add("hit")
            counters.add("bytes", 3)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counters.snapshot() == {"bytes": 24_000, "hit": 8000}


def test_reset_gives_what_was_counted() -> None:
    """Counts are told once: a reset returns them and starts at nothing."""
    counters = Counters()
    counters.add("miss", 2)
    assert counters.reset() == {"miss": 2}
    assert counters.snapshot() == {}


def test_pickled_counters_count_on_by_themselves() -> None:
    """A copy starts at the sums of the original, and has a lock of its own."""
    counters = Counters()
    counters.add("hit")
    copy = pickle.loads(pickle.dumps(counters))
    copy.add("hit")
    assert (counters.snapshot(), copy.snapshot()) == ({"hit": 1}, {"hit": 2})


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_child_of_fork_can_count() -> None:
    """A lock that another thread held at the fork does not block the child."""
    counters = Counters()
    with counters._lock, telemetry.observers._lock:
        child = os.fork()
        if child == 0:  # pragma: no cover - the child's coverage is not collected
            counters.add("hit")
            unsubscribe = telemetry.subscribe(lambda event, numbers: None)
            unsubscribe()
            os._exit(0 if counters.snapshot() == {"hit": 1} else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_observers_hear_in_order_until_they_leave() -> None:
    """Every subscriber hears every event with its numbers; leaving twice is leaving once."""
    observers = Observers()
    heard: list[tuple[str, str, Mapping[str, float]]] = []
    leave_first = observers.subscribe(lambda event, numbers: heard.append(("first", event, numbers)))
    observers.subscribe(lambda event, numbers: heard.append(("second", event, numbers)))
    observers.notify("chunk", {"bytes": 8})
    leave_first()
    leave_first()
    observers.notify("done")
    assert heard == [
        ("first", "chunk", {"bytes": 8}),
        ("second", "chunk", {"bytes": 8}),
        ("second", "done", {}),
    ]


def test_one_observer_twice_leaves_once() -> None:
    """Each subscription ends by its own function only."""
    observers = Observers()
    heard: list[str] = []

    def observer(event: str, numbers: Mapping[str, float]) -> None:
        heard.append(event)

    leave = observers.subscribe(observer)
    observers.subscribe(observer)
    leave()
    leave()
    observers.notify("x")
    assert heard == ["x"]


def test_observers_may_subscribe_while_they_hear() -> None:
    """No lock is held while calling back, so an observer may change the subscriptions."""
    observers = Observers()
    late: list[str] = []

    def observer(event: str, numbers: Mapping[str, float]) -> None:
        observers.subscribe(lambda event, numbers: late.append(event))

    leave = observers.subscribe(observer)
    observers.notify("one")
    leave()
    observers.notify("two")
    assert late == ["two"]


def test_an_observer_that_raises_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    """Telling never breaks the work: the failure is logged, the others still hear."""
    observers = Observers()
    heard: list[str] = []

    def broken(event: str, numbers: Mapping[str, float]) -> None:
        raise RuntimeError("observer bug")

    observers.subscribe(broken)
    observers.subscribe(lambda event, numbers: heard.append(event))
    with caplog.at_level(logging.ERROR, logger="lazystore"):
        observers.notify("chunk")
    assert heard == ["chunk"]
    assert "an observer failed at 'chunk'" in caplog.text
    assert "observer bug" in caplog.text


def test_the_process_has_its_observers() -> None:
    """`subscribe` and `notify` of the module are one registry."""
    heard: list[str] = []
    leave = telemetry.subscribe(lambda event, numbers: heard.append(event))
    telemetry.notify("hello")
    leave()
    telemetry.notify("again")
    assert heard == ["hello"]


def test_the_log_is_written_while_asked_for() -> None:
    """`log_to` writes with thread and level, and leaves the logger as it found it."""
    stream, level = io.StringIO(), logger.level
    stop = log_to(stream)
    logger.debug("read %d bytes", 12)
    stop()
    logger.debug("not heard")
    assert "MainThread DEBUG read 12 bytes" in stream.getvalue()
    assert "not heard" not in stream.getvalue()
    assert logger.level == level
