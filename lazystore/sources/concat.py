"""A recording split over files as one source, with the times and the gaps of its files kept."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.errors import SourceError, UsageError
from lazystore.protocols import Block, SideArray, Source, SourceInfo, Ticks
from lazystore.schema import JSON

# Files of a joined recording that are kept open. Reads go from one to the next, and a chunk seldom meets
# more than a few; systems allow some hundreds to a process, and recordings come in thousands of files.
MAX_OPEN = 8


@dataclass(frozen=True, slots=True)
class JoinedTicks:
    """Ticks of several recordings in a row; `shifts` are the ticks added to each one's own."""

    ticks: Ticks
    shifts: tuple[int, ...]


def join_ticks(parts: Sequence[Ticks], lengths: Sequence[int]) -> JoinedTicks:
    """Ticks of recordings that follow each other.

    A recording that starts after the last record of the one before keeps its times: the gap is
    real. One that starts at or before it counts from a zero of its own, and goes on one step later.

    Parameters
    ----------
    parts, lengths
        Ticks and number of records of each; at least one.

    Returns
    -------
    JoinedTicks
        Regular if all parts are and fit together without a gap, else one value a record.

    >>> join_ticks([Ticks(Fraction(1, 30)), Ticks(Fraction(1, 30))], [2, 3]).ticks.values is None
    True
    """
    base = _common_base([part.time_base for part in parts])
    arrays, shifts = [], []
    last: int | None = None
    step = 1
    for part, length in zip(parts, lengths, strict=True):
        own = _ticks_in_base(part, length, base)
        shift = 0
        if last is not None and own[0] <= last:
            shift = last + step - int(own[0])
        arrays.append(own + shift)
        shifts.append(shift)
        last, step = int(own.max()) + shift, _last_step(own, part, base)
    names = {part.name for part in parts}
    name = names.pop() if len(names) == 1 else "tick"
    known = all(part.known for part in parts)
    values = np.concatenate(arrays)
    if all(part.values is None for part in parts):
        steps = np.diff(values)
        if steps.size == 0 or bool((steps == steps[0]).all()):
            regular = int(steps[0]) if steps.size else 1
            return JoinedTicks(Ticks(base, None, int(values[0]), regular, name, known), tuple(shifts))
    return JoinedTicks(Ticks(base, values, name=name, known=known), tuple(shifts))


