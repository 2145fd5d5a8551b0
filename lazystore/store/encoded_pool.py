"""A few decoders of one encoded video, each lent to the reader that can use it cheapest."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lazystore.store.encoded_session import DecodingSession

# Decoders of a parent process; see `session_for`.
_never_freed: list[Any] = []


class DecoderPool:
    """Lends decoders, one thread at a time each.

    A frame near the last one costs a packet, any other one a seek and half a group. So a thread
    waits for a decoder that works just before its frame, rather than to begin beside it, and of
    several that wait for the same decoder the one with the nearest frame goes first.

    Parameters
    ----------
    make
        Makes another decoder.
    max_decoders
        At most so many; they are made when needed.
    """

    def __init__(self, make: Callable[[], DecodingSession], max_decoders: int) -> None:
        self._make = make
        self._max_decoders = max(1, max_decoders)
        self._decoded_before = 0
        self._renew()

    def _renew(self) -> None:
        self._owner = os.getpid()
        self._changed = threading.Condition()
        self._all: list[DecodingSession] = []
        self._idle: list[DecodingSession] = []
        self._waiting: list[int] = []  # frames that threads wait to decode

    @property
    def decoded_frames(self) -> int:
        """Frames that came out of all decoders so far, wanted or not."""
        total = self._decoded_before
        for session in self._all:
            total += session.decoded_frames
        return total

    @contextmanager
    def session_for(self, frame_index: int, seek_cost: int) -> Iterator[DecodingSession]:
        """A decoder for a frame, which costs `seek_cost` packets from its group's start."""
        if self._owner != os.getpid():
            # A fork copies decoders without their threads: using or freeing them would hang.
            _never_freed.append((self._all, self._idle))
            self._renew()
        with self._changed:
            self._waiting.append(frame_index)
            try:
                while (session := self._best_idle(frame_index, seek_cost)) is None:
                    self._changed.wait()
                self._idle.remove(session)
            finally:
                self._waiting.remove(frame_index)
        try:
            yield session
        except BaseException:
            session.forget()  # whatever state it is in, the next reader begins with a seek
            raise
        finally:
            with self._changed:
                if session in self._all:
                    self._idle.append(session)
                else:
                    session.close()  # the pool was closed meanwhile
                self._changed.notify_all()

    def close(self) -> None:
        """Release the decoders that are idle now, the others when they are given back."""
        if self._owner != os.getpid():
            return
        with self._changed:
            self._decoded_before = self.decoded_frames
            idle, self._idle, self._all = self._idle, [], []
            for session in idle:
                session.close()

    def _best_idle(self, frame_index: int, seek_cost: int) -> DecodingSession | None:
        if len(self._waiting) == 1:  # forward play: the decoder that stands there, without any weighing
            for session in self._idle:
                if session.comes_next(frame_index):
                    return session
        busy = [session for session in self._all if session not in self._idle]
        if any(session.cost_after(frame_index) < seek_cost for session in busy):
            return None  # it will be there soon
        is_full = len(self._all) >= self._max_decoders
        if self._idle:
            best = min(self._idle, key=lambda session: session.cost(frame_index))
            cost = best.cost(frame_index)
            if cost < seek_cost or is_full:
                is_next = all(best.cost(other) >= cost for other in self._waiting)
                return best if is_next else None
        if is_full:
            return None
        session = self._make()
        self._all.append(session)
        self._idle.append(session)
        return session
