"""What every lazy movie has in common: numpy's indexing over frames that are made one by one."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

EVERYTHING = slice(None)


class LazyFrames(ABC):
    """An array (time, ...) whose frames are made when they are asked for.

    Subclasses give `_get_frame`, and set `_n_frames`, `_frame_shape` and `_dtype` before use.

    Notes
    -----
    `shape`, `dtype`, `ndim` and `len()` are constants and make no frame. All arrays handed out are
    read-only: they may be the cached frame itself. Any number of threads may index at once.
    """

    # numpy then leaves `renderer + array` to us instead of making every frame to add it.
    __array_priority__ = 1000

    _n_frames: int
    _frame_shape: tuple[int, ...]
    _dtype: np.dtype[Any]

    @abstractmethod
    def _get_frame(self, idx: int) -> NDArray[Any]:
        """Frame `idx`, negative counted from the end; read-only.

        Raises
        ------
        IndexError
            If there is no such frame.
        """

    @property
    def shape(self) -> tuple[int, ...]:
        """(time, ...), constant."""
        return (self._n_frames, *self._frame_shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of every frame."""
        return self._dtype

    @property
    def ndim(self) -> int:
        """Number of dimensions, time included."""
        return 1 + len(self._frame_shape)

    def __len__(self) -> int:
        return self._n_frames

    def __getitem__(self, index: Any) -> NDArray[Any]:
        return self._select(index)

    def _frame_number(self, idx: Any) -> int:
        """`idx` as a frame number in [0, n_frames)."""
        n_frames = self._n_frames
        number = operator.index(idx)
        if number < 0:
            number += n_frames
        if not 0 <= number < n_frames:
            raise IndexError(f"Frame index {idx} out of range for {n_frames} frames")
        return number

    def _select(self, index: Any) -> NDArray[Any]:
        """Any index that numpy takes, frames first; only the frames named by it are made."""
        if not isinstance(index, tuple):
            if (
                not isinstance(index, slice | list | np.ndarray)
                and index is not None
                and index is not Ellipsis
            ):
                return self._get_frame(index)
            index = (index,)
        if index and type(index[0]) is slice:
            # What napari asks for at each step: one frame as a slice of length 1, everything else whole.
            start, stop, step = index[0].indices(self._n_frames)
            if stop - start == 1 and step == 1:
                single: NDArray[Any] = self[start][np.newaxis]
                return single if _is_whole(index[1:]) else _read_only(single[(EVERYTHING, *index[1:])])
        elif index and isinstance(index[0], int | np.integer):
            # As in neurospatial, the rest indexes the frame, also where numpy would move axes about.
            frame: NDArray[Any] = self[int(index[0])]
            return frame if _is_whole(index[1:]) else _read_only(frame[index[1:]])
        return self._read(self._completed(index))

    def _read(self, index: tuple[Any, ...]) -> NDArray[Any]:
        """The frames that `index` names, stacked, and the rest of `index` applied to the stack."""
        at = next(position for position, part in enumerate(index) if part is not None)
        frames, index_in_stack = self._stack(index[at])
        return _read_only(frames[(*index[:at], index_in_stack, *index[at + 1 :])])

    def _stack(self, which: Any) -> tuple[NDArray[Any], Any]:
        """The frames that one part of an index names, and the part that picks the same from the stack."""
        if isinstance(which, slice):
            numbers = list(range(*which.indices(self._n_frames)))
            return self._stacked(numbers), EVERYTHING
        if isinstance(which, list | np.ndarray):
            wanted = np.asarray(which)
            if wanted.size == 0:
                wanted = wanted.astype(np.intp)
            if wanted.dtype == bool:
                if wanted.shape != (self._n_frames,):
                    raise IndexError(
                        f"boolean index of shape {wanted.shape!r} does not fit {self._n_frames} frames"
                    )
                wanted = np.flatnonzero(wanted)
            numbers = [self._frame_number(number) for number in wanted.ravel()]
            return self._stacked(numbers), np.arange(len(numbers)).reshape(wanted.shape)
        return self._stacked([self._frame_number(which)]), 0

    def _stacked(self, numbers: list[int]) -> NDArray[Any]:
        stack = np.empty((len(numbers), *self._frame_shape), self._dtype)
        for place, number in zip(stack, numbers, strict=True):
            place[...] = self._get_frame(number)
        return stack

    def _completed(self, index: tuple[Any, ...]) -> tuple[Any, ...]:
        """The same index with its Ellipsis written out and at least one part for the frames."""
        n_given = sum(part is not None and part is not Ellipsis for part in index)
        # `in` would compare array parts element by element.
        ellipses = [position for position, part in enumerate(index) if part is Ellipsis]
        if len(ellipses) > 1 or n_given > self.ndim:
            raise IndexError(
                f"index {index!r} has too many parts: expected at most {self.ndim} and one Ellipsis"
            )
        if ellipses:
            at, fill = ellipses[0], (EVERYTHING,) * (self.ndim - n_given)
            return (*index[:at], *fill, *index[at + 1 :])
        return index if n_given else (*index, EVERYTHING)


def _is_whole(index: tuple[Any, ...]) -> bool:
    """Whether an index leaves everything as it is."""
    return all(type(part) is slice and part == EVERYTHING for part in index)


def _read_only(picked: NDArray[Any]) -> NDArray[Any]:
    if isinstance(picked, np.ndarray):  # and no scalar, which nobody can write to
        picked.setflags(write=False)
    return picked
