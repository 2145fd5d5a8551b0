"""What happened, counted and told: counters, observers, and the one logger.

Nothing here costs more than a lock; nobody is called while a lock is held.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from typing import TextIO

logger = logging.getLogger("lazystore")
logger.addHandler(logging.NullHandler())  # a library stays silent unless its user asks


class Counters:
    """Named sums that any thread may add to.

    Picklable and fork-safe; a copy made by pickling counts on by itself.

    >>> counters = Counters()
    >>> counters.add("hit")
    >>> counters.add("bytes", 512)
    >>> counters.snapshot()
    {'bytes': 512, 'hit': 1}
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[str, int | float] = {}
        _living.add(self)

    def add(self, name: str, amount: int | float = 1) -> None:
        """Add to one sum; a new name starts at 0."""
        with self._lock:
            self._sums[name] = self._sums.get(name, 0) + amount

    def snapshot(self) -> dict[str, int | float]:
        """All sums of one moment, by name."""
        with self._lock:
            return dict(sorted(self._sums.items()))

    def reset(self) -> dict[str, int | float]:
        """All sums so far, which start again at 0: no count falls between two resets."""
        with self._lock:
            sums, self._sums = self._sums, {}
        return dict(sorted(sums.items()))

    def __getstate__(self) -> dict[str, int | float]:
        return self.snapshot()

    def __setstate__(self, sums: dict[str, int | float]) -> None:
        self.__init__()  # type: ignore[misc]  # a lock cannot be pickled, so a fresh one is made
        self._sums.update(sums)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()


class Observers:
    """Callbacks that hear of events as they happen, in the thread where they happen.

    An observer that raises is logged and stays subscribed: telling must never break the work.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Replaced as a whole at each change, so that `notify` reads it without the lock.
        self._observers: tuple[Callable[[str, Mapping[str, float]], None], ...] = ()

    def subscribe(self, observer: Callable[[str, Mapping[str, float]], None]) -> Callable[[], None]:
        """Call `observer` at every event from now on; the function returned ends that, idempotently."""
        with self._lock:
            self._observers = (*self._observers, observer)
        done = threading.Event()

        def unsubscribe() -> None:
            with self._lock:
                if not done.is_set():
                    done.set()
                    remaining = list(self._observers)
                    remaining.remove(observer)
                    self._observers = tuple(remaining)

        return unsubscribe

    def notify(self, event: str, numbers: Mapping[str, float] | None = None) -> None:
        """Tell every observer, in the order of their subscription."""
        for observer in self._observers:
            try:
                observer(event, numbers or {})
            except Exception:
                logger.exception("an observer failed at %r and was passed over", event)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()


_living: weakref.WeakSet[Counters] = weakref.WeakSet()
observers = Observers()
"""The process's own observers: what the store, the cache and conversions tell of themselves."""
subscribe = observers.subscribe
notify = observers.notify


def log_to(stream: TextIO, level: int = logging.DEBUG) -> Callable[[], None]:
    """Write lazystore's log to a stream (``--debug``); the function returned ends that."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(threadName)s %(levelname)s %(message)s"))
    level_before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)

    def stop() -> None:
        logger.removeHandler(handler)
        logger.setLevel(level_before)

    return stop


def _renew_locks() -> None:
    """A child of fork inherits locks as they were, held ones by threads that it does not have."""
    observers._renew_lock()
    for counters in list(_living):
        counters._renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
