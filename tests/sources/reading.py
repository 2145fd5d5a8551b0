"""What every source owes: random reads in any order equal the oracle, and its facts hold."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lazystore.protocols import Source
from lazystore.testing.sources import check_source_info


def check_reads(source: Source, expected: NDArray[Any], *, n_reads: int = 25, seed: int = 0) -> None:
    """Column `data` of a source equals `expected`, read whole, in order, and at random."""
    info = source.info
    check_source_info(info)
    column = info.columns[0]
    assert (column.name, column.shape, column.dtype) == ("data", expected.shape, expected.dtype)
    assert len(column.dims) == len(column.shape)
    assert column.dtype.isnative
    chooser = random.Random(seed)
    spans = [(0, info.length), (info.length - 1, info.length), (0, 1)]
    for _ in range(n_reads):
        start = chooser.randrange(info.length)
        spans.append((start, chooser.randrange(start, info.length) + 1))
    for start, stop in spans:
        block = source.read(start, stop)
        values = block.columns["data"]
        assert block.start == start
        assert values.dtype == expected.dtype
        assert values.flags.c_contiguous
        np.testing.assert_array_equal(values, expected[start:stop])
    source.close()
    source.close()
