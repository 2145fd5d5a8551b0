"""One load a key, however many threads ask for it, with no lock held while it loads."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any


class _Flight[R]:
    """A load under way; `landed` is held by the thread that does it."""

    __slots__ = ("error", "landed", "result")

    def __init__(self) -> None:
        self.landed = threading.Lock()
        self.landed.acquire()
        self.result: R | None = None
        self.error: BaseException | None = None


class SingleFlight[K, R]:
    """Runs one load a key at a time and hands its result to everyone who asked meanwhile.

    Attributes
    ----------
    lock
        Guards the bookkeeping, `find` and `keep`. Never held while something loads.

    Notes
    -----
    A load that fails is forgotten: those who waited get its error, the next one tries again. When the
    loading thread was interrupted (Ctrl-C), the waiters load for themselves. Usable after a fork: the
    child starts with a fresh lock and no loads under way.
    """

    __slots__ = ("__weakref__", "_flights", "lock")

    def __init__(self) -> None:
        self.renew()
        _ALIVE.add(self)

    def renew(self) -> None:
        """Forget all loads under way. For the child of a fork, where no one finishes them."""
        self.lock = threading.Lock()
        self._flights: dict[K, _Flight[R]] = {}

    def get(
        self,
        key: K,
        find: Callable[[K], R | None],
        load: Callable[[K], R],
        keep: Callable[[K, R], None],
    ) -> R:
        """The value that `find` knows, else the one that `load` makes, given to `keep`.

        The callables come with each call, because held here they would tie their owner into a
        reference cycle, and a dropped renderer's frames would stay until the collector runs.
        """
        while True:
            with self.lock:
                found = find(key)
                if found is not None:
                    return found
                flight = self._flights.get(key)
                if flight is None:
                    own = self._flights[key] = _Flight()
                    break
            with flight.landed:
                pass
            if flight.result is not None:
                return flight.result
            if isinstance(flight.error, Exception):
                raise flight.error
        try:
            result = own.result = load(key)
        except BaseException as error:
            own.error = error
            with self.lock:
                self._flights.pop(key, None)
            raise
        else:
            # Kept before the flight is forgotten: whoever looks in between finds one or the other.
            with self.lock:
                keep(key, result)
                self._flights.pop(key, None)
            return result
        finally:
            own.landed.release()


_ALIVE: weakref.WeakSet[SingleFlight[Any, Any]] = weakref.WeakSet()


def _renew_all() -> None:
    for flights in list(_ALIVE):
        flights.renew()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_renew_all)
