"""What every source promises, as a suite that checks it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lazystore.protocols import KINDS, Block, Column, Source, SourceInfo
from lazystore.schema import canonical_json
from lazystore.testing.contract import ContractError, require, same_values


def check_source(
    make_source: Callable[[], Source],
    expected: Mapping[str, ArrayLike] | None = None,
    *,
    max_records: int = 2000,
    seed: int = 0,
) -> None:
    """Check every promise of `lazystore.protocols.Source`.

    Parameters
    ----------
    make_source
        Opens the same recording anew at each call; every source it gives is closed.
    expected
        What the recording holds, by column; all of its records, shape (record, ...). None checks
        that the source agrees with itself only.
    max_records
        Longer recordings are read in windows at their beginning, middle and end.
    seed
        Of the order in which windows are read.

    Raises
    ------
    ContractError
        At the first promise that is not kept.
    """
    with contextlib.closing(make_source()) as source:
        info = source.info
        check_source_info(info)
        require(source.info == info or _same_info(source.info, info), "info changes between two looks")
        windows = _windows(info.length, max_records)
        blocks = [_checked_block(source, start, stop) for start, stop in windows]
        for (start, stop), block in zip(windows, blocks, strict=True):
            if expected is not None:
                _check_expected(block, start, stop, expected)
        shuffled = list(zip(windows, blocks, strict=True))
        random.Random(seed).shuffle(shuffled)
        for (start, stop), block in shuffled:
            again = _checked_block(source, start, stop)
            _check_same_block(again, block, f"records [{start}, {stop}) read again, in another order")
            _check_pieces(source, start, stop, block)
        _check_results_are_the_callers(source, windows[0], blocks[0])
        require(_same_info(source.info, info), "info changes while records are read")
        source.close()
        source.close()  # idempotent
        # Of many files joined, only the last few stay open.
        again = _checked_block(source, *windows[0])
        _check_same_block(again, blocks[0], f"records {list(windows[0])} read again after a close")
    with contextlib.closing(make_source()) as first, contextlib.closing(make_source()) as second:
        require(_same_info(first.info, info), "a source that is opened again has another info")
        # Two at once, read in turns: no state may be shared between them.
        for (start, stop), block in zip(windows, blocks, strict=True):
            for source, who in ((first, "first"), (second, "second")):
                again = _checked_block(source, start, stop)
                _check_same_block(again, block, f"records [{start}, {stop}) of the {who} of two open sources")


def check_source_info(info: SourceInfo) -> None:
    """Check that a `SourceInfo` is whole: everything that a conversion relies on before it reads.

    Raises
    ------
    ContractError
        At the first promise that is not kept.
    """
    require(info.kind in KINDS, f"kind {info.kind!r} is not one of {', '.join(KINDS)}")
    require(bool(info.format), "format is empty")
    require(len(info.columns) > 0, "there are no columns")
    names = [column.name for column in info.columns] + [side.path for side in info.side]
    require(len(names) == len(set(names)), f"two arrays have one name: {names}")
    sizes: dict[str, int] = {}
    for column in info.columns:
        _check_column(column, info.columns[0])
        _check_dims(column.name, column.dims, column.shape, sizes)
        _check_json(column.attributes, f"attributes of column {column.name!r}")
    for side in info.side:
        _check_dims(side.path, side.dims, side.values.shape, sizes if "/" not in side.path else {})
        _check_json(side.attributes, f"attributes of {side.path!r}")
    _check_json(info.attributes, "attributes")
    _check_json(info.item_attributes, "item_attributes")
    _check_ticks(info)
    require(len(info.identity) > 0, "identity names no file; a changed source could not be noticed")
    for identity in info.identity:
        bare = not any(mark in identity.name for mark in "/\\")
        require(bare, f"identity {identity.name!r} holds a folder; no path of a machine lands in a store")
        require(identity.size_bytes >= 0, f"identity of {identity.name!r} has {identity.size_bytes} bytes")
    for problem in info.problems:
        require("\n" not in problem, f"problem {problem!r} is more than one line")


def _check_column(column: Column, first: Column) -> None:
    require(len(column.shape) > 0, f"column {column.name!r} has no record axis")
    same_axis = column.shape[0] == first.shape[0] and column.dims[0] == first.dims[0]
    require(
        same_axis,
        f"column {column.name!r} runs over {column.dims[0]!r} of {column.shape[0]}, "
        f"{first.name!r} over {first.dims[0]!r} of {first.shape[0]}: records share one axis",
    )
    require(column.dtype.isnative, f"column {column.name!r} is {column.dtype.str}, not in native byte order")
    require(column.dtype.kind in "biufcU", f"column {column.name!r} is {column.dtype}: no number, no text")


def _check_dims(name: str, dims: Sequence[str], shape: Sequence[int], sizes: dict[str, int]) -> None:
    require(len(dims) == len(shape), f"array {name!r} has dims {tuple(dims)} but shape {tuple(shape)}")
    require(len(set(dims)) == len(dims), f"array {name!r} has a dimension twice: {tuple(dims)}")
    for dim, size in zip(dims, shape, strict=True):
        known = sizes.setdefault(dim, size)
        require(known == size, f"array {name!r} has {size} along {dim!r}, others have {known}")


def _check_json(document: Any, what: str) -> None:
    try:
        canonical_json(dict(document))
    except (TypeError, ValueError) as error:
        raise ContractError(f"{what} cannot be kept as JSON: {error}") from error


def _check_ticks(info: SourceInfo) -> None:
    ticks = info.ticks
    if ticks is None:
        return
    require(ticks.time_base > 0, f"ticks have time base {ticks.time_base}; expected seconds above 0")
    if ticks.values is None:
        require(ticks.step > 0, f"regular ticks have step {ticks.step}; expected 1 or more")
        return
    require(ticks.values.dtype == np.int64, f"ticks are {ticks.values.dtype}; expected int64")
    require(
        ticks.values.shape == (info.length,),
        f"ticks have shape {ticks.values.shape} for {info.length} records",
    )


def _checked_block(source: Source, start: int, stop: int) -> Block:
    block = source.read(start, stop)
    where = f"read({start}, {stop})"
    require(block.start == start, f"{where} says that it starts at {block.start}")
    names, wanted = set(block.columns), {column.name for column in source.info.columns}
    require(names == wanted, f"{where} gives columns {sorted(names)} instead of {sorted(wanted)}")
    for column in source.info.columns:
        values = block.columns[column.name]
        shape = (stop - start, *column.shape[1:])
        require(values.shape == shape, f"{where} gives {column.name!r} of shape {values.shape}, not {shape}")
        require(
            values.dtype == column.dtype,
            f"{where} gives {column.name!r} as {values.dtype}, its info says {column.dtype}",
        )
    missing = list(block.missing)
    require(missing == sorted(set(missing)), f"{where} lists missing records out of order: {missing}")
    inside = all(start <= record < stop for record in missing)
    require(inside, f"{where} lists missing records outside itself: {missing}")
    for record, reason in block.reasons.items():
        require(record in missing, f"{where} says why record {record} is missing, but does not list it")
        require("\n" not in reason, f"{where} gives a reason of more than one line: {reason!r}")
    return block


def _check_same_block(block: Block, before: Block, what: str) -> None:
    for name, values in before.columns.items():
        require(same_values(block.columns[name], values), f"{what}: column {name!r} differs")
    require(tuple(block.missing) == tuple(before.missing), f"{what}: other records are missing")


def _check_expected(block: Block, start: int, stop: int, expected: Mapping[str, ArrayLike]) -> None:
    for name, values in expected.items():
        require(name in block.columns, f"there is no column {name!r}")
        wanted = np.asarray(values)[start:stop]
        got = block.columns[name]
        require(
            same_values(got, wanted),
            f"records [{start}, {stop}) of {name!r} are not the expected ones: {got.dtype} {got.shape}, "
            f"expected {wanted.dtype} {wanted.shape}",
        )


def _check_pieces(source: Source, start: int, stop: int, whole: Block) -> None:
    """A window equals its parts, whatever their sizes, also when they are read backwards."""
    middle = (start + stop) // 2
    parts = [(start, start + 1), (start + 1, middle), (middle, stop - 1), (stop - 1, stop)]
    wanted = sorted({(low, high) for low, high in parts if start <= low < high <= stop})
    for low, high in reversed(wanted):
        part = _checked_block(source, low, high)
        for name, values in whole.columns.items():
            same = same_values(part.columns[name], values[low - start : high - start])
            require(
                same, f"read({low}, {high}) differs from the same part of read({start}, {stop}) in {name!r}"
            )
        missing = tuple(record for record in whole.missing if low <= record < high)
        require(
            tuple(part.missing) == missing,
            f"read({low}, {high}) misses {part.missing}, but read({start}, {stop}) misses {missing} there",
        )


def _check_results_are_the_callers(source: Source, window: tuple[int, int], before: Block) -> None:
    """What was read stays as it is when later reads reuse buffers or the caller writes into it."""
    start, stop = window
    kept = {name: values.copy() for name, values in before.columns.items()}
    block = source.read(start, stop)
    for values in block.columns.values():
        if values.flags.writeable:
            values[...] = np.zeros((), values.dtype)
    again = source.read(start, stop)
    for name, values in kept.items():
        require(same_values(again.columns[name], values), f"writing into what was read changes {name!r}")
        require(same_values(before.columns[name], values), f"a later read changes {name!r} of an earlier one")


def _windows(length: int, max_records: int) -> list[tuple[int, int]]:
    """Ascending windows: the whole recording, or parts of it at both ends and in the middle."""
    require(length > 0, "the recording has no records; a source refuses an empty one when it is opened")
    if length <= max_records:
        return [(0, length)]
    part = max(1, max_records // 3)
    starts = sorted({0, (length - part) // 2, length - part})
    return [(start, start + part) for start in starts]


def _same_info(one: SourceInfo, other: SourceInfo) -> bool:
    """Equality that looks into arrays, which `==` of dataclasses cannot."""
    if one is other:
        return True
    plain = ("kind", "format", "columns", "identity", "attributes", "item_attributes", "problems", "suffix")
    if any(getattr(one, name) != getattr(other, name) for name in plain):
        return False
    ours, theirs = one.ticks, other.ticks
    if (ours is None) != (theirs is None):
        return False
    if ours is not None and theirs is not None:
        names = ("time_base", "start", "step", "name", "known")
        if any(getattr(ours, name) != getattr(theirs, name) for name in names):
            return False
        if not np.array_equal(_or_empty(ours.values), _or_empty(theirs.values)):
            return False
    if [side.path for side in one.side] != [side.path for side in other.side]:
        return False
    return all(same_values(a.values, b.values) for a, b in zip(one.side, other.side, strict=True))


def _or_empty(values: NDArray[np.int64] | None) -> NDArray[np.int64]:
    return np.empty(0, np.int64) if values is None else values
