"""Reading in two parts: what only one thread may do, and what any thread may do afterwards."""

from __future__ import annotations

from collections.abc import Callable

from lazystore.protocols import Block, Source, SplitSource


def begin_read(source: Source, start: int, stop: int) -> Callable[[], Block]:
    """The records [start, stop), of which the call that is returned gives the block, once.

    Whoever has begun may go on with the next records at once; the call may be made on any thread,
    and holds all that it needs.
    """
    if isinstance(source, SplitSource):
        return source.begin_read(start, stop)
    block = source.read(start, stop)
    return lambda: block
