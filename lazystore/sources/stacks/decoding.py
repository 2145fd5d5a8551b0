"""Frames decoded one by one on a few threads, where one that cannot be decoded is not the end."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from numpy.typing import NDArray

from lazystore.errors import SourceError

# Decoders release the interpreter; beyond this many threads a disk is slower, not faster.
MAX_THREADS = 8
MAX_LISTED_FAILURES = 5


def reason_of(error: Exception) -> str:
    """One line that says what a decoder did not like."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def describe_lost(what: str, lost: Mapping[str, str]) -> str:
    """One line about lost frames: how many, and the first few with their reasons.

    >>> describe_lost("of 9 images", {"a.png": "cut"})
    '1 of 9 images cannot be read and are marked as missing: a.png (cut)'
    """
    named = "; ".join(f"{name} ({reason})" for name, reason in list(lost.items())[:MAX_LISTED_FAILURES])
    more = f"; and {len(lost) - MAX_LISTED_FAILURES} more" if len(lost) > MAX_LISTED_FAILURES else ""
    return f"{len(lost)} {what} cannot be read and are marked as missing: {named}{more}"


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
        """Frame index -> why it is lost, as far as is known; its owner may add to it."""
        return self._failures

    def decode_into(self, target: NDArray[Any], frame_indices: Iterable[int]) -> dict[int, str]:
        """Fill ``target[i]`` with the i-th of the frames; those that are lost become 0.

        Returns
        -------
        dict
            Position in `target` -> why it was lost, ascending.

        Raises
        ------
        SourceError
            If the system cannot read a file that was there.
        """

        def work(pair: tuple[int, int]) -> str | None:
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
                    reason = self._failures[frame_index] = reason_of(error)
            target[position] = 0
            return reason

        pairs = list(enumerate(frame_indices))
        reasons = [work(pairs[0])] if len(pairs) == 1 else list(self._threads().map(work, pairs))
        return {position: reason for position, reason in enumerate(reasons) if reason is not None}

    def close(self) -> None:
        """End the threads; a later call starts new ones."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1), self._thread_name)
        return self._pool
