"""What a run and the threads that work for it tell each other on the way: to stop, and how far they are."""

from __future__ import annotations

import threading

from lazystore.errors import LazystoreError


class Watch:
    """Shared by a run and those that are long over one task."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._ahead = 0

    def stop(self) -> None:
        """Have everybody end as soon as it can; what is not durable is lost."""
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        """Whether to end."""
        return self._stopping.is_set()

    def check(self) -> None:
        """Asked every now and then by whoever takes long.

        Raises
        ------
        LazystoreError
            If the run is stopping, for another reason: nobody gets to see this one.
        """
        if self.stopping:
            raise LazystoreError("the conversion was stopped; run the same command again to resume")

    @property
    def ahead(self) -> int:
        """Records that are done of tasks that are not finished."""
        return self._ahead

    def add(self, n_records: int) -> None:
        """More of them."""
        with self._lock:
            self._ahead += n_records

    def forget(self) -> None:
        """None: the task is done, and counts as such, or begins again."""
        with self._lock:
            self._ahead = 0
