"""A recording whose times somebody knows better than the file does."""

from __future__ import annotations

from dataclasses import replace

from lazystore.protocols import Block, Source, SourceInfo, Ticks


class RetimedSource:
    """The same records with other ticks.

    Parameters
    ----------
    source
        Any source with ticks.
    ticks
        When its records were taken.
    """

    def __init__(self, source: Source, ticks: Ticks) -> None:
        self._source = source
        self._info = replace(source.info, ticks=ticks)

    @property
    def info(self) -> SourceInfo:
        return self._info

    def read(self, start: int, stop: int) -> Block:
        return self._source.read(start, stop)

    def close(self) -> None:
        self._source.close()