def _common_base(bases: Sequence[Fraction]) -> Fraction:
    """The coarsest tick of which every part's tick is a whole number."""
    return Fraction(
        math.gcd(
            *(
                base.numerator * (math.lcm(*(b.denominator for b in bases)) // base.denominator)
                for base in bases
            )
        ),
        math.lcm(*(base.denominator for base in bases)),
    )


def _ticks_in_base(part: Ticks, length: int, base: Fraction) -> NDArray[np.int64]:
    scale = int(part.time_base / base)
    if part.values is not None:
        return part.values * np.int64(scale)
    return (part.start + part.step * np.arange(length, dtype=np.int64)) * np.int64(scale)


def _last_step(own: NDArray[np.int64], part: Ticks, base: Fraction) -> int:
    """How long the last record lasts: as long as the one before it, or as the recording says of one alone."""
    if part.values is None or len(own) == 1:
        return int(part.step * (part.time_base / base))
    return max(1, int(own[-1] - own[-2]))


class ConcatSource:
    """Several recordings of one kind, one after another along the record axis.

    Parameters
    ----------
    sources
        At least one, in the order wanted; see `naming.natural_sorted` for files. Those that were read
        last stay open, at most `MAX_OPEN`; the others are closed until they are read again.

    Raises
    ------
    UsageError
        If there is none.
    SourceError
        If one of them differs in kind, columns, frame shape, dtype, or in its side arrays.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        if not sources:
            raise UsageError("nothing to join: the list of recordings is empty")
        infos = [source.info for source in sources]
        for info in infos[1:]:
            _check_alike(infos[0], info)
        lengths = [info.length for info in infos]
        self._sources = tuple(sources)
        # Numbers of those that may hold files open, the one that was read last at the end.
        self._open: dict[int, None] = {}
        self._starts = [0, *accumulate(lengths)]
        self._info = self._describe(infos, lengths)

    @property
    def info(self) -> SourceInfo:
        """What they are together."""
        return self._info

    def read(self, start: int, stop: int) -> Block:
        """Records [start, stop), from as many of them as it takes."""
        pieces: list[Block] = []
        missing: list[int] = []
        reasons: dict[int, str] = {}
        doubtful: list[int] = []
        number = bisect_right(self._starts, start) - 1
        position = start
        while position < stop:
            first, last = self._starts[number], self._starts[number + 1]
            piece = self._read_part(number, position - first, min(stop, last) - first)
            pieces.append(piece)
            missing += [record + first for record in piece.missing]
            reasons |= {record + first: reason for record, reason in piece.reasons.items()}
            # Packets of several files have no common number.
            doubtful += [record + first for record in piece.doubtful]
            position = min(stop, last)
            number += 1
        if len(pieces) == 1:
            return Block(start, pieces[0].columns, tuple(missing), reasons, tuple(doubtful))
        names = [column.name for column in self._info.columns]
        columns = {name: np.concatenate([piece.columns[name] for piece in pieces]) for name in names}
        return Block(start, columns, tuple(missing), reasons, tuple(doubtful))

    def close(self) -> None:
        """Release the files of all; a later read opens them again."""
        self._open.clear()
        for source in self._sources:
            source.close()

    def _read_part(self, number: int, start: int, stop: int) -> Block:
        """Records of one of the recordings, after closing the one that was read longest ago."""
        self._open.pop(number, None)
        while len(self._open) >= MAX_OPEN:
            oldest = next(iter(self._open))
            del self._open[oldest]
            self._sources[oldest].close()
        self._open[number] = None
        return self._sources[number].read(start, stop)

    def _describe(self, infos: Sequence[SourceInfo], lengths: Sequence[int]) -> SourceInfo:
        first = infos[0]
        problems = [
            f"{info.identity[0].name}: {problem}" if len(infos) > 1 else problem
            for info in infos
            for problem in info.problems
        ]
        ticks, shifts = None, tuple(0 for _ in infos)
        if all(info.ticks is not None for info in infos):
            joined = join_ticks([info.ticks for info in infos if info.ticks is not None], lengths)
            ticks, shifts = joined.ticks, joined.shifts
            restarted = sum(1 for shift in shifts if shift)
            if restarted and ticks.known:
                problems.append(
                    f"{restarted} of {len(infos)} files count their time from a start of their own; "
                    "each was set to go on where the one before ends"
                )
        elif first.kind == "events":
            problems += self._order_problems(infos)
        parts: list[JSON] = [
            {
                "name": info.identity[0].name,
                "start": start,
                "stop": start + length,
                "shift_ticks": shift,
            }
            for info, start, length, shift in zip(infos, self._starts[:-1], lengths, shifts, strict=True)
        ]
        return replace(
            first,
            columns=tuple(replace(c, shape=(sum(lengths), *c.shape[1:])) for c in first.columns),
            identity=tuple(identity for info in infos for identity in info.identity),
            ticks=ticks,
            side=_join_sides(infos),
            attributes={**first.attributes, "concat": parts},
            problems=tuple(problems),
        )

    def _order_problems(self, infos: Sequence[SourceInfo]) -> list[str]:
        """Events keep their own times; files that step back are told, not moved."""
        problems = []
        last_t: int | None = None
        for number, info in enumerate(infos):
            first_t = int(self._read_part(number, 0, 1).columns["t"][0])
            if last_t is not None and first_t < last_t:
                problems.append(
                    f"{info.identity[0].name} begins at {first_t} µs, before the end of the file in front "
                    f"of it at {last_t} µs; times are kept as they are"
                )
            last_t = int(self._read_part(number, info.length - 1, info.length).columns["t"][0])
        return problems


def _check_alike(first: SourceInfo, other: SourceInfo) -> None:
    names = f"{other.identity[0].name!r} cannot follow {first.identity[0].name!r}"
    if other.kind != first.kind:
        raise SourceError(
            f"{names}: it is of kind {other.kind!r}, not {first.kind!r}; join recordings of one kind"
        )
    if [c.name for c in other.columns] != [c.name for c in first.columns]:
        raise SourceError(
            f"{names}: it has the columns {[c.name for c in other.columns]}, "
            f"not {[c.name for c in first.columns]}; join recordings of one format"
        )
    for ours, theirs in zip(first.columns, other.columns, strict=True):
        if (theirs.shape[1:], theirs.dtype, theirs.dims) != (ours.shape[1:], ours.dtype, ours.dims):
            raise SourceError(
                f"{names}: its {theirs.name!r} has records of {theirs.shape[1:]} {theirs.dtype}, "
                f"not {ours.shape[1:]} {ours.dtype}; expected equal records"
            )
    if (other.ticks is None) != (first.ticks is None):
        raise SourceError(f"{names}: only one of them has times; join recordings of one format")
    for key in ("sensor", "geometry", "skeleton"):
        if other.item_attributes.get(key) != first.item_attributes.get(key):
            raise SourceError(
                f"{names}: its {key} is {other.item_attributes.get(key)!r}, "
                f"not {first.item_attributes.get(key)!r}; expected the same"
            )


def _join_sides(infos: Sequence[SourceInfo]) -> tuple[SideArray, ...]:
    """Side arrays that run along records or triggers are joined; all others must be equal."""
    growing = (infos[0].columns[0].dims[0], "trigger")
    joined: dict[str, SideArray] = {}
    for info in infos:
        for side in info.side:
            known = joined.get(side.path)
            if known is None:
                joined[side.path] = side
            elif side.dims[:1] and side.dims[0] in growing:
                joined[side.path] = replace(known, values=np.concatenate([known.values, side.values]))
            elif not _equal(known.values, side.values):
                raise SourceError(
                    f"{info.identity[0].name!r} cannot follow {infos[0].identity[0].name!r}: "
                    f"its {side.path!r} differs; expected the same"
                )
    for path, side in joined.items():
        if side.dims[:1] == growing[:1] and len(side.values) != sum(info.length for info in infos):
            raise SourceError(
                f"only some of the files have {path!r}, which every record needs; expected all or none"
            )
    return tuple(joined.values())


def _equal(first: NDArray[Any], second: NDArray[Any]) -> bool:
    return first.shape == second.shape and np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
