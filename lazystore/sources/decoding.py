"""Frames decoded one by one on a few threads, where one that cannot be decoded is not the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from numpy.typing import NDArray

from lazystore.errors import SourceError

# Decoders release the interpreter; beyond this many threads a disk is slower, not faster.
MAX_THREADS = 8
MAX_LISTED_FAILURES = 5


class FrameDecoder:
    """Runs `decode(frame_index)` for many frames at once and keeps what failed.

    Parameters
    ----------
    decode
        Gives one frame; whatever it raises marks the frame as lost: image libraries raise anything
        from OSError to SyntaxError on damaged files. Not so a lack of memory or of a package, and an
        error of the system (an OSError with a number): a disk that went away is no lost frame.
    thread_name
        Prefix of the threads' names.
    """

    def __init__(self, decode: Callable[[int], NDArray[Any]], thread_name: str) -> None:
        self._decode = decode
        self._thread_name = thread_name
        self._pool: ThreadPoolExecutor | None = None
        self._failures: dict[int, str] = {}

    @property
    def failures(self) -> dict[int, str]:
        """Frame index -> why it was lost, as far as frames were read."""
        return self._failures

    def decode_into(self, target: NDArray[Any], frame_indices: Iterable[int]) -> list[int]:
        """Fill ``target[i]`` with the i-th of the frames; those that are lost become 0.

        Returns
        -------
        list of int
            The positions in `target` that were lost, ascending.

        Raises
        ------
        SourceError
            If the system cannot read a file that was there.
        """

        def work(pair: tuple[int, int]) -> int | None:
            position, frame_index = pair
            reason = self._failures.get(frame_index)
            if reason is None:
                try:
                    target[position] = self._decode(frame_index)
                    return None
                except (MemoryError, ImportError):
                    raise
                except Exception as error:
                    if isinstance(error, OSError) and error.errno is not None:
                        raise SourceError(
                            f"frame {frame_index} cannot be read: {error}; bring the file or the disk back"
                        ) from error
                    self._failures[frame_index] = f"{type(error).__name__}: {error}".splitlines()[0]
            target[position] = 0
            return position

        pairs = list(enumerate(frame_indices))
        if len(pairs) == 1:
            lost = [work(pairs[0])]
        else:
            lost = list(self._threads().map(work, pairs))
        return [position for position in lost if position is not None]

    def problems(self, what: str, name_of: Callable[[int], str]) -> tuple[str, ...]:
        """One line about the frames lost so far, none if there are none."""
        if not self._failures:
            return ()
        listed = sorted(self._failures)[:MAX_LISTED_FAILURES]
        named = "; ".join(f"{name_of(index)} ({self._failures[index]})" for index in listed)
        more = f"; and {len(self._failures) - len(listed)} more" if len(self._failures) > len(listed) else ""
        return (f"{len(self._failures)} {what} cannot be read and are marked as missing: {named}{more}",)

    def close(self) -> None:
        """End the threads; a later call starts new ones."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1), self._thread_name)
        return self._pool
